"""MTEB's own evaluation on exact search against its default: the same scores, reranking and ties included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import NgramEncoder, search
from tests.toy import retrieval_set, save_tiny_bert

mteb = pytest.importorskip("mteb")
datasets = pytest.importorskip("datasets")

from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.text.summarization import AbsTaskSummarization  # noqa: E402
from mteb.models.abs_encoder import AbsEncoder  # noqa: E402
from mteb.models.model_meta import ScoringFunction  # noqa: E402

from pyhbt.integrations.mteb import ExactSearchBackend, MtebEncoder, search_wrapper  # noqa: E402

TOY = retrieval_set(20)


class LookUp(AbsEncoder):  # type: ignore[misc]
    """Every text has a fixed vector.

    For dot of small integers, whose products are exact, so that ties are ties to float32 too; for cosine of real
    numbers, whose cosines differ by more than float32 rounds.
    """

    def __init__(self, similarity: ScoringFunction, dim: int = 3, dtype: Any = torch.float32) -> None:
        self.dim, self.dtype = dim, dtype
        self.mteb_model_meta = mteb.models.ModelMeta.create_empty(
            {"name": "test/look-up", "similarity_fn_name": similarity}
        )

    def encode(self, inputs: Iterable[dict[str, Any]], **options: Any) -> Any:
        rows = np.array([self.vector(text) for batch in inputs for text in batch["text"]])
        return torch.tensor(rows, dtype=self.dtype) if self.dtype else rows

    def vector(self, text: str) -> Any:
        rng = np.random.default_rng(list(text.encode()))
        if self.mteb_model_meta.similarity_fn_name is ScoringFunction.COSINE:
            return rng.normal(size=self.dim)
        return rng.integers(-2, 3, self.dim)


def task(*, rerank: bool = False, empty: bool = False) -> Any:
    """A real MTEB retrieval (or reranking) task over the toy set."""
    queries, corpus, qrels = TOY.query_ids, TOY.passage_ids, {q: dict(r) for q, r in TOY.qrels.items()}
    listed = {
        query: [
            corpus[place] for place in np.random.default_rng(row).permutation(len(corpus))[: 20 + row % 7]
        ]
        for row, query in enumerate(queries)
    }
    for query, names in listed.items():
        names.extend(name for name in qrels[query] if name not in names)
    if empty:
        listed[queries[3]] = []

    class Toy(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = mteb.TaskMetadata(
            name="PyhbtToyRetrieval",
            description="Small parallel texts.",
            dataset={"path": "none/none", "revision": "1"},
            type="Reranking" if rerank else "Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *args: Any, **options: Any) -> None:
            split = {
                "queries": datasets.Dataset.from_dict({"id": list(queries), "text": list(TOY.query_texts)}),
                "corpus": datasets.Dataset.from_dict({"id": list(corpus), "text": list(TOY.passage_texts)}),
                "relevant_docs": qrels,
                "top_ranked": listed if rerank else None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Toy()


def scores(model: Any, one: Any) -> dict[str, float]:
    """Every number that MTEB reports."""
    result = mteb.evaluate(model, one, cache=None, co2_tracker=False, show_progress_bar=False)
    (row,) = result.task_results[0].scores["test"]
    return {name: value for name, value in row.items() if isinstance(value, float)}


MODELS: dict[str, Callable[[], Any]] = {
    "ngram": lambda: MtebEncoder(NgramEncoder(dim=32, num_buckets=2048)),
    "dot, ties": lambda: LookUp(ScoringFunction.DOT_PRODUCT),
    "dot": lambda: LookUp(ScoringFunction.DOT_PRODUCT, dim=16, dtype=torch.bfloat16),
    "cosine": lambda: LookUp(ScoringFunction.COSINE, dim=16),
    "float64 arrays": lambda: LookUp(ScoringFunction.COSINE, dim=24, dtype=None),
}


@pytest.mark.parametrize("rerank", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_equal_to_the_default(name: str, rerank: bool) -> None:
    model = MODELS[name]()
    found, expected = scores(search_wrapper(model), task(rerank=rerank)), scores(model, task(rerank=rerank))
    assert len(found) > 40
    assert {"ndcg_at_10", "map_at_100", "recall_at_5", "mrr_at_10"} <= found.keys()
    assert 0 < expected["ndcg_at_10"] < 1
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.filterwarnings("ignore:The fill_missing parameter is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The `get_sentence_embedding_dimension` method has been:FutureWarning")
def test_a_sentence_transformer(tmp_path: Path) -> None:
    st = pytest.importorskip("sentence_transformers")
    model = mteb.models.SentenceTransformerEncoderWrapper(
        st.SentenceTransformer(str(save_tiny_bert(tmp_path / "bert")), device="cpu")
    )
    found, expected = scores(search_wrapper(model), task()), scores(model, task())
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_pyhbt_encoders_know_queries_from_passages() -> None:
    """As the encoder's own scores say, and as MTEB's protocol wants."""
    seen = []

    class Marked(NgramEncoder):
        def encode(self, texts: Sequence[str], kind: Any = "passage", **options: Any) -> torch.Tensor:
            seen.append((kind, len(texts)))
            return super().encode(texts, kind, **options)

    encoder = Marked(dim=16, num_buckets=512)
    model = MtebEncoder(encoder, name="owner/name")
    assert isinstance(model, mteb.EncoderProtocol)
    wrapped = search_wrapper(encoder)
    assert isinstance(wrapped, mteb.SearchProtocol)
    scores(wrapped, task())
    assert sorted(seen) == [("passage", len(TOY.passage_ids)), ("query", len(TOY.query_ids))]
    first, second = encoder.encode(["a", "bcd"]), encoder.encode(["abc", "b"])
    torch.testing.assert_close(model.similarity(3 * first, second.numpy()), first @ second.T)
    torch.testing.assert_close(model.similarity_pairwise(first, second), (first * second).sum(dim=1))
    assert model.mteb_model_meta.name == "owner/name"


@pytest.mark.parametrize("first", ["vector", "rows"])
@pytest.mark.parametrize("second", ["vector", "rows"])
@pytest.mark.parametrize(
    "kind", ["array", "float64 array", "tensor", "half", "float64", "list", "tuple of tensors"]
)
def test_similarity_is_theirs(kind: str, first: str, second: str) -> None:
    """As mteb and sentence-transformers have it, for vectors and matrices of every kind."""
    theirs = pytest.importorskip("sentence_transformers.util")
    rng = np.random.default_rng(3)
    values = {"vector": rng.normal(size=7), "rows": rng.normal(size=(4, 7))}
    make: dict[str, Callable[[Any], Any]] = {
        "array": lambda value: value.astype(np.float32),
        "float64 array": lambda value: value,
        "tensor": lambda value: torch.tensor(value, dtype=torch.float32),
        "half": lambda value: torch.tensor(value, dtype=torch.float16),
        "float64": torch.tensor,
        "list": lambda value: value.tolist(),
        "tuple of tensors": lambda value: tuple(torch.tensor(value)),
    }
    one, other = make[kind](values[first]), make[kind](values[second] * 3 + 0.5)
    model = MtebEncoder(NgramEncoder(dim=7, num_buckets=64))
    found = model.similarity(one, other), model.similarity_pairwise(one, other)
    listed = [list(value) if isinstance(value, tuple) else value for value in (one, other)]
    expected = theirs.cos_sim(*listed), theirs.pairwise_cos_sim(*listed)
    rows = [1 if name == "vector" else 4 for name in (first, second)]
    assert found[0].shape == tuple(rows)
    for ours, own in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), own.double(), rtol=0, atol=1e-6)
    if kind != "tuple of tensors":
        torch.testing.assert_close(found[0], mteb.similarity_functions.cos_sim(one, other))
        if first == second == "rows":
            torch.testing.assert_close(found[1], mteb.similarity_functions.pairwise_cos_sim(one, other))


def test_similarity_of_what_is_no_vector() -> None:
    model = MtebEncoder(NgramEncoder(dim=3, num_buckets=64))
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="embeddings2: found dim 2, expected 3"):
        model.similarity(rows, rows[:, :2])
    with pytest.raises(ValueError, match="embeddings1: found 3 dimensions, expected 2"):
        model.similarity(rows[None], rows)
    with pytest.raises(ValueError, match="embeddings1: found 0 dimensions"):
        model.similarity_pairwise(torch.tensor(1.0), rows)
    with pytest.raises(ValueError, match="embeddings2: found vectors of shapes"):
        model.similarity(rows, [[1.0, 2.0, 3.0], [1.0]])
    with pytest.raises(ValueError, match="embeddings2: found 2 rows, expected 3"):
        model.similarity_pairwise(rows, rows[:2])
    assert model.similarity(rows[:0], rows).shape == (0, 3)
    mixed = model.similarity(torch.eye(3, dtype=torch.float64), rows)
    assert (mixed.dtype, mixed.tolist()) == (torch.float32, np.eye(3).tolist())


def test_a_summarization_task() -> None:
    """Its evaluator asks for the similarity of one vector with another."""

    class Summaries(AbsTaskSummarization):  # type: ignore[misc]
        metadata = mteb.TaskMetadata(
            name="PyhbtToySummaries",
            description="Small texts.",
            dataset={"path": "none/none", "revision": "1"},
            type="Summarization",
            category="t2t",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="cosine_spearman",
        )
        min_score, max_score = 0, 5

        def load_data(self, *args: Any, **options: Any) -> None:
            texts = TOY.passage_texts
            rows = [
                {
                    "text": texts[row],
                    "human_summaries": [texts[row][:9], texts[row][3:12]],
                    "machine_summaries": [texts[row][2 * part :] for part in range(4)],
                    "relevance": [4.0, 3.0, 1.5, row % 2],
                }
                for row in range(5)
            ]
            self.dataset = datasets.DatasetDict(test=datasets.Dataset.from_list(rows))
            self.data_loaded = True

    found = scores(MtebEncoder(NgramEncoder(dim=32, num_buckets=512)), Summaries())
    assert found["spearman"] == pytest.approx(found["cosine_spearman"])
    assert np.isfinite(found["cosine_spearman"])


def test_queries_without_a_list_find_nothing() -> None:
    model = LookUp(ScoringFunction.DOT_PRODUCT)
    found, full = (scores(search_wrapper(model), task(rerank=True, empty=empty)) for empty in (True, False))
    assert (
        0
        < found["recall_at_1000"]
        == pytest.approx(full["recall_at_1000"] * (1 - 1 / len(TOY.query_ids)), abs=2e-5)
    )
    backend = ExactSearchBackend(similarity="dot")
    backend.add_documents(np.eye(4, dtype=np.float32), list("abcd"))
    queries = np.array([[1, 2, 3, 4], [4, 3, 2, 1]], dtype=np.float32)
    names = {0: "x", 1: "y"}
    assert backend.search(queries, 2, None, {"y": ["d", "b", "a", "b"]}, names) == (
        [[], [4.0, 3.0]],
        [[], [2, 1]],
    )
    assert backend.search(queries, 9, None, {}, names) == ([[], []], [[], []])


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_documents_added_bit_by_bit(similarity: Any, dtype: torch.dtype) -> None:
    numbers = torch.randint(-3, 4, (70, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    queries, documents = numbers[:9], numbers[9:]
    kept = documents if dtype in (torch.float16, torch.bfloat16) else documents.float()
    backend = ExactSearchBackend(similarity=similarity)
    for start, stop in ((0, 1), (1, 1), (1, 40), (40, 61)):
        backend.add_documents(documents[start:stop], (str(name) for name in range(start, stop)))
    assert backend.idxs == [str(name) for name in range(61)]
    asked = queries if dtype in (torch.float16, torch.bfloat16) else queries.float()
    for k in (1, 7, 61, 1000):
        expected = search(asked, kept, min(k, 61), similarity=similarity)
        assert backend.search(queries, k) == (expected[0].tolist(), expected[1].tolist())
    order = [str(place) for place in range(60, -1, -2)]
    found = backend.search(queries, 7, None, dict.fromkeys("abcdefghi", order), dict(enumerate("abcdefghi")))
    expected = search(asked, kept[[int(name) for name in order]], 7, similarity=similarity)
    assert found == (expected[0].tolist(), expected[1].tolist())
    backend.clear()
    assert backend.idxs == []
    backend.add_documents(documents[:2], ["a", "b"])
    assert [len(row) for row in backend.search(queries, 10)[0]] == [2] * 9


def test_no_documents() -> None:
    backend = ExactSearchBackend(similarity="dot")
    backend.add_documents(np.empty((0, 4), np.float32), [])
    assert backend.search(np.ones((2, 4), np.float32), 3) == ([[], []], [[], []])
    assert backend.search(np.ones((0, 4), np.float32), 3) == ([], [])


@pytest.mark.parametrize("name", ["EUCLIDEAN", "MANHATTAN", "MAX_SIM", "CUSTOM"])
def test_other_similarity_functions_are_refused(name: str) -> None:
    model = LookUp(ScoringFunction[name])
    with pytest.raises(ValueError, match="model: found similarity function '.*', expected cosine or dot"):
        search_wrapper(model)
    assert search_wrapper(model, similarity="dot").index_backend.similarity == "dot"


def test_a_model_without_a_named_function() -> None:
    class Inner:
        similarity_fn_name = "dot"

    model = LookUp(ScoringFunction.COSINE)
    model.mteb_model_meta = mteb.models.ModelMeta.create_empty()
    assert ExactSearchBackend(model).similarity == "cosine"  # as in mteb
    model.model = Inner()
    assert ExactSearchBackend(model).similarity == "dot"


def test_a_model_that_scores_otherwise_is_refused() -> None:
    model = LookUp(ScoringFunction.DOT_PRODUCT)
    with pytest.raises(ValueError, match=r"similarity_fn: found scores .*, expected .* \(cosine\)"):
        scores(search_wrapper(model, similarity="cosine"), task())
    backend = ExactSearchBackend(similarity="dot")
    backend.add_documents(np.eye(3, dtype=np.float32), list("abc"))
    queries = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match="similarity_fn: found scores"):
        backend.search(queries, 2, lambda a, b: -(a @ b.T), {"q": ["c"]}, {0: "q"})
    assert backend.search(queries, 2, lambda a, b: (a @ b.T).numpy() + 0.01)[1] == [[0, 1]]


def test_mistakes() -> None:
    backend = ExactSearchBackend(similarity="dot")
    queries = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="index: found no documents, expected add_documents first"):
        backend.search(queries, 2)
    with pytest.raises(ValueError, match="idxs: found 1, expected 2"):
        backend.add_documents(queries, ["a"])
    backend.add_documents(queries, ["a", "b"])
    with pytest.raises(ValueError, match="corpus: found dim 4, expected 3"):
        backend.add_documents(np.ones((1, 4), np.float32), ["c"])
    with pytest.raises(TypeError, match="corpus: found dtype torch.float16, expected torch.float32"):
        backend.add_documents(queries.astype(np.float16), ["c", "d"])
    with pytest.raises(ValueError, match="corpus: row 2 holds a NaN"):
        backend.add_documents(queries * np.nan, ["c", "d"])
    assert backend.idxs == ["a", "b"]
    with pytest.raises(ValueError, match="k: found 0"):
        backend.search(queries, 0)
    with pytest.raises(ValueError, match="query_idx_to_id: found None"):
        backend.search(queries, 1, None, {"x": ["a"]})
    with pytest.raises(ValueError, match="top_ranked: found 'z', expected ids of documents"):
        backend.search(queries, 1, None, {"x": ["a", "z"]}, {0: "x", 1: "y"})
    with pytest.raises(ValueError, match="similarity: found 'l2', expected one of cosine, dot"):
        ExactSearchBackend(similarity="l2")  # type: ignore[arg-type]


def test_without_mteb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mteb", None)
    with pytest.raises(ImportError, match=r"mteb: not installed, expected it: pip install 'pyhbt\[mteb\]'"):
        search_wrapper(NgramEncoder(dim=8, num_buckets=64))
