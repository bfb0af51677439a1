"""What a ratio study found: comparisons of arms, convergence, and the short answer in words.

Works on the rows of :class:`pyhbt.study.results.Results` (macro means, a few hundred for a study) and on the (u,)
scores of :class:`pyhbt.study.results.UnitScores`; the tests of a whole study take about a second. Every sentence is
made from numbers: "significant" is written only of a Holm-adjusted p-value below 0.05.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from pyhbt.evaluation.names import (
    ALL_TIERS,
    BIAS_METRICS,
    RANK_CORRELATION,
    RANK_DISTANCE,
    RANK_METRICS,
    SETTINGS,
    STUDY_CENTRINGS,
    TOP_1_SAME_LANGUAGE,
)
from pyhbt.study.arms import Arm
from pyhbt.study.results import Results, UnitScores
from pyhbt.study.statistics import (
    Interval,
    holm,
    normalised_area,
    randomisation_tests,
    seed_interval,
    steps_to_reach,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NONE: Final = "\N{EN DASH}"  # printed where there is no figure
SPACE: Final = "\N{NO-BREAK SPACE}"
LEVEL: Final = 0.05  # of significance, after Holm
SHARE: Final = 0.9  # of a final value that counts as converged
_BIAS_TOLD: Final = {  # in the short answer; the table of language bias has them all
    RANK_DISTANCE: "rank distance between translations",
    TOP_1_SAME_LANGUAGE: "share of first passages in the query's own language",
    RANK_CORRELATION: "rank correlation between translations of a query",
}


@dataclass(frozen=True)
class Comparison:
    """Paired test of two arms; ``difference`` is the mean over units of ``second`` minus ``first``."""

    centring: str
    setting: str
    tier: str
    metric: str
    first: Arm
    second: Arm
    units: int
    difference: float
    p: float
    adjusted: float
    family: int  # comparisons that Holm's correction ran over

    @property
    def verdict(self) -> str:
        """Difference and outcome, in words."""
        outcome = "significant" if self.adjusted < LEVEL else "not significant"
        return (
            f"{signed(self.difference)} over questions, {outcome} "
            f"(Holm-adjusted {p_text(self.adjusted)}, {self.units:,} questions)"
        )


@dataclass(frozen=True)
class Convergence:
    """How fast one arm learned, by seed; None where a seed never got there.

    ``target`` is common to the arms: SHARE of the best arm's final dev value.
    """

    target: float
    to_target: tuple[float | None, ...]
    to_own: tuple[float | None, ...]
    area: Interval


@dataclass(frozen=True)
class Finding:
    """A heading and the sentences below it."""

    heading: str
    sentences: tuple[str, ...]


def number(value: float, metric: str = "") -> str:
    """A measurement in print: three decimals, or one for ranks; an en dash where there is none."""
    if math.isnan(value):
        return NONE
    if metric in RANK_METRICS:
        return f"{value:,.1f}"
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}")  # 0.0 takes the sign from -0.000


def signed(value: float) -> str:
    """A difference in print, with a sign that is as wide as a plus."""
    if math.isnan(value):
        return NONE
    rounded = round(value, 3)
    return f"{rounded:+.3f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.000"


def p_text(p: float) -> str:
    """A p-value in print."""
    return f"p{SPACE}<{SPACE}0.001" if p < 0.001 else f"p{SPACE}={SPACE}{p:.3f}"


def mean_steps(steps: Sequence[float | None]) -> float:
    """Mean over the seeds that got there; NaN if none did."""
    reached = [value for value in steps if value is not None]
    return sum(reached) / len(reached) if reached else math.nan


def headline_metrics(results: Results) -> list[str]:
    """recall@10 and mAP where measured; else the first two measures of quality that are."""
    found = [metric for metric in results.distinct("metric") if metric not in BIAS_METRICS]
    return [metric for metric in ("recall@10", "mAP") if metric in found] or found[:2]


def final_interval(results: Results, arm: Arm, **where: str) -> Interval:
    """Mean and 95 % interval over seeds of a final macro value."""
    values = results.macro(split="test", arm=arm, **where).by_seed()
    return seed_interval(list(values.values()))


def compared_pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Every arm against the first, then every arm against the one before it."""
    against_first = [(arms[0], arm) for arm in arms[1:]]
    return against_first + list(pairwise(arms[1:]))


def compare_arms(results: Results, scores: UnitScores, metrics: Iterable[str]) -> list[Comparison]:
    """Paired randomisation tests over questions, seeds averaged.

    A family for Holm's correction is one metric, centring and setting: all its tiers and compared pairs.
    """
    pairs = compared_pairs(results.arms)
    comparisons: list[Comparison] = []
    for metric in metrics:
        for centring in STUDY_CENTRINGS:
            for setting in SETTINGS:
                family = [
                    _untested(scores, centring, setting, tier, metric, pair)
                    for tier in ALL_TIERS
                    for pair in pairs
                ]
                comparisons += _tested([comparison for comparison in family if comparison.units], scores)
    return comparisons


