"""Linear contrasts of arms over two crossed random levels, seeds and clusters of queries: estimate, interval, test.

With s seeds and c clusters, a contrast of macro means has the value d_s in each seed, and each cluster the influence
z_sc on it (:meth:`pyhbt.evaluation.result.Evaluation.influences`). In the two-way random model
d_sc = mu + A_s + B_c + (AB)_sc, with variances of A, B and AB per seed, cluster and both, the mean over seeds has the
variance

    V = A/s + B/c + AB/(sc).

Its parts are estimated from three mean squares, as in the analysis of variance of a balanced two-way layout (Searle,
Casella and McCulloch 1992, Variance Components, section 4.3):

    S = sum_s (d_s - d)^2 / (s (s - 1))              estimates A/s + AB/(sc)
    C = c / (c - 1) sum_c (mean_s z_sc)^2            estimates B/c + AB/(sc)
    I = c sum_sc (z_sc - mean_s z_sc)^2 / (s (s - 1) (c - 1))   estimates AB/(sc)

so that V is C + max(S - I, 0): no less than what queries alone give. The levels have different degrees of freedom, and
often two for the seeds. The critical value is the mean of both Student quantiles, in the manner of Cochran and Cox
(1957, Experimental Designs, section 4.14): the seeds' has the weight (S - 0.4 I) / V, within 0 and 1, the queries' the
rest. In the balanced normal model, with 3 seeds or more, 10 clusters or more and any mixture of the three variances,
2 to 6.5 % of true nulls are rejected at 5 %: 5 % where one of seeds and queries varies alone, the least where only both
together do, the most where seeds vary much and both a little. Weights of S / V reject 0.7 to 5 %, of (S - I / 2) / V up
to 7 %. With two seeds up to 10 % are rejected. Fewer than some 25 clusters, a few of them far larger than the rest,
reject up to 10 % as well: the linearisation and the variance over clusters need many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

_FEWEST_DEGREES = 2.0  # of clusters of very unequal influence
_NORMAL_FOURTH = 3.0  # fourth moment of a normal variable over its squared variance
_SHARE_OF_BOTH = 0.4  # of I, which S holds too, that the seeds' weight leaves out


class Interval(NamedTuple):
    """A mean and its two-sided confidence limits; NaN where they do not exist."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Distance from the mean to either limit."""
        return (self.high - self.low) / 2


class Endpoint(NamedTuple):
    """Final scores of a arms with s seeds, and the influences of c clusters of queries on them.

    ``means`` is float64 (a, s), NaN where a cell is missing; ``influences`` (a, s, c), each row of a cell summing to 0;
    c is 0 where influences were not kept.
    """

    means: NDArray[np.float64]
    influences: NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A contrast and what its uncertainty is made of.

    ``seed_variance`` and ``cluster_variance`` are the two parts of the variance of ``value``; ``seeds`` and
    ``clusters`` are how many it rests on, ``cluster_degrees`` the degrees of freedom of the clusters' part. With one
    seed there is no interval and no test: it says nothing of the next.
    """

    value: float
    seed_variance: float
    cluster_variance: float
    seed_weight: float
    seeds: int
    clusters: int
    cluster_degrees: float

    @property
    def variance(self) -> float:
        """Of ``value``; NaN with one seed."""
        return self.seed_variance + self.cluster_variance

    @property
    def standard_error(self) -> float:
        """Its square root."""
        return math.sqrt(self.variance) if self.variance >= 0 else math.nan

    def critical(self, level: float = 0.95) -> float:
        """Standard errors from the value to either limit of its interval."""
        return self._quantile((1 + level) / 2)

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided confidence limits at ``level``.

        Raises:
            ValueError: ``level`` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level: found {level}, expected a value between 0 and 1")
        half = self.standard_error and self.critical(level) * self.standard_error
        return Interval(self.value, self.value - half, self.value + half)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of the hypothesis that the true value is ``null``."""
        tail = min(self.p_above(null), self.p_below(null))
        return min(1.0, 2 * tail) if not math.isnan(tail) else math.nan

    def p_above(self, null: float = 0.0) -> float:
        """One-sided p-value of the hypothesis that the true value is ``null`` or less."""
        return self._tail(self.value - null)

    def p_below(self, null: float = 0.0) -> float:
        """One-sided p-value of the hypothesis that the true value is ``null`` or more."""
        return self._tail(null - self.value)

    def _quantile(self, share: float) -> float:
        """Of the reference distribution of the studentised value."""
        total = self.variance
        if not total > 0:
            return 0.0 if total == 0 else math.nan
        parts = (
            (self.seed_weight, float(self.seeds - 1)),
            (1 - self.seed_weight, self.cluster_degrees),
        )
        return sum(weight * float(special.stdtrit(degrees, share)) for weight, degrees in parts if weight > 0)

    def _tail(self, distance: float) -> float:
        """Probability of a value at least ``distance`` above the null by chance."""
        error = self.standard_error
        if math.isnan(error) or math.isnan(distance):
            return math.nan
        if error == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        studentised = abs(distance) / error
        if studentised > self._quantile(1 - _SMALLEST_TAIL):
            tail = _SMALLEST_TAIL
        elif studentised == 0:
            tail = 0.5
        else:
            tail = optimize.brentq(
                lambda p: self._quantile(1 - p) - studentised, _SMALLEST_TAIL, 0.5, xtol=1e-14
            )
        return float(tail if distance > 0 else 1 - tail)


