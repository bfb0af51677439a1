"""Search and ranks under filters against the float64 twin, which takes the filter as a mask of pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import ranks, search
from pyhbt.ops.checks import Array
from pyhbt.ops.filters import SearchFilter
from pyhbt.ops.search_checks import Screening, Similarity
from tests import adversarial
from tests.adversarial import SCREENINGS, SIMILARITIES, Mask, Positions, check_ranks, check_search, normal

N = 2300
BuildFilter = Callable[[np.random.Generator, int, int], SearchFilter]


def two_dimensional(values: Array) -> Positions:
    return np.asarray(values).reshape(len(values), 1 if values.ndim == 1 else values.shape[1])


def meaning(filter: SearchFilter, nq: int, n: int) -> Mask:
    """(nq, n): which passage each query may find, pair by pair."""
    accepts = np.ones((nq, n), np.bool_)
    if filter.allowed is not None:
        allowed = np.asarray(filter.allowed)
        accepts &= allowed if allowed.dtype == np.bool_ else np.isin(np.arange(n), allowed)
    if filter.passage_partitions is not None and filter.query_partitions is not None:
        partitions, wanted = np.asarray(filter.passage_partitions), two_dimensional(filter.query_partitions)
        for query in range(nq):
            accepts[query] &= np.isin(partitions, wanted[query][wanted[query] >= 0])
    if filter.exclude is not None:
        exclude = two_dimensional(filter.exclude)
        for query in range(nq):
            accepts[query, exclude[query][exclude[query] >= 0]] = False
    return accepts


def allowed_mask(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(allowed=rng.random(n) < 0.3)


def allowed_stretch(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(allowed=torch.from_numpy((np.arange(n) > n // 3) & (np.arange(n) < n // 2)))


def allowed_every_other(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(allowed=(rng.random(2 * n) < 0.9)[::2])


def allowed_positions(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(allowed=rng.permutation(n)[: n // 2])


def allowed_few(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(allowed=rng.permutation(n)[:3])


def allowed_none(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(allowed=np.zeros(0, np.int64))


def one_partition(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    """Languages side by side, as an index has them."""
    return SearchFilter(
        passage_partitions=np.sort(rng.integers(0, 5, n)), query_partitions=rng.integers(0, 5, nq)
    )


def scattered_partitions(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    """Some passages and queries of no partition, and partitions that no passage has."""
    names = np.array([-7, -1, 0, 3, 2**40])
    return SearchFilter(
        passage_partitions=torch.from_numpy(rng.choice(names, n)),
        query_partitions=torch.from_numpy(rng.choice([-7, -1, 0, 1, 3, 99, 2**40], nq)),
    )


def several_partitions(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(
        passage_partitions=rng.integers(0, 9, n) // 2 * 2, query_partitions=rng.integers(-1, 9, (nq, 3))
    )


def many_partitions(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(
        passage_partitions=rng.permutation(n) // 2, query_partitions=rng.integers(-1, n // 2, (nq, 40))
    )


def exclude_one(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(exclude=rng.integers(-1, n, nq))


def exclude_several(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    several = rng.integers(-1, n, (nq, 30))
    several[:, 7] = several[:, 3]
    several[::2, 8] = -1
    return SearchFilter(exclude=several)


def exclude_no_places(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    return SearchFilter(exclude=np.zeros((nq, 0), np.int64))


def everything(rng: np.random.Generator, nq: int, n: int) -> SearchFilter:
    partitions = several_partitions(rng, nq, n)
    return SearchFilter(
        allowed=allowed_mask(rng, nq, n).allowed,
        passage_partitions=partitions.passage_partitions,
        query_partitions=partitions.query_partitions,
        exclude=exclude_several(rng, nq, n).exclude,
    )


FILTERS: tuple[BuildFilter, ...] = (
    lambda rng, nq, n: SearchFilter(),
    allowed_mask,
    allowed_stretch,
    allowed_every_other,
    allowed_positions,
    allowed_few,
    allowed_none,
    one_partition,
    scattered_partitions,
    several_partitions,
    many_partitions,
    exclude_one,
    exclude_several,
    exclude_no_places,
    everything,
)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("nq", [1, 4, 5, 70])
@pytest.mark.parametrize("build", FILTERS, ids=lambda build: build.__name__)
def test_filters(build: BuildFilter, nq: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(nq)
    queries, corpus = normal(rng, nq, 17), normal(rng, N, 17)
    corpus[1000:1400] = corpus[:400]  # ties
    queries[-1] = corpus[500]
    filter = build(rng, nq, N)
    accepts = meaning(filter, nq, N)
    check_search(queries, corpus, (1, 10, 900), similarity=similarity, filter=filter, accepts=accepts)
    _, best = search(queries, corpus, 40, similarity=similarity)
    targets = np.concatenate([best[:, ::10], rng.integers(-1, N, (nq, 2))], axis=1)  # some outside the filter
    check_ranks(queries, corpus, targets, similarity=similarity, filter=filter, accepts=accepts)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(
    "build",
    [
        adversarial.near_ties,
        adversarial.duplicates,
        adversarial.wild_norms,
        adversarial.both_far_from_origin,
        adversarial.overflowing_in_part,
        adversarial.beyond_codes_in_part,
        adversarial.rising,
        adversarial.sample_is_better_than_the_rest,
    ],
)
@pytest.mark.parametrize("restrict", [one_partition, scattered_partitions, allowed_mask, everything])
def test_filters_of_adversarial_inputs(
    restrict: BuildFilter, build: adversarial.Builder, similarity: Similarity
) -> None:
    rng = np.random.default_rng(7)
    queries, corpus = build(rng)
    nq, n = len(queries), len(corpus)
    filter = restrict(rng, nq, n)
    accepts = meaning(filter, nq, n)
    check_search(queries, corpus, (10, 300), similarity=similarity, filter=filter, accepts=accepts)
    check_ranks(
        queries, corpus, rng.integers(-1, n, (nq, 3)), similarity=similarity, filter=filter, accepts=accepts
    )


@pytest.mark.parametrize("screening", SCREENINGS)
def test_excluding_what_was_found_leaves_the_next(screening: Screening) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = normal(rng, 70, 16), normal(rng, 3000, 16).round(1)
    scores, indices = search(queries, corpus, 60, screening=screening)
    rest = SearchFilter(exclude=indices[:, :20])
    found = search(queries, corpus, 40, filter=rest, screening=screening)
    np.testing.assert_array_equal(found[1], indices[:, 20:])
    np.testing.assert_array_equal(found[0], scores[:, 20:])
    after = ranks(queries, corpus, indices, filter=rest, screening=screening)
    np.testing.assert_array_equal(after, np.tile(np.concatenate([np.ones(20), np.arange(1, 41)]), (70, 1)))


def parts(
    rng: np.random.Generator, nq: int, n: int, allowed: str, partitions: int, excluded: int
) -> SearchFilter:
    kinds = {"all": None, "mask": rng.random(n) < 0.7, "positions": rng.permutation(n)[: n // 2]}
    return SearchFilter(
        allowed=kinds[allowed],
        passage_partitions=rng.integers(-2, 4, n) if partitions else None,
        query_partitions=rng.integers(-2, 6, (nq, partitions)) if partitions else None,
        exclude=rng.integers(-1, n, (nq, excluded)) if excluded else None,
    )


@settings(max_examples=80, deadline=None)
@given(
    nq=st.integers(0, 40),
    n=st.integers(1, 300),
    dim=st.integers(1, 9),
    k=st.integers(1, 310),
    allowed=st.sampled_from(["all", "mask", "positions"]),
    partitions=st.integers(0, 3),
    excluded=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
def test_any_filter(
    nq: int, n: int, dim: int, k: int, allowed: str, partitions: int, excluded: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    queries, corpus = normal(rng, nq, dim).round(), normal(rng, n, dim).round(1)
    filter = parts(rng, nq, n, allowed, partitions, excluded)
    accepts = meaning(filter, nq, n)
    targets = rng.integers(-1, n, (nq, 2))
    for similarity in SIMILARITIES:
        check_search(queries, corpus, (k,), similarity=similarity, filter=filter, accepts=accepts)
        check_ranks(queries, corpus, targets, similarity=similarity, filter=filter, accepts=accepts)


def test_filters_of_an_empty_corpus() -> None:
    queries, corpus = np.ones((2, 4), np.float32), np.ones((0, 4), np.float32)
    none, partitions = np.zeros(0, np.int64), np.zeros(2, np.int64)
    filter = SearchFilter(
        allowed=none, passage_partitions=none, query_partitions=partitions, exclude=partitions - 1
    )
    check_search(queries, corpus, (3,), filter=filter)
    check_ranks(queries, corpus, partitions - 1, filter=filter)


@pytest.mark.parametrize("screening", SCREENINGS)
def test_pools_smaller_than_k_are_padded(screening: Screening) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = normal(rng, 70, 8), normal(rng, 2500, 8)
    filter = SearchFilter(allowed=np.array([5, 1700]), exclude=np.where(np.arange(70) % 2, 5, -1))
    scores, indices = search(queries, corpus, 9, filter=filter, screening=screening)
    real = np.where(np.arange(70) % 2, 1, 2)[:, None] > np.arange(9)
    np.testing.assert_array_equal(indices >= 0, real)
    np.testing.assert_array_equal(np.isneginf(scores), ~real)
    assert set(indices[real]) == {5, 1700}


I64 = np.int64


@pytest.mark.parametrize("call", [search, ranks])
@pytest.mark.parametrize(
    ("error", "match", "filter"),
    [
        (
            ValueError,
            r"filter.allowed: found shape \(4,\), expected \(5,\)",
            {"allowed": np.ones(4, np.bool_)},
        ),
        (ValueError, r"filter.allowed: found positions 0 to 5, expected 0 to 4", {"allowed": np.arange(6)}),
        (ValueError, r"filter.allowed: found positions -1 to 3", {"allowed": np.array([3, -1])}),
        (ValueError, r"filter.allowed: found 2 dimensions, expected 1", {"allowed": np.ones((5, 1), I64)}),
        (TypeError, r"filter.allowed: found dtype torch.uint8", {"allowed": np.ones(5, np.uint8)}),
        (TypeError, r"filter.allowed: found list", {"allowed": [1, 2]}),
        (ValueError, r"filter.query_partitions: found None", {"passage_partitions": np.zeros(5, I64)}),
        (ValueError, r"filter.passage_partitions: found None", {"query_partitions": np.zeros(3, I64)}),
        (
            ValueError,
            r"filter.passage_partitions: found shape \(4,\), expected \(5,\)",
            {"passage_partitions": np.zeros(4, I64), "query_partitions": np.zeros(3, I64)},
        ),
        (
            TypeError,
            r"filter.passage_partitions: found dtype torch.float64, expected torch.int64",
            {"passage_partitions": np.zeros(5), "query_partitions": np.zeros(3, I64)},
        ),
        (
            ValueError,
            r"filter.query_partitions: found shape \(2,\), expected \(3,\) or \(3, x\)",
            {"passage_partitions": np.zeros(5, I64), "query_partitions": np.zeros(2, I64)},
        ),
        (
            TypeError,
            r"filter.query_partitions: found dtype torch.int32, expected torch.int64",
            {"passage_partitions": np.zeros(5, I64), "query_partitions": np.zeros(3, np.int32)},
        ),
        (ValueError, r"filter.exclude: found 5 in row 1", {"exclude": np.array([0, 5, 1])}),
        (ValueError, r"filter.exclude: found -2 in row 2", {"exclude": np.array([[0, 1], [1, 0], [4, -2]])}),
        (ValueError, r"filter.exclude: found shape \(3, 1, 1\)", {"exclude": np.zeros((3, 1, 1), I64)}),
        (TypeError, r"filter.exclude: found dtype torch.bool", {"exclude": np.zeros(3, np.bool_)}),
        (
            ValueError,
            r"filter.allowed: found device meta",
            {"allowed": torch.ones(5, dtype=torch.bool, device="meta")},
        ),
        (
            ValueError,
            r"filter.exclude: found device meta",
            {"exclude": torch.ones(3, dtype=torch.int64, device="meta")},
        ),
    ],
)
def test_errors_name_the_argument(error: type, match: str, filter: dict[str, Any], call: Any) -> None:
    last: Any = 1 if call is search else np.zeros(3, I64)
    with pytest.raises(error, match=match):
        call(np.zeros((3, 4), np.float32), np.zeros((5, 4), np.float32), last, filter=SearchFilter(**filter))


@pytest.mark.parametrize("screening", SCREENINGS)
@pytest.mark.parametrize("nq", [1, 5])
def test_what_is_not_finite_is_refused_within_the_filter_or_not(nq: int, screening: Screening) -> None:
    corpus = np.ones((2000, 8), np.float32)
    corpus[300, 2] = np.nan
    queries, filter = np.ones((nq, 8), np.float32), SearchFilter(allowed=np.arange(10))
    with pytest.raises(ValueError, match="corpus: row 300 holds a NaN"):
        search(queries, corpus, 3, filter=filter, screening=screening)
    with pytest.raises(ValueError, match="corpus: row 300 holds a NaN"):
        ranks(queries, corpus, np.zeros(nq, I64), filter=filter, screening=screening)


def test_a_filter_may_be_cut_by_queries() -> None:
    rng = np.random.default_rng(0)
    queries, corpus = normal(rng, 9, 8), normal(rng, 50, 8)
    filter = everything(rng, 9, 50)
    whole = search(queries, corpus, 7, filter=filter)
    part = search(queries[3:5], corpus, 7, filter=filter.rows(3, 5))
    np.testing.assert_array_equal(part[1], whole[1][3:5])
    np.testing.assert_array_equal(part[0], whole[0][3:5])


def test_names_that_partitions_had_before() -> None:
    partitions, wanted = np.zeros(5, I64), np.zeros(3, I64)
    with pytest.warns(
        DeprecationWarning, match="(passage|query)_groups is called (passage|query)_partitions now"
    ):
        filter = SearchFilter(passage_groups=partitions, query_groups=wanted)  # type: ignore[call-arg]
    assert filter.passage_partitions is partitions
    assert filter.query_partitions is wanted
    with pytest.warns(DeprecationWarning, match="passage_groups is called passage_partitions now"):
        assert filter.passage_groups is partitions  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match="query_groups is called query_partitions now"):
        assert filter.query_groups is wanted  # type: ignore[attr-defined]


def test_the_filter_of_some_of_the_passages() -> None:
    filter = SearchFilter(
        allowed=torch.tensor([5, 0, 3]),
        passage_partitions=torch.arange(6),
        query_partitions=torch.tensor([1]),
        exclude=torch.tensor([[2, 4, -1]]),
    )
    part = filter.passages(2, 5)
    assert torch.as_tensor(part.allowed).tolist() == [1]
    assert torch.as_tensor(part.passage_partitions).tolist() == [2, 3, 4]
    assert torch.as_tensor(part.exclude).tolist() == [[0, 2, -1]]
    assert part.query_partitions is filter.query_partitions
    mask = SearchFilter(allowed=torch.tensor([True, False, True])).passages(1, 3)
    assert torch.as_tensor(mask.allowed).tolist() == [False, True]