def _untested(
    scores: UnitScores, centring: str, setting: str, tier: str, metric: str, pair: tuple[Arm, Arm]
) -> Comparison:
    first, second = (scores.seed_mean(arm, f"{centring}/{setting}/{tier}/{metric}") for arm in pair)
    difference = second - first
    known = difference[~np.isnan(difference)]
    mean = float(known.mean()) if known.size else math.nan
    return Comparison(centring, setting, tier, metric, *pair, int(known.size), mean, math.nan, math.nan, 0)


def _tested(family: list[Comparison], scores: UnitScores) -> list[Comparison]:
    """The same comparisons with p-values, tested together so that they share the drawn sign patterns."""
    if not family:
        return []
    first, second = (
        np.stack([scores.seed_mean(arm, f"{c.centring}/{c.setting}/{c.tier}/{c.metric}") for c, arm in side])
        for side in (((c, c.first) for c in family), ((c, c.second) for c in family))
    )
    p_values = randomisation_tests(first.T, second.T)
    return [
        replace(comparison, p=float(p), adjusted=float(adjusted), family=len(family))
        for comparison, p, adjusted in zip(family, p_values, holm(p_values), strict=True)
    ]


def convergence(results: Results, setting: str, tier: str, metric: str) -> dict[Arm, Convergence]:
    """Convergence of every arm that has learning curves here (plain embeddings, dev split)."""
    macro = results.macro(setting=setting, tier=tier, metric=metric, centring="none")
    curves = {arm: macro.curves(arm=arm) for arm in results.arms}
    finals = {
        arm: float(np.mean([values[-1] for _, values in by_seed.values()]))
        for arm, by_seed in curves.items()
        if by_seed
    }
    if not finals:
        return {}
    best = max(finals.values())
    return {
        arm: Convergence(
            target=SHARE * best,
            to_target=tuple(steps_to_reach(*curve, SHARE * best) for curve in curves[arm].values()),
            to_own=tuple(steps_to_reach(*curve, SHARE * curve[1][-1]) for curve in curves[arm].values()),
            area=seed_interval([normalised_area(*curve, best) for curve in curves[arm].values()]),
        )
        for arm in finals
    }


def best_arm(results: Results, setting: str, tier: str, metric: str) -> Arm | None:
    """The arm with the highest final mean over seeds, plain; the first of equals; None without figures."""
    means = {
        arm: final_interval(results, arm, setting=setting, tier=tier, metric=metric, centring="none").mean
        for arm in results.arms
    }
    known = {arm: mean for arm, mean in means.items() if not math.isnan(mean)}
    return max(known, key=known.__getitem__) if known else None


def short_answer(results: Results, comparisons: Iterable[Comparison]) -> list[Finding]:
    """What the numbers support, in words: a finding a tier on cross-lingual quality, then what to bear in mind."""
    metrics = headline_metrics(results)
    if not metrics:
        return [Finding("No figures yet", ("The results hold no measure of retrieval quality.",))]
    tests = {(c.centring, c.setting, c.tier, c.metric, c.first, c.second): c for c in comparisons}
    findings = []
    for tier in ALL_TIERS:
        best = best_arm(results, "cross-lingual", tier, metrics[0])
        if best is not None:
            sentences = _Tier(results, tests, tier, metrics[0], results.arms[0], best).sentences()
            heading = "All languages" if tier == "all" else f"{tier.capitalize()} languages"
            findings.append(Finding(heading, tuple(sentences)))
    if not findings:
        findings = [Finding("No answer yet", ("No cell has final cross-lingual figures.",))]
    return [*findings, Finding("Bear in mind", tuple(_caveats(results, bool(tests))))]


