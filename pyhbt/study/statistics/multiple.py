"""Many comparisons at once: Holm's correction, and the arms that are not worse than the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyhbt.study.statistics.contrasts import Endpoint, Estimate, contrast

_LEVEL = 0.05
_SEEDS_TESTED = 3


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values (m,) adjusted for testing all m together (Holm's step-down; valid under any dependence).

    Holm 1979, Scand. J. Statist. 6(2), 65-70. NaN stays NaN and is not counted among the m. O(m log m).

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


class BestArms(NamedTuple):
    """The arm of the best mean and those that are not significantly worse; arms are places.

    ``estimate`` is of ``best`` minus ``runner_up``, ``adjusted`` its one-sided p-value after Holm; ``members`` is None,
    and ``adjusted`` NaN, where seeds are too few for a test.
    """

    best: int
    runner_up: int
    estimate: Estimate
    adjusted: float
    members: tuple[int, ...] | None


def not_worse(endpoint: Endpoint, places: Sequence[int], *, higher_is_better: bool = True) -> BestArms:
    """The arms at ``places`` that may be the best: the true best one is among them with a probability of 95 % at least.

    The arm of the best mean, over the seeds that all have where there are any, is compared with each other one,
    one-sided, and the p-values corrected after Holm; an arm leaves the set where it is significantly worse (multiple
    comparisons with the best: Hsu 1984, Ann. Statist. 12(3), 1136-1144, here step-down). Fewer than three shared seeds
    are not tested. O(arms s c).

    Raises:
        ValueError: fewer than two arms with scores.
    """
    sign = 1.0 if higher_is_better else -1.0
    known = [place for place in places if not np.isnan(endpoint.means[place]).all()]
    if len(known) < 2:
        raise ValueError(f"places: found {len(known)} arms with scores, expected two or more")
    shared = ~np.isnan(endpoint.means[known]).any(axis=0)
    means = {place: _mean(endpoint.means[place][shared if shared.any() else slice(None)]) for place in known}
    ordered = sorted(known, key=lambda place: -sign * means[place])
    best, *others = ordered
    estimates = []
    for other in others:
        weights = np.zeros(len(endpoint.means))
        weights[best], weights[other] = 1.0, -1.0
        estimates.append(contrast(endpoint, weights))
    tested = all(estimate.seeds >= _SEEDS_TESTED and estimate.clusters > 1 for estimate in estimates)
    if not tested:
        return BestArms(best, others[0], estimates[0], float("nan"), None)
    raw = [one.p_above() if higher_is_better else one.p_below() for one in estimates]
    adjusted = holm(raw)
    members = (best, *(other for other, p in zip(others, adjusted, strict=True) if not p < _LEVEL))
    return BestArms(best, others[0], estimates[0], float(adjusted[0]), tuple(sorted(members)))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
