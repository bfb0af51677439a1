"""How many seeds and queries a difference needs to be found, from the spread of a study."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from pyhbt.study.statistics.contrasts import Endpoint, seed_weight

_MOST_SEEDS: Final = 1000
_MOST_TIMES_CLUSTERS: Final = 10_000
_LEVEL: Final = 0.05
_LOG_POINTS: Final = 9  # 512 points: probabilities to 0.005


class Components(NamedTuple):
    """Variances of a contrast: of one seed, of one cluster, and of one cluster in one seed; and how many were seen."""

    seed: float
    cluster: float
    both: float
    seeds: int
    clusters: int


def components(endpoint: Endpoint, weights: ArrayLike) -> Components:
    """The components of variance of a contrast, those below 0 taken as 0; NaN with fewer than two seeds or clusters.

    The three mean squares are those of :mod:`pyhbt.study.statistics.contrasts`.
    """
    row = np.asarray(weights, dtype=np.float64)
    used = np.flatnonzero(row)
    shared = ~np.isnan(endpoint.means[used]).any(axis=0)
    values = row[used] @ endpoint.means[used][:, shared]
    moved = np.tensordot(row[used], endpoint.influences[used][:, shared], axes=1)
    seeds, clusters = moved.shape
    if seeds < 2 or clusters < 2:
        return Components(math.nan, math.nan, math.nan, seeds, clusters)
    average = moved.mean(axis=0)
    spread = float(values.var(ddof=1)) / seeds
    queries = clusters / (clusters - 1) * float((average**2).sum())
    both = clusters * float(((moved - average) ** 2).sum()) / (seeds * (seeds - 1) * (clusters - 1))
    return Components(
        max(spread - both, 0.0) * seeds,
        max(queries - both, 0.0) * clusters,
        both * seeds * clusters,
        seeds,
        clusters,
    )


def power(found: Components, difference: float, seeds: int, clusters: int, level: float = _LEVEL) -> float:
    """Probability that a true difference is significant, two-sided at ``level``, with so many seeds and clusters.

    The test is that of :class:`pyhbt.study.statistics.contrasts.Estimate`. Its three mean squares are chi-squared in
    the two-way random model; the normal probability of a rejection given them is averaged over a fixed quasi-random
    sample of them, so that results repeat. NaN for one seed or one cluster.
    """
    if seeds < 2 or clusters < 2 or math.isnan(found.seed):
        return math.nan
    both = found.both / (seeds * clusters)
    by_seed, by_cluster = found.seed / seeds + both, found.cluster / clusters + both
    total = found.seed / seeds + by_cluster
    if total == 0:
        return float(difference != 0)
    freedom = seeds - 1, clusters - 1, (seeds - 1) * (clusters - 1)
    squares = [
        expected * stats.chi2.ppf(column, degrees) / degrees
        for expected, degrees, column in zip((by_seed, by_cluster, both), freedom, _points().T, strict=True)
    ]
    variance = np.maximum(squares[0] - squares[2], 0.0) + squares[1]
    weights = seed_weight(squares[0], squares[2], variance)
    by_level = [float(special.stdtrit(degrees, 1 - level / 2)) for degrees in freedom[:2]]
    limits = (weights * by_level[0] + (1 - weights) * by_level[1]) * np.sqrt(variance)
    error = math.sqrt(total)
    found_up = stats.norm.sf((limits - abs(difference)) / error)
    return float(np.mean(found_up + stats.norm.cdf((-limits - abs(difference)) / error)))


@cache
def _points() -> NDArray[np.float64]:
    """Points of the unit cube, float64 (n, 3), spread evenly; the same in every process."""
    drawn: NDArray[np.float64] = stats.qmc.Sobol(3, scramble=True, seed=0).random_base2(_LOG_POINTS)
    return np.clip(drawn, 1e-9, 1 - 1e-9)


def seeds_needed(found: Components, difference: float, share: float = 0.8) -> int | None:
    """Fewest seeds, three at least, that find a difference with probability ``share`` at the clusters there are.

    None where a thousand do not: queries alone leave too much open.
    """
    return _fewest(lambda seeds: power(found, difference, seeds, found.clusters) >= share, 3, _MOST_SEEDS)


def clusters_needed(found: Components, difference: float, share: float = 0.8) -> int | None:
    """Fewest clusters of queries that find a difference with probability ``share`` at the seeds there are.

    None where 10,000 times as many do not: seeds alone leave too much open.
    """
    most = max(found.clusters, 1) * _MOST_TIMES_CLUSTERS
    return _fewest(lambda clusters: power(found, difference, found.seeds, clusters) >= share, 2, most)


def smallest_found(found: Components, share: float = 0.8) -> float:
    """The smallest difference that a study of the same size finds with probability ``share``; NaN for one seed."""
    if math.isnan(power(found, 1.0, found.seeds, found.clusters)):
        return math.nan
    low, high = 0.0, 1.0
    while power(found, high, found.seeds, found.clusters) < share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if power(found, middle, found.seeds, found.clusters) < share:
            low = middle
        else:
            high = middle
    return high


def _fewest(enough: Callable[[int], bool], first: int, most: int) -> int | None:
    """The smallest number in a range for which a condition that stays true holds."""
    if not enough(most):
        return None
    low, high = first - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
