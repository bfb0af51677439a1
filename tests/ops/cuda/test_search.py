"""Search and ranks on the CUDA kernels: equal to the bit to what the tests of the CPU operations ask for."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from pyhbt.ops import ranks, reference, search
from pyhbt.ops.filters import SearchFilter
from pyhbt.ops.search_checks import Similarity
from pyhbt.retrieval.index import ExactIndex
from tests.adversarial import BUILDERS, SIMILARITIES, Builder, check_ranks, check_search, normal
from tests.emulated import emulated_kernels
from tests.ops.test_exact_ranks import high_and_low
from tests.ops.test_filters import FILTERS, BuildFilter, meaning

AUTO = ("auto",)
pytestmark = pytest.mark.usefixtures("gpu")


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("n", [1, 2, 33, 129])
def test_search_and_ranks_of_awkward_sizes(n: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(n)
    queries, corpus = normal(rng, 60, 7), normal(rng, n, 7)
    check_search(queries, corpus, (1, n, n + 3), rows=(1, 60), similarity=similarity, screenings=AUTO)
    for shape in ((60,), (60, 3)):
        targets = rng.integers(-1, n, shape)
        check_ranks(queries, corpus, targets, rows=(1, 60), similarity=similarity, screenings=AUTO)


@pytest.mark.parametrize("dim", [1, 3, 63, 65, 129, 1000])
def test_search_and_ranks_of_awkward_dims(dim: int) -> None:
    rng = np.random.default_rng(dim)
    queries, corpus = normal(rng, 5, dim), normal(rng, 1100, dim)
    check_search(queries, corpus, (1, 20), rows=(1, 5), screenings=AUTO)
    check_ranks(queries, corpus, high_and_low(rng, queries, corpus), screenings=AUTO)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_adversarial_inputs(build: Builder, similarity: Similarity) -> None:
    rng = np.random.default_rng(7)
    queries, corpus = build(rng)
    queries, corpus = queries[:9], corpus[:1500]
    check_search(queries, corpus, (10, 700), similarity=similarity, screenings=AUTO)
    targets = high_and_low(rng, queries, corpus)
    check_ranks(queries, corpus, targets, similarity=similarity, screenings=AUTO)


def test_more_than_the_kernel_selects() -> None:
    rng = np.random.default_rng(3)
    queries, corpus = normal(rng, 3, 5).round(1), normal(rng, 3000, 5).round(1)
    check_search(queries, corpus, (2047, 2048, 2049, 2999), screenings=AUTO)


def test_lists_that_overflow_are_made_again() -> None:
    rng = np.random.default_rng(5)
    corpus = normal(rng, 4000, 9)
    corpus[1500:] = corpus[0]  # nothing among these is below a threshold, and they outnumber every list
    queries = np.concatenate([corpus[:1] + np.float32(1e-3), normal(rng, 3, 9)])
    check_search(queries, corpus, (5,), screenings=AUTO)
    check_ranks(queries, corpus, np.asarray([[0, 3999]] * 4), screenings=AUTO)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_search_and_ranks_of_half_precision(dtype: torch.dtype, similarity: Similarity) -> None:
    rng = np.random.default_rng(1)
    queries, corpus = (torch.from_numpy(normal(rng, rows, 17)).to(dtype) for rows in (5, 700))
    check_search(queries, corpus, (10,), similarity=similarity, screenings=AUTO)
    check_ranks(queries, corpus, rng.integers(-1, 700, (5, 4)), similarity=similarity, screenings=AUTO)


@pytest.mark.parametrize("build", FILTERS, ids=lambda build: build.__name__)
def test_filters(build: BuildFilter) -> None:
    rng = np.random.default_rng(11)
    queries, corpus = normal(rng, 20, 9), normal(rng, 900, 9).round(1)
    filter = build(rng, 20, 900)
    accepts = meaning(filter, 20, 900)
    check_search(queries, corpus, (10,), filter=filter, accepts=accepts, screenings=AUTO)
    targets = rng.integers(-1, 900, (20, 3))
    check_ranks(queries, corpus, targets, filter=filter, accepts=accepts, screenings=AUTO)


@pytest.mark.parametrize("which", ["queries", "corpus"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_first_non_finite_row_is_named(which: str, bad: float, gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    given = {"queries": torch.ones(4, 3, device=device), "corpus": torch.ones(30, 3, device=device)}
    given[which][2, 1] = bad
    for call in (
        partial(search, given["queries"], given["corpus"], 3),
        partial(ranks, given["queries"], given["corpus"], torch.zeros(4, dtype=torch.int64, device=device)),
    ):
        with pytest.raises(ValueError, match=rf"{which}: row 2 holds a NaN or an infinity"):
            call()


def test_nothing_to_search_or_to_find(gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    scores, indices = search(torch.ones(2, 3, device=device), torch.ones(0, 3, device=device), 4)
    assert scores.tolist() == [[-torch.inf]] * 2
    assert indices.tolist() == [[-1]] * 2
    scores, _ = search(torch.ones(0, 3, device=device), torch.ones(5, 3, device=device), 4)
    assert scores.shape == (0, 4)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_index(similarity: Similarity, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searched, grown and filtered on the device, as on the CPU."""
    rng = np.random.default_rng(2)
    queries, corpus = normal(rng, 9, 17), normal(rng, 700, 17)
    index = ExactIndex(corpus[:500], similarity=similarity)
    if gpu == "cuda":
        index.to("cuda")
    else:
        monkeypatch.setattr(ExactIndex, "_kernels", lambda _: emulated_kernels())
    q = torch.from_numpy(queries).to("cuda" if gpu == "cuda" else "cpu")
    index.search(q, 5)
    index.add(corpus[500:])
    languages = SearchFilter(passage_partitions=np.arange(700) % 3, query_partitions=np.arange(9) % 3)
    for filter in (None, languages):
        accepts = None if filter is None else meaning(filter, 9, 700)
        expected = reference.search(queries, corpus, 10, similarity=similarity, accepts=accepts)
        scores, indices = index.search(q, 10, filter=filter)
        np.testing.assert_array_equal(indices.cpu().numpy(), expected[1])
        np.testing.assert_array_equal(scores.cpu().numpy(), expected[0])
        places = index.ranks(q, indices, filter=filter)
        assert isinstance(places, torch.Tensor)
        assert places.tolist() == [list(range(1, 11))] * 9
    if gpu == "cuda":
        with pytest.raises(ValueError, match="queries: found device cpu, expected cuda"):
            index.search(q.cpu(), 10)


def test_filters_of_one_query(gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    corpus = torch.arange(6.0, device=device)[:, None]
    found = search(corpus[5:], corpus, 3, filter=SearchFilter(exclude=torch.tensor([5])))
    assert found[1].tolist() == [[4, 3, 2]]
