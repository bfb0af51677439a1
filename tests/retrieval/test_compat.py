"""The signatures and results of other libraries, beside those libraries where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import knn, search, semantic_search

NUMBERS = np.random.default_rng(1).normal(scale=0.25, size=(1450, 16)).astype(np.float32)  # norms around 1
QUERIES, CORPUS = torch.from_numpy(NUMBERS[:250]), torch.from_numpy(NUMBERS[250:])
SHAPES: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda rows: rows,
    "array": lambda rows: rows.numpy(),
    "float64": lambda rows: rows.double(),
    "gradient": lambda rows: rows.clone().requires_grad_(),
    "sparse": lambda rows: rows.to_sparse(),
    "list of tensors": list,
    "list of arrays": lambda rows: list(rows.numpy()),
    "list of lists": lambda rows: rows.tolist(),
}


def same(found: list[list[dict[str, Any]]], expected: list[list[dict[str, Any]]]) -> None:
    ids, scores = ([[hit[name] for hit in hits] for hits in found] for name in ("corpus_id", "score"))
    assert ids == [[hit["corpus_id"] for hit in hits] for hits in expected]
    np.testing.assert_allclose(
        scores, [[hit["score"] for hit in hits] for hits in expected], rtol=1e-6, atol=1e-6
    )
    assert {(*map(type, hit.values()),) for hits in found for hit in hits} == {(int, float)}


@pytest.mark.parametrize("shape", SHAPES)
def test_sentence_transformers(shape: str) -> None:
    util = pytest.importorskip("sentence_transformers.util")
    queries, corpus = SHAPES[shape](QUERIES), SHAPES[shape](CORPUS)
    plain = QUERIES, CORPUS
    same(semantic_search(queries, corpus), util.semantic_search(*plain))
    same(semantic_search(queries, corpus, 7, 100, 3), util.semantic_search(*plain, 7, 100, 3))
    for score in (util.cos_sim, util.dot_score):
        options = {"top_k": 20, "score_function": score}
        same(semantic_search(queries, corpus, **options), util.semantic_search(*plain, **options))
    few = {"query_embeddings": queries, "corpus_embeddings": SHAPES[shape](CORPUS[:4]), "top_k": 9}
    same(semantic_search(**few), util.semantic_search(QUERIES, CORPUS[:4], top_k=9))


def test_one_query() -> None:
    util = pytest.importorskip("sentence_transformers.util")
    expected = util.semantic_search(QUERIES[0], CORPUS)
    for query in (QUERIES[0], QUERIES[0].numpy(), QUERIES[0].tolist()):
        same(semantic_search(query, CORPUS), expected)


def test_nothing_to_search() -> None:
    empty: tuple[Any, ...] = (CORPUS[:0], np.empty((0, 16), np.float32), [])
    for corpus in empty:
        assert semantic_search(QUERIES[:3], corpus) == [[], [], []]
    assert semantic_search([], CORPUS) == []
    assert semantic_search(QUERIES[:0], CORPUS) == []


def test_ties_and_half_precision() -> None:
    corpus = torch.cat([CORPUS[:5]] * 3).half()
    scores, indices = search(QUERIES.half(), corpus, 15)
    hits = semantic_search(QUERIES.half(), corpus, top_k=15, score_function="dot")
    assert [[hit["corpus_id"] for hit in row] for row in hits] == indices.tolist()
    assert [[hit["score"] for hit in row] for row in hits] == scores.tolist()
    ids = [hit["corpus_id"] for hit in hits[0]]
    assert [place - ids[0] for place in ids[:3]] == [0, 5, 10]


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (
            ValueError,
            "score_function: found 'l2', expected cosine, dot, cos_sim or dot_score",
            {"score_function": "l2"},
        ),
        (ValueError, "score_function: found <built-in function max>", {"score_function": max}),
        (ValueError, "top_k: found 0, expected at least 1", {"top_k": 0}),
        (ValueError, "corpus: found dim 3, expected 16", {"corpus_embeddings": CORPUS[:, :3]}),
        (ValueError, "queries: row 0 holds a NaN", {"query_embeddings": QUERIES[0] / 0 * 0}),
        (TypeError, "query_embeddings: found list, expected vectors", {"query_embeddings": ["text"]}),
        (
            TypeError,
            "query_embeddings: found list, expected vectors",
            {"query_embeddings": [[1.0], [1.0, 2.0]]},
        ),
        (TypeError, "query_embeddings: found str, expected vectors", {"query_embeddings": "text"}),
        (TypeError, "corpus_embeddings: found int", {"corpus_embeddings": 5}),
    ],
)
def test_mistakes(error: type[Exception], match: str, options: dict[str, Any]) -> None:
    with pytest.raises(error, match=match):
        semantic_search(**{"query_embeddings": QUERIES, "corpus_embeddings": CORPUS} | options)


def test_knn_takes_and_gives_what_faiss_does() -> None:
    scores, indices = knn(QUERIES, CORPUS, 5)
    assert torch.equal(scores, search(QUERIES, CORPUS, 5)[0])
    assert torch.equal(indices, search(QUERIES, CORPUS, 5)[1])
    faiss = pytest.importorskip("faiss")
    found = knn(QUERIES.numpy(), CORPUS.numpy(), k=5)
    expected = faiss.knn(QUERIES.numpy(), CORPUS.numpy(), 5, metric=faiss.METRIC_INNER_PRODUCT)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])
