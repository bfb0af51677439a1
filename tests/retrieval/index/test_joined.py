"""Several indexes as one: what one index of all passages gives, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt import ExactIndex, JoinedIndex, SearchFilter
from pyhbt.ops.search_checks import Similarity

DIM = 9


def vectors(rows: int, seed: int) -> torch.Tensor:
    """With ties and rows of zeros."""
    numbers = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)).mul(2).round()
    numbers[3::7] = numbers[0] if rows else 0
    numbers[5::11] = 0
    return numbers


def same(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=5),
    nq=st.integers(0, 70),
    k=st.integers(1, 1600),
    seed=st.integers(0, 1000),
    similarity=st.sampled_from(["dot", "cosine"]),
    kind=st.sampled_from(["none", "mask", "positions", "partitions", "exclude"]),
)
def test_it_is_one_index(
    sizes: list[int], nq: int, k: int, seed: int, similarity: Similarity, kind: str
) -> None:
    corpus, queries, n = vectors(sum(sizes), seed), vectors(nq, seed + 1), sum(sizes)
    rng = np.random.default_rng(seed)
    filters = {
        "none": None,
        "mask": SearchFilter(allowed=rng.random(n) < 0.5),
        "positions": SearchFilter(allowed=rng.permutation(n)[: n // 2]),
        "partitions": SearchFilter(
            passage_partitions=rng.integers(0, 3, n), query_partitions=rng.integers(-1, 3, (nq, 2))
        ),
        "exclude": SearchFilter(exclude=rng.integers(-1, max(n, 1), (nq, 3)) if n else np.full((nq, 1), -1)),
    }
    one = ExactIndex(corpus, similarity=similarity)
    joined = JoinedIndex(ExactIndex(part, similarity=similarity) for part in corpus.split(sizes))
    filter = filters[kind]
    same(joined.search(queries, k, filter=filter), one.search(queries, k, filter=filter))
    for threshold in (-np.inf, 0.5):
        found, expected = (index.search_range(queries, threshold, filter=filter) for index in (joined, one))
        same(
            (found.offsets, found.scores, found.indices),
            (expected.offsets, expected.scores, expected.indices),
        )


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    parts = vectors(7, 0), vectors(0, 1), vectors(5, 2)
    ExactIndex(parts[0], ids=[f"a{i}" for i in range(7)]).save(tmp_path / "first")
    indexes = (
        ExactIndex.open(tmp_path / "first"),
        ExactIndex(parts[1], ids=[]),
        ExactIndex(parts[2], ids=[f"c{i}" for i in range(5)]),
    )
    joined = JoinedIndex(indexes)
    assert (len(joined), joined.dim, joined.similarity, joined.indexes) == (12, DIM, "dot", indexes)
    assert repr(joined) == "JoinedIndex(3 indexes, 12 passages, 9 dims, dot)"
    assert joined.ids_of(torch.tensor([[0, 7], [11, -1]])) == [["a0", "c0"], ["c4"]]
    at, position = joined.parts(torch.tensor([0, 6, 7, 11, -1]))
    assert at.tolist() == [0, 0, 2, 2, -1]
    assert position.tolist() == [0, 6, 0, 4, -1]
    scores, indices = joined.search(parts[0].numpy(), 3)
    assert isinstance(scores, np.ndarray)
    assert isinstance(indices, np.ndarray)
    assert isinstance(joined.search_range(parts[0].numpy(), 0.0).scores, np.ndarray)


def test_an_index_without_ids_is_named() -> None:
    joined = JoinedIndex([ExactIndex(vectors(3, 0), ids=["x", "y", "z"]), ExactIndex(vectors(2, 0))])
    with pytest.raises(ValueError, match=r"ids: indexes\[1\] was built without ids"):
        joined.ids_of(torch.tensor([[0]]))


def test_too_many_results_are_refused_over_all_indexes() -> None:
    corpus = torch.ones(10, 2)
    joined = JoinedIndex([ExactIndex(corpus[:6]), ExactIndex(corpus[6:])])
    assert len(joined.search_range(torch.ones(1, 2), 1.0, max_results=10).scores) == 10
    with pytest.raises(ValueError, match="raise the threshold or max_results"):
        joined.search_range(torch.ones(1, 2), 1.0, max_results=9)


@pytest.mark.parametrize(
    ("error", "match", "indexes"),
    [
        (ValueError, "indexes: found none", []),
        (TypeError, r"indexes\[0\]: found Tensor, expected ExactIndex", [torch.ones(1, 1)]),
        (
            ValueError,
            r"indexes\[1\]: found dim 3, expected 2",
            [ExactIndex(torch.ones(1, 2)), ExactIndex(torch.ones(1, 3))],
        ),
        (
            ValueError,
            r"indexes\[1\]: found similarity cosine, expected dot",
            [ExactIndex(torch.ones(1, 2)), ExactIndex(torch.ones(1, 2), similarity="cosine")],
        ),
    ],
)
def test_bad_indexes_are_refused(error: type[Exception], match: str, indexes: list[Any]) -> None:
    with pytest.raises(error, match=match):
        JoinedIndex(indexes)


def test_a_filter_counts_all_passages() -> None:
    joined = JoinedIndex([ExactIndex(torch.ones(2, 2)), ExactIndex(torch.ones(3, 2))])
    with pytest.raises(ValueError, match=r"filter.allowed: found shape \(3,\), expected \(5,\)"):
        joined.search(torch.ones(1, 2), 1, filter=SearchFilter(allowed=torch.ones(3, dtype=torch.bool)))
    with pytest.raises(TypeError, match="filter: found dict"):
        joined.search(torch.ones(1, 2), 1, filter={})  # type: ignore[arg-type]
