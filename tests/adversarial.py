"""Data that exact search finds hard, and the comparison with the float64 twin, bit for bit.

Builders give 66 queries and their corpus: enough for screening by codes to be worth while, and passages enough for
thresholds to be guessed (csrc/cpu/sample.h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyhbt.ops import ranks, reference, search
from pyhbt.ops.checks import Array
from pyhbt.ops.filters import SearchFilter
from pyhbt.ops.search_checks import Screening, Similarity

Matrix = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Builder = Callable[[np.random.Generator], tuple[Matrix, Matrix]]

SCREENINGS: tuple[Screening, ...] = ("auto", "int8", "float32")
SIMILARITIES: tuple[Similarity, ...] = ("dot", "cosine")
NQ, N, DIM = 66, 2200, 33


def normal(rng: np.random.Generator, *shape: int) -> Matrix:
    return rng.standard_normal(shape).astype(np.float32)


def assert_same_bits(found: npt.NDArray[Any], expected: npt.NDArray[Any], what: str) -> None:
    assert found.dtype == expected.dtype, what
    integers = f"i{found.dtype.itemsize}"
    np.testing.assert_array_equal(found.view(integers), expected.view(integers), err_msg=what)


def as_floats(x: Array) -> Matrix:
    return x.float().numpy() if isinstance(x, torch.Tensor) else x


def check_search(
    queries: Array,
    corpus: Array,
    ks: Iterable[int],
    *,
    rows: Iterable[int] | None = None,
    similarity: Similarity = "dot",
    filter: SearchFilter | None = None,
    accepts: Mask | None = None,
    screenings: Iterable[Screening] = SCREENINGS,
) -> None:
    """Of each number of first queries in ``rows``, k and screening; ``accepts`` is what ``filter`` should mean."""
    ks = tuple(ks)
    scores, indices = reference.search(
        as_floats(queries), as_floats(corpus), max(ks), similarity=similarity, accepts=accepts
    )
    for nq in (len(queries),) if rows is None else rows:
        for k in ks:
            for screening in screenings:
                what = f"nq={nq} k={k} {similarity} {screening}"
                found = search(
                    queries[:nq], corpus, k, similarity=similarity, filter=filter, screening=screening
                )
                assert_same_bits(np.asarray(found[1]), indices[:nq, :k], what)
                assert_same_bits(np.asarray(found[0]), scores[:nq, :k], what)


def check_ranks(
    queries: Array,
    corpus: Array,
    targets: Positions,
    *,
    rows: Iterable[int] | None = None,
    similarity: Similarity = "dot",
    filter: SearchFilter | None = None,
    accepts: Mask | None = None,
    screenings: Iterable[Screening] = SCREENINGS,
) -> None:
    expected = reference.ranks(
        as_floats(queries), as_floats(corpus), targets, similarity=similarity, accepts=accepts
    )
    for nq in (len(queries),) if rows is None else rows:
        for screening in screenings:
            found = ranks(
                queries[:nq],
                corpus,
                targets[:nq],
                similarity=similarity,
                filter=filter,
                screening=screening,
            )
            assert_same_bits(np.asarray(found), expected[:nq], f"nq={nq} {similarity} {screening}")


def near_ties(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    base = normal(rng, 1, DIM)
    return normal(rng, NQ, DIM), (base * (1 + 1e-7 * rng.standard_normal((N, 1)))).astype(np.float32)


def near_ties_everywhere(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    base = normal(rng, 1, DIM)
    return normal(rng, NQ, DIM), (base * (1 + 1e-7 * rng.standard_normal((N, DIM)))).astype(np.float32)


def duplicates(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, NQ, DIM), np.repeat(normal(rng, 2, DIM), (2000, 1000), axis=0)


def small_integers(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, NQ, 5).round(), normal(rng, N, 5).round()


def one_hot(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    one = np.eye(DIM, dtype=np.float32)
    return one[rng.integers(0, DIM, NQ)], one[rng.integers(0, DIM, N)]


def wild_norms(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    factors = np.exp(rng.uniform(-9, 9, (N, 1))).astype(np.float32)
    return normal(rng, NQ, DIM) * factors[:NQ], normal(rng, N, DIM) * factors


def outlier_dimension(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = normal(rng, NQ, DIM), normal(rng, N, DIM)
    queries[:, 5] *= 200
    corpus[:, 5] *= 200
    return queries, corpus


def offset_dimension(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = normal(rng, NQ, DIM), normal(rng, N, DIM)
    corpus[:, 5] += 1000
    return queries, corpus


def far_from_origin(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, NQ, DIM), 1000 + np.float32(1e-3) * normal(rng, N, DIM)


def both_far_from_origin(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return 1000 + normal(rng, NQ, DIM), 1000 + np.float32(1e-3) * normal(rng, N, DIM)


def one_ray(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """For cosine nothing but rounding tells the passages apart."""
    ray = np.abs(normal(rng, 1, DIM))
    return normal(rng, NQ, DIM), ray * np.exp(normal(rng, N, 1))


def along_the_mean(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Nothing of the queries is left beside the direction that codes take out."""
    corpus = np.float32(3) + normal(rng, N, DIM)
    return normal(rng, NQ, 1) * corpus.astype(np.float64).mean(axis=0).astype(np.float32), corpus


