"""Comparisons of arms in every endpoint: the primary ones, the secondary ones, and what each rests on.

Every arm is compared with the reference, the first arm (the lowest ratio), as a contrast of macro means over two random
levels, seeds and clusters of queries (:mod:`pyhbt.study.statistics.contrasts`): the difference that is tested is the
one that is printed. The comparisons in the primary endpoint are corrected after Holm, so that the chance of any false
one is 5 %; all others are secondary, and one false discovery rate of 5 % (Benjamini and Hochberg 1995, J. R. Statist.
Soc. B 57(1), 289-300) is kept over those that are distinct: two endpoints of the same language pairs are one.

Arms of different exposure in an endpoint (:mod:`pyhbt.study.seen`) are compared, marked, and never tested. Fewer than
three seeds are never tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pyhbt.evaluation.names import ALL_SETTINGS, ALL_TIERS, BIAS_METRICS, CENTRINGS, headline_metrics
from pyhbt.study.arms import Arm
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.scores import Scores
from pyhbt.study.seen import Exposures
from pyhbt.study.statistics.contrasts import Estimate
from pyhbt.study.statistics.multiple import holm

LEVEL: Final = 0.05
SEEDS_TESTED: Final = 3  # fewer say nothing about the next seed


@dataclass(frozen=True)
class Comparison:
    """An arm against the reference in one endpoint; ``estimate`` is of ``arm`` minus ``reference``, as printed.

    ``adjusted`` is its p-value within its family of ``family`` comparisons, NaN where it is not tested.
    """

    endpoint: EndpointName
    reference: Arm
    arm: Arm
    estimate: Estimate
    primary: bool
    same_exposure: bool
    adjusted: float = math.nan
    family: int = 0

    @property
    def tested(self) -> bool:
        """Whether it may be called significant or not."""
        return not math.isnan(self.adjusted)

    @property
    def significant(self) -> bool:
        """Whether the difference is."""
        return self.tested and self.adjusted < LEVEL


@dataclass(frozen=True)
class Comparisons:
    """Those of a study."""

    primary: EndpointName
    all: tuple[Comparison, ...]

    def find(self, endpoint: EndpointName, arm: Arm) -> Comparison | None:
        """The comparison of an arm in an endpoint, if it was made."""
        for comparison in self.all:
            if comparison.endpoint == endpoint and comparison.arm == arm:
                return comparison
        return None


def testable(estimate: Estimate) -> bool:
    """Whether an estimate rests on enough seeds, and on queries, to be tested."""
    return estimate.seeds >= SEEDS_TESTED and estimate.clusters > 1 and not math.isnan(estimate.p_value())


def compare_arms(scores: Scores, exposures: Exposures, primary: EndpointName) -> Comparisons:
    """Compare every arm with the reference of its endpoint, and test what may be tested.

    The reference is the first of the arms that are of equal exposure there; arms of other exposure are compared with it
    too, marked and untested. O(endpoints * arms * seeds * clusters).
    """
    found = [
        comparison
        for endpoint in compared_endpoints(scores, primary)
        for comparison in _against_reference(scores, exposures, endpoint, primary)
    ]
    first = [place for place, comparison in enumerate(found) if comparison.primary]
    other = [place for place, comparison in enumerate(found) if not comparison.primary]
    for places, adjust in ((first, holm), (other, _false_discovery_rate)):
        _adjust(found, exposures, places, adjust)
    return Comparisons(primary, tuple(found))


def compared_endpoints(scores: Scores, primary: EndpointName) -> list[EndpointName]:
    """The primary endpoint, then the secondary ones.

    These are the headline metrics and language bias in all settings and tiers, on every test set.
    """
    known = set(scores.endpoints)
    wanted = [
        EndpointName(setting, metric, tier, centring, split)
        for split in scores.splits
        for centring in CENTRINGS
        for metric in (*headline_metrics(scores.metrics(split)), *BIAS_METRICS)
        for setting in ALL_SETTINGS
        for tier in ALL_TIERS
    ]
    return list(dict.fromkeys(name for name in (primary, *wanted) if name in known))


def _against_reference(
    scores: Scores, exposures: Exposures, endpoint: EndpointName, primary: EndpointName
) -> list[Comparison]:
    arms = scores.measured(endpoint)
    comparable = exposures.comparable(endpoint, arms)
    if not comparable:
        return []
    reference = comparable[0]
    return [
        Comparison(
            endpoint,
            reference,
            arm,
            scores.difference(endpoint, reference, arm),
            primary=endpoint == primary,
            same_exposure=arm in comparable,
        )
        for arm in arms
        if arm != reference
    ]


def _adjust(
    found: list[Comparison],
    exposures: Exposures,
    places: Sequence[int],
    adjust: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    """Fill in the p-values of a family, each distinct hypothesis counted once."""
    groups: dict[Hashable, list[int]] = {}
    for place in places:
        comparison = found[place]
        if comparison.same_exposure and testable(comparison.estimate):
            endpoint = comparison.endpoint
            identity = (
                endpoint._replace(tier=""),
                exposures.pairs_of(endpoint),
                comparison.reference,
                comparison.arm,
            )
            groups.setdefault(identity, []).append(place)
    if not groups:
        return
    p_values = np.array([found[group[0]].estimate.p_value() for group in groups.values()])
    for group, adjusted in zip(groups.values(), adjust(p_values), strict=True):
        for place in group:
            found[place] = replace(found[place], adjusted=float(adjusted), family=len(groups))


def _false_discovery_rate(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    adjusted: NDArray[np.float64] = stats.false_discovery_control(p_values, method="bh")
    return adjusted
