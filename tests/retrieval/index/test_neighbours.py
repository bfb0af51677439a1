"""The self-join against a search in which each passage excludes itself, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt import ExactIndex, SearchFilter
from pyhbt.ops import reference
from pyhbt.ops.search_checks import Similarity
from tests.adversarial import BUILDERS, SIMILARITIES, Builder

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.float8_e5m2)


def check(corpus: torch.Tensor, k: int, similarity: Similarity) -> None:
    index = ExactIndex(corpus, similarity=similarity)
    scores, indices = index.neighbours(k)
    assert scores.shape == indices.shape == (len(corpus), min(k, max(1, len(corpus) - 1)))
    without_itself = SearchFilter(exclude=torch.arange(len(corpus)))
    expected = index.search(corpus, scores.shape[1], filter=without_itself)
    assert torch.equal(indices, expected[1])
    assert torch.equal(scores.view(torch.int32), expected[0].view(torch.int32))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("n", [1, 2, 3, 31, 47, 48, 49, 127, 1023, 1024, 1025])
def test_awkward_sizes(n: int, similarity: Similarity) -> None:
    generator = torch.Generator().manual_seed(n)
    for dim in (1, 7, 33):
        for k in (1, 10, n + 3):
            check(torch.randn(n, dim, generator=generator), k, similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_adversarial_corpora(build: Builder, similarity: Similarity) -> None:
    corpus = torch.from_numpy(build(np.random.default_rng(3))[1])
    check(corpus, 20, similarity)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 2500),
    dim=st.integers(1, 60),
    k=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
    similarity=st.sampled_from(SIMILARITIES),
    dtype=st.sampled_from(DTYPES),
    ties=st.booleans(),
)
def test_drawn(
    n: int, dim: int, k: int, seed: int, similarity: Similarity, dtype: torch.dtype, ties: bool
) -> None:
    numbers = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) * 3
    if ties:
        numbers = numbers.round()
        numbers[::9] = 0
    check(numbers.to(dtype), k, similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_it_is_the_truth(similarity: Similarity) -> None:
    corpus = np.random.default_rng(0).standard_normal((300, 11)).astype(np.float32)
    others = ~np.eye(300, dtype=np.bool_)
    expected = reference.search(corpus, corpus, 7, similarity=similarity, accepts=others)
    found = ExactIndex(corpus, similarity=similarity).neighbours(7)
    np.testing.assert_array_equal(found[0].numpy(), expected[0])
    np.testing.assert_array_equal(found[1].numpy(), expected[1])


def test_guesses_that_were_too_high_are_taken_back() -> None:
    """Passages lie so that a sample of them promises more than there is: few have any neighbour at all."""
    generator = torch.Generator().manual_seed(0)
    corpus = torch.randn(20_000, 16, generator=generator)
    corpus[::5] = corpus[0] * torch.linspace(0.9, 1.1, 4000)[:, None]
    check(corpus, 30, "dot")


def test_threads_change_nothing(tmp_path: Path) -> None:
    corpus = torch.randn(5000, 16).round(decimals=1)
    ExactIndex(corpus).save(tmp_path / "index")
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(ExactIndex.open(tmp_path / "index").neighbours(12))
    finally:
        torch.set_num_threads(before)
    for scores, indices in found[1:]:
        assert torch.equal(indices, found[0][1])
        assert torch.equal(scores, found[0][0])


def test_a_wrong_k_is_refused() -> None:
    index = ExactIndex(torch.randn(5, 3))
    with pytest.raises(ValueError, match="k: found 0, expected at least 1"):
        index.neighbours(0)
    with pytest.raises(TypeError, match="k: found 2.5"):
        index.neighbours(2.5)  # type: ignore[arg-type]
    scores, indices = ExactIndex(torch.ones(1, 3)).neighbours(4)
    assert scores.tolist() == [[-torch.inf]]
    assert indices.tolist() == [[-1]]