def all_negative(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return np.abs(normal(rng, NQ, DIM)), -np.abs(normal(rng, N, DIM))


def zero_rows(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = normal(rng, NQ, DIM), normal(rng, N, DIM)
    queries[::3] = 0
    corpus[::3] = 0
    return queries, corpus


def cancelling(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    half = normal(rng, N, 16) * np.float32(1e6)
    return np.ones((NQ, DIM), np.float32), np.concatenate([half, -half, normal(rng, N, 1)], axis=1)


def scaled(queries: float, corpus: float) -> Builder:
    def build(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
        left, right = (normal(rng, rows, DIM) * np.float32(1e-3) for rows in (NQ, N))
        return left * np.float32(1e3 * queries), right * np.float32(1e3 * corpus)

    build.__name__ = f"scaled_{queries:g}_{corpus:g}"
    return build


def subnormal_integers(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """The smallest numbers there are: products of codes cannot see them."""
    return normal(rng, NQ, DIM), (4 * normal(rng, N, DIM)).round() * np.float32(1.4e-45)


def largest_numbers(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = (np.float32(3e38) * np.sign(normal(rng, rows, DIM)) for rows in (NQ, N))
    return queries, corpus


def overflowing_in_part(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = normal(rng, NQ, DIM), normal(rng, N, DIM)
    corpus[700:710] *= np.float32(3e37)
    queries[4::7] *= np.float32(3e37)
    return queries, corpus


def norms_beyond_float32(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    corpus = normal(rng, N, DIM)
    corpus[40:90] = np.float32(3e38) * np.sign(corpus[40:90])
    return normal(rng, NQ, DIM) * np.float32(1e-3), corpus


def beyond_codes_in_part(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Rows around 2^60, where int8 codes end, beside tiny ones and ordinary ones."""
    factors = np.ones((N, 1), np.float32)
    factors[::50] = 2.0**60 * np.exp(rng.uniform(-2, 2, (N // 50, 1)))
    factors[1::50] = 1e-30
    return normal(rng, NQ, DIM), normal(rng, N, DIM) * factors


def best_in_one_place(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    wanted = normal(rng, 1, 16)
    corpus = np.float32(0.1) * normal(rng, 8192, 16)
    corpus[5000:5400] += wanted
    return wanted + np.float32(0.1) * normal(rng, NQ, 16), corpus


def rising(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Every passage is better than all before."""
    wanted = normal(rng, 1, 16)
    corpus = normal(rng, 8192, 16)
    return wanted + np.float32(0.02) * normal(rng, NQ, 16), corpus[np.argsort(corpus @ wanted[0])]


def periodic(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    wanted = normal(rng, 1, 16)
    corpus = (
        normal(rng, 8192, 16) + np.sin(np.arange(8192) * (np.pi / 4)).astype(np.float32)[:, None] * wanted
    )
    return wanted + np.float32(0.1) * normal(rng, NQ, 16), corpus


def sample_is_better_than_the_rest(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """The passages that csrc/cpu/sample.cpp draws, for samples of 256 and of 1024, so that its guesses are too high."""
    wanted = normal(rng, 1, 16)
    corpus = normal(rng, 8192, 16)
    for size in (256, 1024):
        start = 8192 * np.arange(size, dtype=np.uint64) // np.uint64(size)
        places = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
        corpus[start + places % np.uint64(8192 // size)] += 4 * wanted
    return wanted + np.float32(0.1) * normal(rng, NQ, 16), corpus


BUILDERS: tuple[Builder, ...] = (
    near_ties,
    near_ties_everywhere,
    duplicates,
    small_integers,
    one_hot,
    wild_norms,
    outlier_dimension,
    offset_dimension,
    far_from_origin,
    both_far_from_origin,
    one_ray,
    along_the_mean,
    all_negative,
    zero_rows,
    cancelling,
    scaled(1e-39, 1e-3),
    scaled(1, 1e-42),
    scaled(1e-42, 1e-42),
    scaled(1e-22, 1e-23),
    scaled(1e-30, 1),
    scaled(1, 1e-30),
    scaled(1e30, 1e30),
    scaled(1, 1e17),
    subnormal_integers,
    largest_numbers,
    overflowing_in_part,
    norms_beyond_float32,
    beyond_codes_in_part,
    best_in_one_place,
    rising,
    periodic,
    sample_is_better_than_the_rest,
)