@dataclass(frozen=True)
class _Tier:
    """The sentences on one tier: the best arm against the reference, which is the first: the lowest ratio run."""

    results: Results
    tests: Mapping[tuple[str, str, str, str, Arm, Arm], Comparison]
    tier: str
    metric: str
    reference: Arm
    best: Arm

    def sentences(self) -> list[str]:
        parts = [self._quality(), self._difference(), self._speed()]
        if self.best != self.reference:
            parts += [self._cost(), self._bias(), self._centring()]
        return [part for part in parts if part]

    def _final(self, arm: Arm, setting: str, metric: str, centring: str = "none") -> Interval:
        where = {"setting": setting, "tier": self.tier, "metric": metric, "centring": centring}
        return final_interval(self.results, arm, **where)

    def _test(self, setting: str, centring: str = "none") -> Comparison | None:
        return self.tests.get((centring, setting, self.tier, self.metric, self.reference, self.best))

    def _quality(self) -> str:
        best = self._final(self.best, "cross-lingual", self.metric)
        seeds = len(self.results.select(split="test", arm=self.best).distinct("seed"))
        spread = (
            "one seed"
            if math.isnan(best.low)
            else f"95{SPACE}% interval over {seeds} seeds {number(best.low)} to {number(best.high)}"
        )
        name = self.best.called
        if len(self.results.arms) == 1:
            return f"Cross-lingual {self.metric} is {number(best.mean)} ({spread}); only {name} was run."
        text = f"{name[0].upper()}{name[1:]} has the best cross-lingual {self.metric}: {number(best.mean)} ({spread})"
        if self.best == self.reference:
            return f"{text}; no other arm does better."
        reference = self._final(self.reference, "cross-lingual", self.metric)
        return f"{text}, against {number(reference.mean)} at {self.reference.called}."

    def _difference(self) -> str:
        if self.best == self.reference:
            return ""
        test = self._test("cross-lingual")
        if test is None:
            return "The difference is not tested: the scores of single queries are missing."
        return f"The difference is {test.verdict}."

    def _speed(self) -> str:
        speeds = convergence(self.results, "cross-lingual", self.tier, self.metric)
        if self.best not in speeds:
            return ""
        best = speeds[self.best]
        text = (
            f"On the dev set it {_reaching(best.to_target)} {number(best.target)}, "
            f"{SHARE:.0%} of the best final value there"
        ).replace("%", f"{SPACE}%")
        if self.reference == self.best or self.reference not in speeds:
            return f"{text}."
        return f"{text}; {self.reference.called} {_reaching(speeds[self.reference].to_target)} it."

    def _cost(self) -> str:
        before, after = (self._final(r, "monolingual", self.metric).mean for r in (self.reference, self.best))
        if math.isnan(before) or math.isnan(after):
            return ""
        test = self._test("monolingual")
        verdict = test.verdict if test else f"{signed(after - before)}, not tested"
        return f"Monolingual {self.metric} goes from {number(before)} to {number(after)}: {verdict}."

    def _bias(self) -> str:
        clauses = []
        for metric, name in _BIAS_TOLD.items():
            before, after = (self._final(r, "multilingual", metric).mean for r in (self.reference, self.best))
            if not (math.isnan(before) or math.isnan(after)):
                start, end = number(before, metric), number(after, metric)
                clauses.append(
                    f"the {name} stays at {start}"
                    if start == end
                    else f"the {name} goes from {start} to {end}"
                )
        if not clauses:
            return ""
        *most, last = clauses
        return f"In the multilingual setting {', '.join(most) + ' and ' if most else ''}{last}."

    def _centring(self) -> str:
        plain, centred = (
            [self._final(r, "cross-lingual", self.metric, centring).mean for r in (self.reference, self.best)]
            for centring in STUDY_CENTRINGS
        )
        if math.isnan(sum(plain) + sum(centred)):
            return ""
        reference, best = self.reference.called, self.best.called
        left = centred[1] - centred[0]
        text = f"Centring alone takes {reference} from {number(plain[0])} to {number(centred[0])}."
        if left <= 0:
            return (
                f"{text} With both centred, {best} is not ahead ({signed(left)}), "
                "so its gain is one that centring gives for nothing."
            )
        test = self._test("cross-lingual", "both")
        verdict = test.verdict if test else f"{signed(left)}, not tested"
        return f"{text} With both centred, {best} stays ahead with {number(centred[1])}: {verdict}."


def _reaching(steps: Sequence[float | None]) -> str:
    """The verb phrase before a target."""
    reached = [value for value in steps if value is not None]
    if not reached:
        return "never reaches"
    mean = mean_steps(steps)
    if mean == 0:
        return "starts above"
    seeds = "" if len(reached) == len(steps) else f" in {len(reached)} of {len(steps)} seeds"
    average = " on average" if len(reached) > 1 else ""
    return f"takes {mean:,.0f} steps{average}{seeds} to reach"


def _caveats(results: Results, tested: bool) -> list[str]:
    """What limits the answer."""
    finished = {arm: results.select(split="test", arm=arm).distinct("seed") for arm in results.arms}
    seeds, cells = results.distinct("seed"), sum(map(len, finished.values()))
    expected = len(results.arms) * len(seeds)
    caveats = []
    if cells < expected:
        caveats.append(f"Only {cells} of {expected} cells (an arm and a seed) have final figures.")
    if len(seeds) == 1:
        caveats.append(
            "Only one seed was run: no interval over seeds exists, and another seed may order the arms "
            "differently."
        )
    else:
        caveats.append("The intervals show how figures move from seed to seed.")
    if tested:
        caveats.append(
            "The tests ask whether a difference would hold for other queries; they average the seeds and do not "
            "answer for new ones."
        )
    caveats.append("The best arm is picked on the same test set that it is reported on.")
    return caveats
