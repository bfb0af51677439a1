"""Exact ranks against the float64 twin, bit for bit, and against search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import ranks, reference, search

SIZES = (1, 2, 7, 8, 9, 31, 33, 127, 129)
Matrix = npt.NDArray[np.float32]


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def normal(rng: np.random.Generator, *shape: int) -> Matrix:
    return rng.standard_normal(shape).astype(np.float32)


def check(queries: Matrix, corpus: Matrix, targets: npt.NDArray[np.int64]) -> None:
    found = ranks(queries, corpus, targets)
    assert found.dtype == np.int64
    assert found.shape == targets.shape
    np.testing.assert_array_equal(found, reference.ranks(queries, corpus, targets))


@pytest.mark.parametrize("n", SIZES)
def test_awkward_sizes(n: int) -> None:
    rng = np.random.default_rng(n)
    for nq in (1, 7, 33, 129):
        for dim in (1, 7, 33):
            queries, corpus = normal(rng, nq, dim), normal(rng, n, dim)
            check(queries, corpus, rng.integers(-1, n, nq))
            check(queries, corpus, rng.integers(-1, n, (nq, 3)))


def test_ranks_of_search_results_count_upwards() -> None:
    rng = np.random.default_rng(0)
    queries, corpus = normal(rng, 40, 33), normal(rng, 1500, 33).round(1)
    _, indices = search(queries, corpus, 200)
    np.testing.assert_array_equal(ranks(queries, corpus, indices), np.tile(np.arange(1, 201), (40, 1)))


def near_ties(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    base = normal(rng, 1, 64)
    return normal(rng, 9, 64), (base * (1 + 1e-7 * rng.standard_normal((1500, 1)))).astype(np.float32)


def duplicates(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, 9, 33), np.repeat(normal(rng, 2, 33), (1500, 500), axis=0)


def small_integers(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, 33, 5).round(), normal(rng, 1500, 5).round()


def wild_norms(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    factors = np.exp(rng.uniform(-9, 9, (1500, 1))).astype(np.float32)
    return normal(rng, 9, 33) * factors[:9], normal(rng, 1500, 33) * factors


def subnormal(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, 9, 33) * np.float32(1e-39), normal(rng, 1500, 33)


def overflowing(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = normal(rng, 9, 33) * np.float32(1e30), normal(rng, 1500, 33)
    corpus[::2] *= np.float32(1e30)
    corpus[40:60] = np.float32(3e38)  # norms beyond float32
    return queries, corpus


@pytest.mark.parametrize("build", [near_ties, duplicates, small_integers, wild_norms, subnormal, overflowing])
def test_adversarial_inputs(build: Callable[[np.random.Generator], tuple[Matrix, Matrix]]) -> None:
    rng = np.random.default_rng(7)
    queries, corpus = build(rng)
    check(queries, corpus, rng.integers(-1, len(corpus), (len(queries), 4)))


@settings(max_examples=60, deadline=None)
@given(
    nq=st.integers(0, 40),
    n=st.integers(0, 60),
    dim=st.integers(1, 20),
    per_query=st.integers(0, 4),
    integers=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_small_shape(nq: int, n: int, dim: int, per_query: int, integers: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, corpus = normal(rng, nq, dim), normal(rng, n, dim)
    if integers:
        queries, corpus = queries.round(), corpus.round()
    check(
        queries, corpus, rng.integers(-1, max(n, 0), (nq, per_query)) if n else np.full((nq, per_query), -1)
    )


def test_threads_do_not_show(restore_threads: None) -> None:
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 70, 33), normal(rng, 3000, 33).round(1)
    targets = rng.integers(-1, 3000, (70, 2))
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        results.append([ranks(queries[:rows], corpus, targets[:rows]) for rows in (1, 5, 70)])
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


def test_torch_numpy_and_mixed() -> None:
    rng = np.random.default_rng(2)
    queries, corpus, targets = normal(rng, 7, 8), normal(rng, 31, 8), rng.integers(0, 31, 7)
    expected = ranks(queries, corpus, targets)
    assert isinstance(expected, np.ndarray)
    mixed = ranks(torch.from_numpy(queries), corpus, targets)
    assert isinstance(mixed, torch.Tensor)
    np.testing.assert_array_equal(mixed.numpy(), expected)
    assert isinstance(ranks(queries, corpus, torch.from_numpy(targets)), torch.Tensor)


Q, C, T = torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("error", "match", "args"),
    [
        (
            ValueError,
            r"targets: found 5 in row 1, expected -1 or an index below 5",
            (Q, C, T + torch.tensor([0, 5, 0])),
        ),
        (ValueError, r"targets: found -2 in row 0", (Q, C, T - 2)),
        (ValueError, r"targets: found shape \(2,\), expected \(3,\) or \(3, t\)", (Q, C, T[:2])),
        (ValueError, r"targets: found shape \(3, 1, 1\)", (Q, C, T[:, None, None])),
        (TypeError, r"targets: found dtype torch.int32, expected torch.int64", (Q, C, T.int())),
        (TypeError, r"corpus: found dtype torch.float64, expected torch.float32", (Q, C.double(), T)),
        (
            ValueError,
            r"corpus: row 1 holds a NaN or an infinity",
            (Q, C + torch.tensor([[0], [torch.nan]] + [[0]] * 3), T),
        ),
    ],
)
def test_errors_name_the_argument(error: type, match: str, args: tuple[Any, ...]) -> None:
    with pytest.raises(error, match=match):
        ranks(*args)
