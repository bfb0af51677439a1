"""Tests, intervals and learning-curve measures of the ratio study.

Everything works on float64 arrays of shape (n,) or, for :func:`randomisation_tests`, (n, m) with one
comparison a column. NaN means "not measured": such entries are left out, and a result that nothing is left for
is NaN.

Sources: paired randomisation in retrieval: Smucker, Allan & Carterette, CIKM 2007,
doi:10.1145/1321440.1321528; never reporting p = 0: Phipson & Smyth 2010, doi:10.2202/1544-6115.1585; step-down
correction: Holm 1979, Scand. J. Statist. 6(2), 65-70.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from pyhbt.arguments import check_at_least

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_CHUNK = 1000  # resamples held at once: 8 * _CHUNK * n bytes
_SLACK = 1e-12  # sums closer than this share of the sum of |differences| are ties: only rounding parts them


class Interval(NamedTuple):
    """A mean and its two-sided confidence limits; NaN where they do not exist."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Distance from the mean to either limit."""
        return (self.high - self.low) / 2


def randomisation_test(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p-value of the paired randomisation (sign-flip) test on the mean difference over units.

    Under the null hypothesis the two scores of a unit may be swapped. See :func:`randomisation_tests`, which this calls
    with one column.

    Args:
        first: (n,), the score of each unit under one system.
        second: (n,), under the other.
        resamples: as for :func:`randomisation_tests`, like ``seed``.

    Raises:
        ValueError: shapes that differ or are not (n,), an infinite score, ``resamples`` below 1.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1:
        raise ValueError(f"first: found {one.ndim} dimensions, expected 1")
    if one.shape != two.shape:
        raise ValueError(f"second: found shape {two.shape}, expected that of first, {one.shape}")
    return float(randomisation_tests(one[:, None], two[:, None], resamples=resamples, seed=seed)[0])


def randomisation_tests(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, seed: int = 0
) -> NDArray[np.float64]:
    """P-values (m,) of m paired two-sided randomisation tests; ``first`` and ``second`` are both (n, m).

    A unit that is NaN in either side of a column is left out of it; a column without units gives NaN, one without
    differences 1. Where all ``2**u`` sign patterns of a column's u non-zero differences are at most ``resamples``, they
    are counted, and p is exact; else ``resamples`` patterns are drawn (the same for every column) and p = (count + 1) /
    (resamples + 1). So p is never 0, and does not depend on the other columns. Time O(resamples * n * m), extra memory
    O(1000 * (n + m)).

    Raises:
        ValueError: shapes that differ or are not (n, m), an infinite score, ``resamples`` below 1.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 2:
        raise ValueError(f"first: found {one.ndim} dimensions, expected 2")
    if one.shape != two.shape:
        raise ValueError(f"second: found shape {two.shape}, expected that of first, {one.shape}")
    check_at_least("resamples", resamples, 1)
    for name, scores in (("first", one), ("second", two)):
        if np.isinf(scores).any():
            raise ValueError(f"{name}: found an infinite score, expected finite ones or NaN")

    left_out = np.isnan(one) | np.isnan(two)
    # A unit left out and a difference of 0 alike add nothing to any signed sum.
    differences = np.where(left_out, 0.0, one - two)
    changed = np.count_nonzero(differences, axis=0)
    p_values = np.full(differences.shape[1], np.nan)
    drawn: list[int] = []
    for column in np.flatnonzero((~left_out).any(axis=0)):
        if changed[column] < resamples.bit_length():  # 2**changed <= resamples
            values = differences[differences[:, column] != 0, column]
            patterns = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
            p_values[column] = np.mean(_as_extreme(patterns.astype(np.float64), values[:, None]))
        else:
            drawn.append(int(column))
    if drawn:
        p_values[drawn] = _drawn_p_values(differences[:, drawn], resamples, seed)
    return p_values


def _drawn_p_values(differences: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Monte Carlo p-values (m,) of ``differences`` (n, m)."""
    rng = np.random.default_rng(seed)
    units, columns = differences.shape
    count = np.zeros(columns, dtype=np.int64)
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        packed = rng.integers(0, 256, size=(rows, -(-units // 8)), dtype=np.uint8)
        patterns = np.unpackbits(packed, axis=1, count=units).astype(np.float64)
        count += _as_extreme(patterns, differences).sum(axis=0)
    p_values: NDArray[np.float64] = (count + 1) / (resamples + 1)
    return p_values


def _as_extreme(patterns: NDArray[np.float64], differences: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each 0/1 pattern of kept signs (r, n) gives a sum as far from 0 as observed: (r, m)."""
    total = differences.sum(axis=0)
    sums = 2.0 * (patterns @ differences) - total
    slack = _SLACK * np.abs(differences).sum(axis=0)
    extreme: NDArray[np.bool_] = np.abs(sums) >= np.abs(total) - slack
    return extreme


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values (m,) adjusted for testing all m together (Holm's step-down; valid under any dependence).

    NaN stays NaN and is not counted among the m. O(m log m).

    Raises:
        ValueError: not (m,), or a value outside [0, 1].
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if raw.ndim != 1:
        raise ValueError(f"p_values: found {raw.ndim} dimensions, expected 1")
    if ((raw < 0) | (raw > 1)).any():
        raise ValueError(f"p_values: found {raw[(raw < 0) | (raw > 1)][0]}, expected values in [0, 1]")
    adjusted: NDArray[np.float64] = raw.copy()
    order = np.argsort(raw, kind="stable")[: np.count_nonzero(~np.isnan(raw))]  # NaN sorts last
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def seed_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of one value a seed, ``values`` (n,), and its Student t interval at ``level``.

    The limits of a single value are NaN: one seed says nothing about the spread over seeds.

    Raises:
        ValueError: ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: found {level}, expected a value between 0 and 1")
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(known.mean())
    if known.size == 1:
        return Interval(mean, np.nan, np.nan)
    quantile = float(special.stdtrit(known.size - 1, (1 + level) / 2))
    half = float(quantile * known.std(ddof=1) / np.sqrt(known.size))
    return Interval(mean, mean - half, mean + half)


def steps_to_reach(steps: ArrayLike, values: ArrayLike, target: float) -> float | None:
    """Training steps until a learning curve first reaches ``target``; None if it never does.

    ``values[i]`` was measured after ``steps[i]`` steps, which ascend. Between two evaluations the curve is taken to be
    straight, so the answer may fall between steps.

    Raises:
        ValueError: shapes that differ, or steps that do not ascend.
    """
    at, value = _curve(steps, values)
    reached = np.flatnonzero(value >= target)
    if not reached.size:
        return None
    i = int(reached[0])
    if i == 0:
        return float(at[0])
    share = (target - value[i - 1]) / (value[i] - value[i - 1])
    return float(at[i - 1] + share * (at[i] - at[i - 1]))


def normalised_area(steps: ArrayLike, values: ArrayLike, reference: float) -> float:
    """Mean height of a learning curve over its steps (trapezoid rule), divided by ``reference``.

    1 is a curve that stands at the reference from the first step on. NaN for fewer than two evaluations, or for a
    reference that is not positive.

    Raises:
        ValueError: shapes that differ, or steps that do not ascend.
    """
    at, value = _curve(steps, values)
    if at.size < 2 or not reference > 0:
        return float("nan")
    area = np.sum((value[1:] + value[:-1]) / 2 * np.diff(at))
    return float(area / (at[-1] - at[0]) / reference)


def _curve(steps: ArrayLike, values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 (n,), without the entries whose value is NaN; steps must ascend."""
    at, value = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if at.ndim != 1 or at.shape != value.shape:
        raise ValueError(f"values: found shape {value.shape}, expected one entry a step, {at.shape}")
    if (np.diff(at) <= 0).any():
        raise ValueError(f"steps: found {at.tolist()}, expected ascending values")
    known = ~np.isnan(value)
    return at[known], value[known]
