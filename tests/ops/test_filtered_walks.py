"""Search, ranks and range search by pools of every size and form against the float64 twin.

How passages are walked over depends on the pools: tiny ones are scored, scattered ones gathered, dense ones read where
they lie, and queries of pools that overlap share a walk. No result may show which.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import SearchFilter, exact, ranks, search, search_range
from pyhbt.ops.filters import CheckedFilter
from pyhbt.ops.search_checks import Similarity
from tests.adversarial import SIMILARITIES, check_ranks, check_search, normal
from tests.interpreter import run_python
from tests.ops.test_filters import meaning
from tests.ops.test_range import check_range, thresholds

Rng = np.random.Generator


def check_all(
    rng: Rng,
    queries: Any,
    corpus: Any,
    filter: SearchFilter,
    *,
    ks: tuple[int, ...] = (1, 10, 300),
    per_query: int = 3,
    similarity: Similarity = "dot",
) -> None:
    """Some targets lie outside the pools, some are absent."""
    nq, n = len(queries), len(corpus)
    accepts = meaning(filter, nq, n)
    check_search(queries, corpus, ks, similarity=similarity, filter=filter, accepts=accepts)
    targets = rng.integers(-1, n, (nq, per_query))
    check_ranks(queries, corpus, targets, similarity=similarity, filter=filter, accepts=accepts)
    least = thresholds(queries, corpus, similarity, 0.1)
    check_range(queries, corpus, least, similarity=similarity, filter=filter, accepts=accepts)


def mask(rng: Rng, n: int, share: float, scattered: bool) -> np.ndarray[Any, Any]:
    allowed = np.arange(n) < round(share * n)
    return rng.permutation(allowed) if scattered else allowed


def queries_of(rng: Rng, form: str, nq: int, partitions: int) -> np.ndarray[Any, Any]:
    """Which partitions the queries search."""
    if form == "none":
        return np.full((nq, 2), -1)
    if form == "same":
        return np.full(nq, partitions // 2)
    if form == "own":
        return np.arange(nq) % partitions
    if form == "alike":  # most of a few
        few = rng.integers(0, partitions, 8)
        return np.where(rng.random((nq, 8)) < 0.7, few, -1)
    return rng.integers(-1, partitions + 1, (nq, 3))  # unknown ones, the same twice


@settings(max_examples=60, deadline=None)
@given(
    nq=st.integers(1, 80),
    n=st.integers(1, 1500),
    share=st.sampled_from([0.0, 0.001, 0.05, 0.3, 0.8, 1.0]),
    scattered=st.booleans(),
    partitions=st.sampled_from([0, 1, 2, 11, 100, 700]),
    form=st.sampled_from(["none", "same", "own", "alike", "several"]),
    excluded=st.sampled_from([0, 1, 40]),
    similarity=st.sampled_from(SIMILARITIES),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_pools(
    nq: int,
    n: int,
    share: float,
    scattered: bool,
    partitions: int,
    form: str,
    excluded: int,
    similarity: Similarity,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    queries, corpus = normal(rng, nq, 9), normal(rng, n, 9)
    corpus[: n // 3] = corpus[: n // 3].round()  # ties
    of_passages = rng.integers(0, max(1, partitions), n)
    filter = SearchFilter(
        allowed=mask(rng, n, share, scattered) if share < 1 else None,
        passage_partitions=(of_passages if scattered else np.sort(of_passages)) if partitions else None,
        query_partitions=queries_of(rng, form, nq, partitions) if partitions else None,
        exclude=rng.integers(-1, n, (nq, excluded)) if excluded else None,
    )
    check_all(rng, queries, corpus, filter, similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", ["same", "own", "alike", "several"])
def test_pools_that_are_screened(form: str, dtype: torch.dtype, similarity: Similarity) -> None:
    """Some hundred passages a pool: too many to score them all. With targets enough for their own way of counting."""
    rng = np.random.default_rng(3)
    queries, corpus = normal(rng, 70, 37), normal(rng, 6000, 37)
    corpus[2000:2400] = corpus[:400]
    partitions = 40
    filter = SearchFilter(
        passage_partitions=rng.integers(0, partitions, len(corpus)),
        query_partitions=queries_of(rng, form, len(queries), partitions),
        exclude=rng.integers(-1, len(corpus), (len(queries), 700)),
    )
    corpus_of = torch.from_numpy(corpus).to(dtype)
    check_all(rng, queries, corpus_of, filter, similarity=similarity, ks=(5,), per_query=19)


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("nq", [1, 4, 70])
def test_masks(nq: int, share: float, scattered: bool) -> None:
    """With k beyond what is allowed, and a guess from a sample of it."""
    rng = np.random.default_rng(5)
    queries, corpus = normal(rng, nq, 24), normal(rng, 9000, 24)
    filter = SearchFilter(allowed=mask(rng, len(corpus), share, scattered))
    check_all(rng, queries, corpus, filter, ks=(10, 400))


def test_many_partitions() -> None:
    """30,000 of two passages, scattered; k is larger than any pool."""
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 40, 6), normal(rng, 60_000, 6)
    groups = rng.permutation(len(corpus)) // 2
    filter = SearchFilter(passage_partitions=groups, query_partitions=rng.integers(0, 30_000, len(queries)))
    check_all(rng, queries, corpus, filter, ks=(5,))
    native = CheckedFilter(filter, len(queries), len(corpus)).native()
    assert native["num_partitions"] == len(np.unique(np.asarray(filter.query_partitions)))


def test_pools_of_one_passage() -> None:
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 300, 6), normal(rng, 300, 6)
    own = np.arange(300)
    _, indices = search(queries, corpus, 3, filter=SearchFilter(passage_partitions=own, query_partitions=own))
    assert (indices == np.stack([own, np.full(300, -1), np.full(300, -1)], axis=1)).all()
    check_all(rng, queries, corpus, SearchFilter(passage_partitions=own, query_partitions=own), ks=(3,))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_exclusions(similarity: Similarity) -> None:
    """Many, among them the best, the targets, the same again, and passages of other pools."""
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 12, 10), normal(rng, 5000, 10)
    best = search(queries, corpus, 900, similarity=similarity)[1]
    for pooled in (False, True):
        filter = SearchFilter(
            exclude=np.concatenate([best, best[:, :50], rng.integers(-1, 5000, (12, 900))], axis=1),
            passage_partitions=rng.integers(0, 3, 5000) if pooled else None,
            query_partitions=np.arange(12) % 3 if pooled else None,
        )
        check_all(rng, queries, corpus, filter, similarity=similarity)
        accepts = meaning(filter, 12, 5000)
        targets = best[:, ::30].copy()
        check_ranks(queries, corpus, targets, similarity=similarity, filter=filter, accepts=accepts)


def test_threads_do_not_show(restore_threads: None) -> None:
    """A single walk is cut into parts, and so is its list."""
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 40, 33), normal(rng, 30_000, 33).round(1)
    scattered, targets = rng.integers(0, 7, 30_000), rng.integers(-1, 30_000, (40, 2))
    for wanted in (np.full(40, 3), np.arange(40) % 8, np.arange(80).reshape(40, 2) % 7):
        filter = SearchFilter(passage_partitions=scattered, query_partitions=wanted)
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            scores, indices = search(queries, corpus, 20, filter=filter)
            found = search_range(queries, corpus, 12.0, filter=filter)
            results.append(
                (
                    *(scores, indices, ranks(queries, corpus, targets, filter=filter)),
                    *(found.offsets, found.scores, found.indices),
                )
            )
        for other in results[1:]:
            for one, first in zip(other, results[0], strict=True):
                np.testing.assert_array_equal(one, first)


def test_pairs_are_counted() -> None:
    rng = np.random.default_rng(4)
    wanted = np.array([[0, 2], [3, 3], [-1, -1], [7, 1]])
    for allowed in (None, rng.random(500) < 0.4):
        for of_passages, of_queries in ((None, None), (rng.integers(0, 5, 500), wanted)):
            parts = {"passage_partitions": of_passages, "query_partitions": of_queries}
            filter = SearchFilter(allowed=allowed, **parts)
            assert CheckedFilter(filter, 4, 500).pairs() == meaning(filter, 4, 500).sum()


def test_codes_are_made_where_a_filter_leaves_work_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    encoded = exact.encoded
    monkeypatch.setattr(
        exact, "encoded", lambda *args, **options: made.append(1) or encoded(*args, **options)
    )
    rng = np.random.default_rng(4)
    queries, corpus = normal(rng, 128, 8), normal(rng, 4000, 8)
    for share, calls in ((1.0, 3), (0.9, 3), (0.1, 0)):
        filter = SearchFilter(allowed=mask(rng, 4000, share, True))
        search(queries, corpus, 3, filter=filter)
        ranks(queries, corpus, np.zeros(128, np.int64), filter=filter)
        search_range(queries, corpus, 5.0, filter=filter)
        assert len(made) == calls, share
        made.clear()


_MEMORY_PROGRAM = """
import resource
import torch
from pyhbt.ops import SearchFilter, ranks, search, search_range
torch.set_num_threads(1)
n = 20_000
rows, own = torch.randn(n, 8), torch.randperm(n)
filter = SearchFilter(passage_partitions=own, query_partitions=own)
search(rows[:100], rows, 2, filter=SearchFilter(allowed=own[:50]))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
_, indices = search(rows, rows, 2, filter=filter)
assert torch.equal(indices[:, 0], torch.arange(n))
assert bool((ranks(rows, rows, torch.arange(n), filter=filter) == 1).all())
assert len(search_range(rows, rows, -100.0, filter=filter).scores) == n
print(peak() - before)
"""


def test_memory_of_as_many_partitions_as_queries() -> None:
    """A table of queries by partitions would be 400 MB."""
    kib = int(run_python(_MEMORY_PROGRAM).stdout)
    assert kib < 64 * 1024
