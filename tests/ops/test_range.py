"""Range search against the float64 twin, bit for bit and complete, whatever the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import SearchFilter, reference, search_range
from pyhbt.ops.checks import Array
from pyhbt.ops.search_checks import Similarity
from tests.adversarial import (
    BUILDERS,
    SCREENINGS,
    SIMILARITIES,
    Builder,
    Mask,
    as_floats,
    assert_same_bits,
    normal,
)

SIZES = (1, 2, 7, 8, 9, 31, 33, 127, 129)


def thresholds(queries: Array, corpus: Array, similarity: Similarity, share: float) -> np.ndarray[Any, Any]:
    """For each query a score that a passage has, which ``share`` of all reach."""
    q, c = as_floats(queries), as_floats(corpus)
    exact = reference.exact_scores(q, c, similarity=similarity)
    if similarity == "cosine":
        norms = reference.exact_norms(q)[:, None]
        exact = np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0)
    place = min(len(c) - 1, int(share * len(c)))
    return -np.sort(-exact, axis=1)[:, place].copy()


def check_range(
    queries: Array,
    corpus: Array,
    threshold: Any,
    *,
    similarity: Similarity = "dot",
    filter: SearchFilter | None = None,
    accepts: Mask | None = None,
) -> None:
    least = np.broadcast_to(np.asarray(threshold, dtype=np.float64), len(queries))
    expected = reference.search_range(
        as_floats(queries), as_floats(corpus), least, similarity=similarity, accepts=accepts
    )
    for screening in SCREENINGS:
        found = search_range(
            queries, corpus, threshold, similarity=similarity, filter=filter, screening=screening
        )
        parts = (found.offsets, found.scores, found.indices)
        for name, part, truth in zip(("offsets", "scores", "indices"), parts, expected, strict=True):
            assert_same_bits(np.asarray(part), truth, f"{name} {similarity} {screening}")


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("n", SIZES)
def test_awkward_sizes(n: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(n)
    for dim in (1, 7, 33):
        for nq in (1, 5, 66):
            queries, corpus = normal(rng, nq, dim), normal(rng, n, dim)
            check_range(queries, corpus, 0.3, similarity=similarity)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_a_threshold_that_is_a_score(build: Builder, similarity: Similarity, share: float) -> None:
    """Equal is enough: the passage whose score the threshold is belongs to the results, and its ties do."""
    queries, corpus = build(np.random.default_rng(11))
    least = thresholds(queries, corpus, similarity, share)
    check_range(queries, corpus, least, similarity=similarity)
    check_range(queries[:3], corpus, least[:3], similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_next_number_up_is_out(similarity: Similarity) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = normal(rng, 70, 20), normal(rng, 1500, 20)
    least = thresholds(queries, corpus, similarity, 0.01)
    check_range(queries, corpus, np.nextafter(least, np.inf), similarity=similarity)
    within = search_range(queries, corpus, least, similarity=similarity)
    without = search_range(queries, corpus, np.nextafter(least, np.inf), similarity=similarity)
    assert (np.diff(within.offsets) - np.diff(without.offsets) == 1).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_everything_and_nothing(similarity: Similarity) -> None:
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 66, 8), normal(rng, 1200, 8)
    queries[3] = corpus[5] = 0  # a cosine of 0
    for threshold in (-np.inf, np.inf, 0.0, 1e300, -1e300, 1e-320):
        check_range(queries, corpus, threshold, similarity=similarity)


@settings(max_examples=40, deadline=None)
@given(
    nq=st.integers(0, 80),
    n=st.integers(0, 1500),
    dim=st.integers(1, 70),
    scale=st.floats(-3, 3),
    seed=st.integers(0, 2**32 - 1),
    similarity=st.sampled_from(SIMILARITIES),
    filtered=st.booleans(),
)
def test_drawn(
    nq: int, n: int, dim: int, scale: float, seed: int, similarity: Similarity, filtered: bool
) -> None:
    rng = np.random.default_rng(seed)
    queries, corpus = normal(rng, nq, dim), normal(rng, n, dim)
    accepts, filter = np.ones((nq, n), dtype=np.bool_), None
    if filtered:
        allowed, of_passages, of_queries = (
            rng.random(n) < 0.7,
            rng.integers(0, 3, n),
            rng.integers(-1, 3, (nq, 2)),
        )
        accepts &= allowed
        accepts &= (of_passages[None, None] == of_queries[:, :, None]).any(axis=1)
        filter = SearchFilter(allowed=allowed, passage_partitions=of_passages, query_partitions=of_queries)
    threshold = scale if similarity == "cosine" else scale * dim**0.5
    check_range(queries, corpus, threshold, similarity=similarity, filter=filter, accepts=accepts)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    queries, corpus = torch.randn(66, 24).to(dtype), torch.randn(1300, 24).to(dtype)
    check_range(queries, corpus, 2.5)


def test_threads_change_nothing() -> None:
    queries, corpus = torch.randn(5, 16), torch.randn(5000, 16)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(search_range(queries, corpus, 3.0))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.equal(torch.as_tensor(other.indices), torch.as_tensor(found[0].indices))
        assert torch.equal(torch.as_tensor(other.offsets), torch.as_tensor(found[0].offsets))


def test_rows_of_results() -> None:
    queries, corpus = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[[0, 0, 2]]
    found = search_range(queries, corpus, 0.5)
    assert len(found) == 3
    assert [indices.tolist() for _, indices in found] == [[0, 1], [], [2]]
    assert found[-1][0].tolist() == [1.0]
    with pytest.raises(IndexError, match="query: found 3, expected a row below 3"):
        found[3]
    assert isinstance(search_range(torch.eye(3), torch.eye(3), 0.5).scores, torch.Tensor)


def test_too_many_results_are_refused() -> None:
    queries, corpus = torch.randn(70, 8), torch.randn(2000, 8)
    total = int(search_range(queries, corpus, 1.0).offsets[-1])
    assert len(search_range(queries, corpus, 1.0, max_results=total).scores) == total
    with pytest.raises(ValueError, match=f"threshold: more than {total - 1} pairs .* raise the threshold"):
        search_range(queries, corpus, 1.0, max_results=total - 1)


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (ValueError, "threshold: found a NaN in row 1", {"threshold": np.array([0.0, np.nan])}),
        (ValueError, "threshold: found nan, expected a number", {"threshold": float("nan")}),
        (ValueError, r"threshold: found shape \(3,\), expected \(2,\)", {"threshold": np.zeros(3)}),
        (TypeError, "threshold: found 'high', expected a number", {"threshold": "high"}),
        (TypeError, "threshold: found None, expected a number", {"threshold": None}),
        (TypeError, "threshold: found True, expected a number", {"threshold": True}),
        (TypeError, "threshold: found dtype torch.complex64", {"threshold": torch.zeros(2) + 1j}),
        (TypeError, "threshold: found dtype torch.bool", {"threshold": np.array([True, False])}),
        (TypeError, "threshold: found 1j, expected a number", {"threshold": 1j}),
        (ValueError, "max_results: found -1, expected at least 0", {"max_results": -1}),
        (ValueError, "corpus: row 1 holds a NaN", {"corpus": torch.tensor([[0.0], [float("nan")]])}),
        (ValueError, "queries: row 0 holds a NaN", {"queries": torch.tensor([[float("inf")], [0.0]])}),
        (ValueError, "similarity: found 'l2'", {"similarity": "l2"}),
    ],
)
def test_bad_input_is_refused(error: type[Exception], match: str, options: dict[str, Any]) -> None:
    arguments = {"queries": torch.zeros(2, 1), "corpus": torch.zeros(2, 1), "threshold": 0.0} | options
    with pytest.raises(error, match=match):
        search_range(**arguments)
