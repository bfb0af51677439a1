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

from pyhbt.evaluation.names import ALL_TIERS, BIAS_METRICS, CENTRINGS, SETTINGS, headline_metrics
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.results import Influences, Results
from pyhbt.study.seen import Exposures
from pyhbt.study.statistics.contrasts import Endpoint, Estimate, contrast
from pyhbt.study.statistics.multiple import holm

LEVEL: Final = 0.05
SEEDS_TESTED: Final = 3  # fewer say nothing about the next seed


class Scores:
    """Macro means and influences of a study's cells, by endpoint and arm, aligned for contrasts."""

    def __init__(self, results: Results, influences: Influences) -> None:
        self.results = results
        self.influences = influences

    def of(self, endpoint: EndpointName, arms: Sequence[Arm]) -> Endpoint:
        """Means (a, s) and influences (a, s, c) of these arms over all seeds; NaN where a cell has none."""
        rows = self.results.macro(
            split=endpoint.split,
            setting=endpoint.setting,
            tier=endpoint.tier,
            metric=endpoint.metric,
            centring=endpoint.centring,
        )
        seeds = self.results.distinct("seed")
        shape = len(arms), len(seeds)
        means = np.full(shape, np.nan)
        moved = np.full((*shape, len(self.influences.clusters)), np.nan)
        for place, arm in enumerate(arms):
            values = rows.by_seed(arm=arm)
            for number, seed in enumerate(seeds):
                found = self.influences.cells.get(Cell(arm, seed), {}).get(endpoint.key)
                if seed in values and found is not None:
                    means[place, number] = values[seed]
                    moved[place, number] = found
        return Endpoint(means, moved)


@dataclass(frozen=True)
class Comparison:
    """Two arms in one endpoint; ``estimate`` is of ``second`` minus ``first``, as printed.

    ``adjusted`` is its p-value within its family of ``family`` comparisons, NaN where it is not tested.
    """

    endpoint: EndpointName
    first: Arm
    second: Arm
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

    def find(self, endpoint: EndpointName, first: Arm, second: Arm) -> Comparison | None:
        """The comparison of two arms in an endpoint, if it was made."""
        for comparison in self.all:
            if (comparison.endpoint, comparison.first, comparison.second) == (endpoint, first, second):
                return comparison
        return None


def compare_arms(scores: Scores, exposures: Exposures, primary: EndpointName) -> Comparisons:
    """Compare every arm with the reference of its endpoint, and test what may be tested.

    The reference is the first of the arms that are of equal exposure there; arms of other exposure are compared with it
    too, marked and untested. O(endpoints * arms * seeds * clusters).
    """
    found = [
        comparison
        for endpoint in endpoints(scores.results, primary)
        for comparison in _against_reference(scores, exposures, endpoint, primary)
    ]
    first = [place for place, comparison in enumerate(found) if comparison.primary]
    other = [place for place, comparison in enumerate(found) if not comparison.primary]
    for places, adjust in ((first, holm), (other, _false_discovery_rate)):
        _adjust(found, scores.results, places, adjust)
    return Comparisons(primary, tuple(found))


def endpoints(results: Results, primary: EndpointName) -> list[EndpointName]:
    """The primary endpoint, then the secondary ones: headline metrics and language bias in all settings and tiers."""
    final = results.macro(split=primary.split)
    metrics = [*headline_metrics(final.distinct("metric")), *BIAS_METRICS]
    found = {primary: None}
    for centring in CENTRINGS:
        rows = final.select(centring=centring)
        for metric in metrics:
            measured = rows.select(metric=metric)
            for setting in SETTINGS:
                tiers = measured.select(setting=setting).distinct("tier")
                found |= {
                    EndpointName(setting, metric, tier, centring, primary.split): None
                    for tier in ALL_TIERS
                    if tier in tiers
                }
    return list(found)


def _against_reference(
    scores: Scores, exposures: Exposures, endpoint: EndpointName, primary: EndpointName
) -> list[Comparison]:
    arms = [arm for arm in scores.results.arms if scores.results.by_seed_final(endpoint, arm)]
    comparable = exposures.comparable(endpoint, arms)
    if not comparable:
        return []
    reference, *_ = comparable
    data = scores.of(endpoint, arms)
    found = []
    for place, arm in enumerate(arms):
        if arm == reference:
            continue
        weights = np.zeros(len(arms))
        weights[place], weights[arms.index(reference)] = 1.0, -1.0
        first, second = sorted((reference, arm))
        estimate = contrast(data, weights if second == arm else -weights)
        found.append(Comparison(endpoint, first, second, estimate, endpoint == primary, arm in comparable))
    return found


def _adjust(
    found: list[Comparison],
    results: Results,
    places: Sequence[int],
    adjust: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    """Fill in the p-values of a family, each distinct hypothesis counted once."""
    groups: dict[Hashable, list[int]] = {}
    for place in places:
        comparison = found[place]
        testable = comparison.same_exposure and comparison.estimate.seeds >= SEEDS_TESTED
        if testable and not math.isnan(comparison.estimate.p_value()):
            groups.setdefault(_identity(comparison, results), []).append(place)
    p_values = np.array([found[group[0]].estimate.p_value() for group in groups.values()])
    for group, adjusted in zip(groups.values(), adjust(p_values) if len(p_values) else [], strict=True):
        for place in group:
            found[place] = replace(found[place], adjusted=float(adjusted), family=len(groups))


def _identity(comparison: Comparison, results: Results) -> Hashable:
    """What two comparisons share that are one hypothesis: all but the tier's name, and the pairs it is a mean over."""
    endpoint = comparison.endpoint
    where = {"split": endpoint.split, "setting": endpoint.setting}
    if endpoint.tier != "all":
        where["tier"] = endpoint.tier
    pairs = frozenset(results.select(**where).distinct_pairs())
    return endpoint._replace(tier=""), pairs or endpoint.tier, comparison.first, comparison.second


def _false_discovery_rate(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    adjusted: NDArray[np.float64] = stats.false_discovery_control(p_values, method="bh")
    return adjusted
