"""Exact ranks against the float64 twin, bit for bit, and against search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import ranks, reference, search
from pyhbt.ops.search_checks import Screening, Similarity
from tests.adversarial import (
    BUILDERS,
    SCREENINGS,
    SIMILARITIES,
    Builder,
    Matrix,
    Positions,
    check_ranks,
    normal,
)

SIZES = (1, 2, 7, 8, 9, 31, 33, 127, 129)


def high_and_low(rng: np.random.Generator, queries: Matrix, corpus: Matrix) -> Positions:
    """(nq, 6): anywhere, or absent; the best and the third best, the best of another query; one of them twice."""
    _, best = reference.search(queries, corpus, min(3, len(corpus)))
    anywhere = rng.integers(-1, len(corpus), (len(queries), 2))
    return np.concatenate([anywhere, best[:, -1:], best[:, :1], best[::-1, :1], anywhere[:, :1]], axis=1)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("n", SIZES)
def test_awkward_sizes(n: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(n)
    for dim in (1, 7, 33):
        queries, corpus = normal(rng, 129, dim), normal(rng, n, dim)
        for shape in ((129,), (129, 3)):
            targets = rng.integers(-1, n, shape)
            check_ranks(queries, corpus, targets, rows=(1, 7, 33, 129), similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dim", [1, 2, 3, 63, 64, 65, 127, 129, 384, 1000, 4097])
def test_awkward_dims(dim: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(dim)
    queries, corpus = normal(rng, 5, dim), normal(rng, 500, dim)
    check_ranks(queries, corpus, high_and_low(rng, queries, corpus), rows=(1, 5), similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_numbers_of_queries(similarity: Similarity) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = normal(rng, 300, 9), normal(rng, 3000, 9).round(1)
    targets = high_and_low(rng, queries, corpus)
    check_ranks(queries, corpus, targets, rows=(1, 2, 3, 4, 5, 33, 64, 300), similarity=similarity)


@pytest.mark.parametrize("screening", SCREENINGS)
@pytest.mark.parametrize("t", [15, 16, 17, 24, 39, 256, 257, 272, 300])
def test_many_targets(t: int, screening: Screening) -> None:
    """From 16 on they are counted otherwise, and 256 at a time; some are absent, some tied, some the same."""
    rng = np.random.default_rng(t)
    queries, corpus = normal(rng, 19, 33), normal(rng, 700, 33)
    corpus[::3] = corpus[::3].round()
    corpus[300:400] = corpus[5]
    targets = rng.integers(-1, 700, (19, t))
    targets[3], targets[4] = 5, -1
    for kind in SIMILARITIES:
        found = ranks(queries, corpus, targets, similarity=kind, screening=screening)
        np.testing.assert_array_equal(found, reference.ranks(queries, corpus, targets, similarity=kind))


@pytest.mark.parametrize("screening", SCREENINGS)
def test_ranks_of_search_results_count_upwards(screening: Screening) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = normal(rng, 70, 33), normal(rng, 2500, 33).round(1)
    for similarity in SIMILARITIES:
        _, indices = search(queries, corpus, 200, similarity=similarity, screening=screening)
        found = ranks(queries, corpus, indices, similarity=similarity, screening=screening)
        np.testing.assert_array_equal(found, np.tile(np.arange(1, 201), (70, 1)))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_adversarial_inputs(build: Builder, similarity: Similarity) -> None:
    rng = np.random.default_rng(7)
    queries, corpus = build(rng)
    targets = high_and_low(rng, queries, corpus)
    check_ranks(queries, corpus, targets, rows=(1, 5, 66), similarity=similarity)


def test_more_targets_than_int16_counts() -> None:
    rng = np.random.default_rng(7)
    queries, corpus = normal(rng, 1, 3), normal(rng, 90, 3)
    check_ranks(queries, corpus, rng.integers(-1, 90, (1, 40_000)))


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
    targets = rng.integers(-1, n, (nq, per_query)) if n else np.full((nq, per_query), -1)
    for similarity in SIMILARITIES:
        check_ranks(queries, corpus, targets, similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("screening", SCREENINGS)
def test_threads_do_not_show(screening: Screening, similarity: Similarity, restore_threads: None) -> None:
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 300, 33), normal(rng, 5000, 33).round(1)
    targets = rng.integers(-1, 5000, (300, 2))
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        results.append(
            [
                ranks(queries[:rows], corpus, targets[:rows], similarity=similarity, screening=screening)
                for rows in (1, 5, 70, 300)
            ]
        )
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_same_numbers_widened(dtype: torch.dtype, similarity: Similarity) -> None:
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(66, 33, generator=generator)
    corpus = torch.randn(2200, 33, generator=generator)
    corpus[::50] *= 1e-6  # subnormal float16 numbers
    targets = np.random.default_rng(3).integers(-1, 2200, (66, 3))
    for left in (queries, queries.to(dtype)):
        check_ranks(left, corpus.to(dtype), targets, rows=(1, 5, 66), similarity=similarity)


@pytest.mark.parametrize("screening", SCREENINGS)
@pytest.mark.parametrize("rows", [1, 9, 70])
def test_first_non_finite_row_is_named(rows: int, screening: Screening) -> None:
    corpus = np.ones((5000, 8), np.float32)
    corpus[[4000, 300, 2500], [1, 7, 3]] = np.nan, np.inf, -np.inf
    for similarity in SIMILARITIES:
        with pytest.raises(ValueError, match="corpus: row 300 holds a NaN or an infinity"):
            ranks(
                np.zeros((rows, 8), np.float32),
                corpus,
                np.zeros(rows, np.int64),
                similarity=similarity,
                screening=screening,
            )


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
        (TypeError, r"corpus: found dtype torch.float64, expected one of torch.float32", (Q, C.double(), T)),
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