_SMALLEST_TAIL = 1e-12


def contrast(endpoint: Endpoint, weights: ArrayLike) -> Estimate:
    """The mean over seeds of ``sum_a weights[a] * means[a]``, ``weights`` (a,), over the seeds that these arms share.

    O(a s c). NaN where no seed is shared.

    Raises:
        ValueError: shapes that do not fit, or weights that are all 0.
    """
    (estimate,) = contrasts(endpoint, np.asarray(weights, dtype=np.float64)[None])
    return estimate


def contrasts(endpoint: Endpoint, weights: NDArray[np.float64]) -> list[Estimate]:
    """Several contrasts (g, a) at once, over the seeds that all arms of any weight share. O(g a s c).

    Raises:
        ValueError: shapes that do not fit, or weights that are all 0.
    """
    means, influences = endpoint
    if weights.shape[1:] != means.shape[:1] or influences.shape[:2] != means.shape:
        raise ValueError(
            f"weights: found shape {weights.shape[1:]} beside means {means.shape} and influences {influences.shape}"
        )
    used = np.flatnonzero(weights.any(axis=0))
    if not used.size:
        raise ValueError("weights: found zeros alone, expected a contrast of arms")
    shared = ~np.isnan(means[used]).any(axis=0)
    values = weights[:, used] @ means[used][:, shared]
    moved = np.tensordot(weights[:, used], influences[used][:, shared], axes=1)
    return estimates_of(values, moved)


def estimates_of(values: NDArray[np.float64], influences: NDArray[np.float64]) -> list[Estimate]:
    """Estimates from one value a seed (g, s) and the influences on it (g, s, c); c may be 0."""
    number, seeds, clusters = influences.shape
    if not seeds:
        return [Estimate(math.nan, math.nan, math.nan, math.nan, 0, clusters, math.nan)] * number
    average = influences.mean(axis=1)
    queries, degrees = _of_clusters(average)
    if seeds == 1:
        by_seed = weights = np.full(number, np.nan)
    else:
        both = np.zeros(number)
        if clusters > 1:
            rest = ((influences - average[:, None]) ** 2).sum(axis=(1, 2))
            both = clusters * rest / (seeds * (seeds - 1) * (clusters - 1))
        square = values.var(axis=1, ddof=1) / seeds
        by_seed = np.maximum(square - both, 0.0)
        weights = seed_weight(square, both, by_seed + queries)
    columns = values.mean(axis=1), by_seed, queries, weights, degrees
    return [
        Estimate(mean, seed, cluster, weight, seeds, clusters, freedom)
        for mean, seed, cluster, weight, freedom in zip(*(column.tolist() for column in columns), strict=True)
    ]


def seed_weight(
    square: NDArray[np.float64], both: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weight of the seeds' quantile, from the mean squares S and I and the variance V, all (g,)."""
    share = np.divide(square - _SHARE_OF_BOTH * both, variance, out=np.zeros(len(square)), where=variance > 0)
    return np.clip(share, 0.0, 1.0)


def _of_clusters(average: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance (g,) from the clusters' influences (g, c), and its degrees of freedom (g,).

    They are c - 1 for equal clusters and fewer for unequal ones: the effective number is that of a sum of squares,
    (sum z^2)^2 / sum z^4, times the 3 of normal variables.
    """
    number, clusters = average.shape
    if clusters < 2:
        return np.zeros(number), np.zeros(number)
    squares = average**2
    total, fourth = squares.sum(axis=1), (squares**2).sum(axis=1)
    effective = (
        np.divide(_NORMAL_FOURTH * total**2, fourth, out=np.full(number, np.inf), where=fourth > 0) - 1
    )
    degrees = np.clip(effective, min(_FEWEST_DEGREES, clusters - 1.0), clusters - 1.0)
    return clusters / (clusters - 1) * total, degrees


def seed_interval(values: Sequence[float] | NDArray[np.float64], level: float = 0.95) -> Interval:
    """Mean of one value a seed, ``values`` (n,), and its Student t interval at ``level``; NaN entries are left out.

    The limits of a single value are NaN.

    Raises:
        ValueError: ``level`` is not between 0 and 1.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    (estimate,) = estimates_of(known[None], np.empty((1, len(known), 0)))
    return estimate.interval(level)
