"""What numerics.md assumes of sums on tensor cores, against the published models of them (tests/tensor_cores.py)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyhbt.ops.cuda.halves import halve
from tests.tensor_cores import A100, H100, TENSOR_CORES, V100, TensorCore

Halves = npt.NDArray[np.float16]
CORES = pytest.mark.parametrize("core", TENSOR_CORES, ids=lambda core: core.name)


def worst(core: TensorCore, left: Halves, right: Halves) -> float:
    """The largest error of the rows' sums, in units of d 2^-22 |left| |right|, the bound; exact sums are float64's."""
    wide = left.astype(np.float64), right.astype(np.float64)
    exact = (wide[0] * wide[1]).sum(axis=1)  # within d 2^-53: nothing beside 2^-24
    sizes = np.linalg.norm(wide[0], axis=1) * np.linalg.norm(wide[1], axis=1)
    bound = left.shape[1] * 2.0**-22 * sizes
    return float((np.abs(core.dot(left, right) - exact) / bound).max())


def as_stored(rows: npt.NDArray[np.float64]) -> Halves:
    found: Halves = halve(torch.from_numpy(np.ascontiguousarray(rows)).float(), None).halves.numpy()
    return found


@CORES
@pytest.mark.parametrize("dim", [1, 3, 16, 17, 384, 1024])
@pytest.mark.parametrize("kind", ["gaussian", "heavy", "positive", "parallel", "opposite"])
def test_random_rows(core: TensorCore, dim: int, kind: str) -> None:
    generator = np.random.default_rng(dim)
    left, right = generator.standard_normal((2, 300, dim))
    if kind == "heavy":
        left, right = left**5, right**5
    elif kind == "positive":
        left, right = np.abs(left), np.abs(right)
    elif kind == "parallel":
        right = left + 1e-3 * right
    elif kind == "opposite":  # halves that cancel: what is left is all error
        half = dim // 2
        left[:, half : 2 * half], right[:, half : 2 * half] = left[:, :half], -right[:, :half]
    assert worst(core, as_stored(left), as_stored(right)) <= 1


def adversarial(dim: int) -> list[tuple[Halves, Halves]]:
    """Rows made to lose as much as cutting off can take."""
    ones = np.ones((1, dim))
    below = np.nextafter(np.float16(2), np.float16(0))  # all bits set: a product that ends far down
    first = np.zeros((1, dim))
    first[0, 0] = 1
    rows = [
        (np.full((1, dim), float(below)), np.full((1, dim), float(below))),  # carries at every step
        (ones + 1023 * first, ones * float(below) / 2),  # one large, all others cut off
        (ones + 511 * first, ones * 2.0**-10 * float(below)),
        (ones + 1023 * first, ones * 2.0**-3 * float(below)),
        (
            np.where(np.arange(dim) % 2 == 0, 1.0, -1.0)[None] * float(below),
            ones,
        ),  # cut towards zero, both ways
        (np.exp2(-(np.arange(dim) % 24.0))[None] * float(below), ones * float(below)),  # falling, by blocks
        (np.exp2((np.arange(dim) % 24.0) - 24)[None] * float(below), ones * float(below)),  # rising
    ]
    last = ones.copy()
    last[0, -1] = -float(dim - 1)  # all cancels at the end
    rows.append((last * float(below), ones))
    return [(as_stored(left), as_stored(right)) for left, right in rows]


@CORES
@pytest.mark.parametrize("dim", [2, 5, 16, 17, 64, 384, 1024])
def test_adversarial_rows(core: TensorCore, dim: int) -> None:
    for left, right in adversarial(dim):
        assert worst(core, left, right) <= 1


@CORES
def test_rows_found_by_search(core: TensorCore) -> None:
    """Hill climbing on the error itself, from several starts: the bound is not only a matter of luck."""
    generator = np.random.default_rng(5)
    found = 0.0
    for _ in range(4):
        left, right = (as_stored(np.abs(generator.standard_normal((1, 32)))) for _ in range(2))
        best = worst(core, left, right)
        for _ in range(150):
            tried = [left.copy(), right.copy()]
            chosen = generator.integers(0, 32, 3)
            side = int(generator.integers(2))
            tried[side][0, chosen] = np.exp2(generator.uniform(-8, 10, 3)).astype(np.float16)
            error = worst(core, tried[0], tried[1])
            if error > best:
                best, (left, right) = error, tried
        found = max(found, best)
    assert 0 < found <= 1


def test_the_model_cuts_where_the_generations_do() -> None:
    """One number of 1 with many of a bit below the last: V100 loses them one by one, later ones by larger blocks."""
    left, right = np.ones((1, 32), np.float16), np.full((1, 32), 2.0**-24, np.float16)
    left[0, 0], right[0, 0] = 1, 1
    lost = [float(1 + 31 * 2.0**-24 - core.dot(left, right)[0]) for core in TENSOR_CORES]
    assert V100.dot(left, right)[0] == 1
    assert lost[0] == 31 * 2.0**-24
    assert lost[0] >= lost[1] >= lost[2]
    assert H100.dot(left, right)[0] > 1


@CORES
def test_the_model_is_exact_where_nothing_is_cut_off(core: TensorCore) -> None:
    generator = np.random.default_rng(3)
    left, right = generator.integers(-31, 32, (2, 50, 40)).astype(np.float16)
    exact = [
        sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(one, other, strict=True))
        for one, other in zip(left, right, strict=True)
    ]
    assert core.dot(left, right).tolist() == [float(x) for x in exact]
    assert A100.products == 8
