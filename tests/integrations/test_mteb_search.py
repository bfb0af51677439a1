"""Tasks of MTEB that fail, at every stage, and what the next task finds: its own documents and no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

mteb = pytest.importorskip("mteb")
datasets = pytest.importorskip("datasets")

from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.models.model_meta import ScoringFunction  # noqa: E402

from pyhbt.integrations.mteb import search_wrapper  # noqa: E402
from tests.integrations.test_mteb import LookUp, scores, task  # noqa: E402


class Failing(LookUp):
    """Breaks at a stage of the tasks (and, where given, subsets) that it is told to."""

    def __init__(self, stage: str, subset: str | None = None) -> None:
        super().__init__(ScoringFunction.DOT_PRODUCT, dim=16)
        self.stage, self.subset = stage, subset
        self.broken = True

    def encode(self, inputs: Any, **options: Any) -> Any:
        subset = options["hf_subset"]
        here = self.broken and self.subset in (None, subset)
        kind = "queries" if options["prompt_type"] == "query" else "documents"
        if here and self.stage == kind:
            raise RuntimeError(f"no {kind} today")
        vectors = super().encode(inputs, **options)
        if here and self.stage == "dim" and kind == "queries":
            return vectors[:, 1:]
        if here and self.stage == "numbers" and kind == "documents":
            return vectors * float("nan")
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        found: torch.Tensor = super().similarity(embeddings1, embeddings2)
        return found + 100 if self.broken and self.stage == "similarity" else found


def in_languages() -> Any:
    """A task of two subsets, whose documents differ but have the same ids."""
    split = {
        lang: {
            "test": {
                "queries": datasets.Dataset.from_dict({"id": ["q"], "text": [f"question {lang}"]}),
                "corpus": datasets.Dataset.from_dict(
                    {"id": [f"d{i}" for i in range(size)], "text": [f"{lang} text {i}" for i in range(size)]}
                ),
                "relevant_docs": {"q": {"d0": 1}},
                "top_ranked": None,
            }
        }
        for lang, size in (("de", 12), ("en", 7))
    }

    class Languages(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = mteb.TaskMetadata(
            name="PyhbtToyLanguages",
            description="Small texts in two languages.",
            dataset={"path": "none/none", "revision": "1"},
            type="Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs={"de": ["deu-Latn"], "en": ["eng-Latn"]},
            main_score="ndcg_at_10",
        )

        def load_data(self, *args: Any, **options: Any) -> None:
            self.dataset = split
            self.data_loaded = True

    return Languages()


def run(model: Any, *tasks: Any) -> Any:
    return mteb.evaluate(
        model, list(tasks), cache=None, co2_tracker=False, show_progress_bar=False, raise_error=False
    )


@pytest.mark.parametrize(
    ("stage", "rerank"),
    [("documents", False), ("numbers", False), ("queries", True), ("dim", False), ("similarity", True)],
)
def test_the_next_task_finds_its_own_documents(stage: str, rerank: bool) -> None:
    model = Failing(stage)
    wrapped = search_wrapper(model)
    failed = run(wrapped, task(rerank=rerank))
    assert len(failed.exceptions) == 1
    assert wrapped.index_backend.idxs == []
    assert wrapped.task_corpus is None
    model.broken = False
    expected = scores(LookUp(ScoringFunction.DOT_PRODUCT, dim=16), task(rerank=not rerank))
    assert scores(wrapped, task(rerank=not rerank)) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_one_run_of_several_tasks() -> None:
    """The second subset of the first task fails; the second task is scored as if alone."""
    model = Failing("queries", subset="en")
    wrapped = search_wrapper(model)
    results = run(wrapped, in_languages(), task())
    assert [error.task_name for error in results.exceptions] == ["PyhbtToyLanguages"]
    (row,) = results.task_results[0].scores["test"]
    expected = scores(LookUp(ScoringFunction.DOT_PRODUCT, dim=16), task())
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_subsets_are_apart() -> None:
    expected = LookUp(ScoringFunction.DOT_PRODUCT, dim=16)
    found = [
        run(model, in_languages()).task_results[0].scores["test"]
        for model in (search_wrapper(expected), expected)
    ]
    assert [row["hf_subset"] for row in found[0]] == ["de", "en"]
    for ours, theirs in zip(*found, strict=True):
        assert ours["ndcg_at_10"] == pytest.approx(theirs["ndcg_at_10"], abs=1e-6)


def test_documents_that_were_never_searched() -> None:
    """An indexing begins empty also where the one before did not fail."""
    wrapped = search_wrapper(LookUp(ScoringFunction.DOT_PRODUCT))
    wrapped.index_backend.add_documents(torch.ones(2, 3), ["stray", "strays"])
    one = task()
    one.load_data()
    corpus = one.dataset["default"]["test"]["corpus"]
    options = {"task_metadata": one.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    for _ in range(2):
        wrapped.index(corpus, **options)
        assert wrapped.index_backend.idxs == list(corpus["id"])
    with pytest.raises((ValueError, KeyError), match="Column '?id'? "):  # KeyError: datasets 3
        wrapped.search(datasets.Dataset.from_dict({"text": ["a"]}), top_k=3, **options)
    assert wrapped.index_backend.idxs == []
    with pytest.raises(ValueError, match="Corpus must be indexed before searching"):
        wrapped.search(datasets.Dataset.from_dict({"id": ["q"], "text": ["a"]}), top_k=3, **options)
