"""The short answer of a study: sentences made from its numbers.

The arm told of is the one chosen on the dev set; "significant" is written only of a test that was made and passed its
family's correction. Arms that differ in which languages they saw are named and left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pyhbt.data.coverage import coverage_in_words
from pyhbt.evaluation.names import (
    MAX_RANK,
    RANK_CORRELATION,
    RANK_DISTANCE,
    SETTINGS,
    TOP_1_SAME_LANGUAGE,
)
from pyhbt.study.analysis import Analysis
from pyhbt.study.arms import Arm
from pyhbt.study.comparisons import LEVEL, SEEDS_TESTED, Comparison
from pyhbt.study.convergence import SHARE, Convergence, convergence
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.statistics.convergence import compare_times, restricted_mean
from pyhbt.study.statistics.multiple import BestArms
from pyhbt.study.words import SPACE, interval, listed, number, p_text, percent, sentence, signed

_BIAS_TOLD: Final = {  # in the short answer; the tables of language bias have them all
    RANK_DISTANCE: "rank distance between translations",
    MAX_RANK: "rank of the last translation",
    TOP_1_SAME_LANGUAGE: "share of first passages in the query's own language",
    RANK_CORRELATION: "rank correlation between translations of a query",
}


@dataclass(frozen=True)
class Finding:
    """A heading and the sentences below it."""

    heading: str
    sentences: tuple[str, ...]


def short_answer(analysis: Analysis) -> list[Finding]:
    """What the numbers support: the primary endpoint, its price, tiers, speed, bias, and what to bear in mind."""
    if not analysis.scores.endpoints:
        return [Finding("No figures yet", ("No cell has final figures.",))]
    parts = [
        Finding(sentence(analysis.primary.text), tuple(_primary(analysis))),
        Finding("What it costs", tuple(_costs(analysis))),
        Finding("By tier of languages", tuple(_tiers(analysis))),
        Finding("How fast", tuple(_speed(analysis))),
        Finding("Language bias", tuple(_bias(analysis))),
        Finding("Bear in mind", tuple(_caveats(analysis))),
    ]
    return [part for part in parts if part.sentences]


def verdict(comparison: Comparison) -> str:
    """A difference with its interval and what the test says of it."""
    estimate, metric = comparison.estimate, comparison.endpoint.metric
    limits = estimate.interval()
    text = signed(estimate.value, metric)
    if not math.isnan(limits.low):
        text += f" (95{SPACE}% interval {interval(limits.low, limits.high, metric)})"
    if not comparison.same_exposure:
        return f"{text}, not tested: the arms saw different languages"
    if not comparison.tested:
        return f"{text}, not tested: {_untested(comparison)}"
    outcome = "significant" if comparison.significant else "not significant"
    return f"{text}, {outcome} ({p_text(comparison.adjusted)} of {comparison.family})"


def _untested(comparison: Comparison) -> str:
    estimate = comparison.estimate
    if estimate.seeds < SEEDS_TESTED:
        return f"{estimate.seeds} {'seed' if estimate.seeds == 1 else 'seeds'}, {SEEDS_TESTED} are needed"
    return "the study kept no scores of single queries"


def _primary(analysis: Analysis) -> Iterator[str]:
    scores, primary, chosen, reference = (
        analysis.scores,
        analysis.primary,
        analysis.chosen,
        analysis.reference,
    )
    if reference is None:
        yield f"No cell has a final {primary.text}."
        return
    if chosen is None:
        yield "No arm can be chosen: the dev set has no such scores."
        return
    metric = primary.metric
    mean = scores.mean(primary, chosen)
    limits = mean.interval()
    spread = (
        ""
        if math.isnan(limits.low)
        else f" (95{SPACE}% interval {number(limits.low, metric)} to {number(limits.high, metric)})"
    )
    name = sentence(chosen.called)
    if len(analysis.comparable) == 1:
        yield f"{name} has {number(mean.value, metric)}{spread}; no other arm can be compared with it."
    elif chosen == reference:
        yield (
            f"{name}, the first arm, is best on the dev set; on the test set it has "
            f"{number(mean.value, metric)}{spread}."
        )
    else:
        before = number(scores.mean(primary, reference).value, metric)
        yield (
            f"{name}, best on the dev set, has {number(mean.value, metric)}{spread} on the test set, against "
            f"{before} at {reference.called}."
        )
        comparison = analysis.comparison(primary)
        if comparison is not None:
            yield f"The difference is {verdict(comparison)}."
        yield from _after_centring(analysis, chosen, reference)
    yield from _best_ratio(analysis)
    best = analysis.best(primary)
    if best is not None:
        yield from _not_worse(analysis, best)


def _after_centring(analysis: Analysis, chosen: Arm, reference: Arm) -> Iterator[str]:
    """What training gains beyond what subtracting language means gives for nothing."""
    primary, scores = analysis.primary, analysis.scores
    centred = primary._replace(centring="both")
    comparison = analysis.comparison(centred)
    if comparison is None or comparison.reference != reference:
        return
    metric = primary.metric
    alone = scores.mean(centred, reference).value
    yield (
        f"Centring alone, which costs no training, takes {reference.called} to {number(alone, metric)}; with both "
        f"centred, {chosen.called} is at {number(scores.mean(centred, chosen).value, metric)}: {verdict(comparison)}."
    )


def _best_ratio(analysis: Analysis) -> Iterator[str]:
    response = analysis.response(analysis.primary)
    if response is None:
        return
    best = response.best_ratio()
    if math.isnan(best.low):
        return
    if best.flat:
        yield (
            f"The response to the ratio is too flat to say where it is best: any ratio between {best.low:.2f} and "
            f"{best.high:.2f} may be (95{SPACE}%)."
        )
    elif best.high - best.low < 0.005:
        yield f"A curve fitted to the ratios is best at {best.low:.2f}, with a 95{SPACE}% interval narrower than 0.005."
    else:
        yield (
            f"A curve fitted to the ratios is best between {best.low:.2f} and {best.high:.2f} (95{SPACE}% interval)."
        )


def _not_worse(analysis: Analysis, best: BestArms) -> Iterator[str]:
    """The arms that may as well be best on the test set, and the runner-up tested."""
    arms, metric = analysis.scores.arms, analysis.primary.metric
    first, second = arms[best.best], arms[best.runner_up]
    told = (
        f"On the test set {first.called} stands first and {second.called} second, "
        f"{number(abs(best.estimate.value), metric)} behind"
    )
    if best.members is None:
        yield f"{told}; which is better is not tested with fewer than {SEEDS_TESTED} seeds."
        return
    members = [arms[place].title for place in best.members]
    outcome = "significant" if best.adjusted < LEVEL else "not significant"
    yield (
        f"{told} ({outcome}, {p_text(best.adjusted)}); "
        + (
            "no other arm may be best."
            if len(members) == 1
            else f"arms not significantly worse than the first: {listed(members)}."
        )
    )


def _costs(analysis: Analysis) -> Iterator[str]:
    chosen, reference = analysis.chosen, analysis.reference
    if chosen is None or reference is None or chosen == reference:
        return
    scores, metric = analysis.scores, analysis.primary.metric
    told = set()
    for setting in SETTINGS:
        endpoint = EndpointName(setting, metric)
        comparison = analysis.comparison(endpoint)
        if endpoint == analysis.primary or comparison is None:
            continue
        told.add(endpoint)
        start = number(scores.mean(endpoint, comparison.reference).value, metric)
        end = number(scores.mean(endpoint, chosen).value, metric)
        yield (
            f"{setting.capitalize()} {metric} goes from {start} at {comparison.reference.called} to {end}: "
            f"{verdict(comparison)}{_margin(analysis, comparison)}."
        )
    others = [comparison for comparison in analysis.losses(chosen) if comparison.endpoint not in told]
    if others:
        named = [
            f"{comparison.endpoint.text} {signed(comparison.estimate.value, comparison.endpoint.metric)}"
            for comparison in others
        ]
        yield f"Significant losses elsewhere: {listed(named, 6)}."


def _margin(analysis: Analysis, comparison: Comparison) -> str:
    """Whether the loss is shown to be smaller than the margin."""
    if not comparison.same_exposure:
        return ""
    found = analysis.non_inferiority(comparison.endpoint, comparison.reference, comparison.arm)
    if found is None:
        return ""
    margin = f"{analysis.margin:g}"
    if found.shown:
        return f"; it is shown to lose less than {margin} ({p_text(found.p)}, one-sided)"
    return f"; that it loses less than {margin} is not shown ({p_text(found.p)}, one-sided)"


def _tiers(analysis: Analysis) -> Iterator[str]:
    for tier in analysis.tiers():
        endpoint = analysis.endpoint(tier=tier)
        if endpoint == analysis.primary:
            continue
        comparable = analysis.exposures.comparable(endpoint, analysis.scores.measured(endpoint))
        name = "All languages" if tier == "all" else f"{tier.capitalize()} languages"
        apart = [arm for arm in analysis.scores.measured(endpoint) if arm not in comparable]
        chosen = analysis.chosen
        if chosen is None or chosen not in comparable or len(comparable) < 2:
            best = analysis.scores.best(endpoint, comparable)
            if best is not None and len(comparable) > 1:
                yield f"{name}: of the arms that saw the same of them, {best.called} has the highest mean."
        elif chosen == comparable[0]:
            value = number(analysis.scores.mean(endpoint, chosen).value, endpoint.metric)
            yield f"{name}: {value} at {chosen.called}, which the others are compared with."
        else:
            comparison = analysis.comparisons.find(endpoint, chosen)
            if comparison is not None:
                start = number(analysis.scores.mean(endpoint, comparison.reference).value, endpoint.metric)
                end = number(analysis.scores.mean(endpoint, chosen).value, endpoint.metric)
                yield f"{name}: from {start} to {end}, {verdict(comparison)}."
        if apart:
            yield f"{name}: not compared with the others, for what they saw: {_apart(analysis, endpoint, apart)}."


def _apart(analysis: Analysis, endpoint: EndpointName, arms: Sequence[Arm]) -> str:
    """Arms of other exposure, and what they never saw."""
    told = []
    for arm in arms:
        unseen = analysis.exposures.unseen(endpoint, arm)
        told.append(f"{arm.called} ({'; '.join(unseen)})" if unseen else arm.called)
    return listed(told, 4)


def _speed(analysis: Analysis) -> Iterator[str]:
    chosen, reference, primary = analysis.chosen, analysis.reference, analysis.primary
    if chosen is None or reference is None:
        return
    found = convergence(analysis.macro, primary.setting, analysis.dev_tier, primary.metric)
    if found is None or chosen not in found.times:
        return
    target = f"{number(found.target)}, {percent(SHARE)} of the best final value there"
    text = f"On the dev set {chosen.called} takes {_time(found, chosen)} to stay above {target}"
    if reference == chosen or reference not in found.times:
        yield f"{text}."
        return
    yield f"{text}; {reference.called} takes {_time(found, reference)}: {_difference(found, reference, chosen)}."


def _time(found: Convergence, arm: Arm) -> str:
    times = found.times[arm]
    reached = int(times.reached.sum())
    if not reached:
        return f"more than {found.horizon:,.0f} steps"
    mean = restricted_mean(times.times, times.reached, found.horizon)
    steps = f"{mean.mean:,.0f} steps"
    if reached < len(times.reached):
        return f"{steps} or more ({reached} of {len(times.reached)} seeds get there)"
    return f"{steps} on average" if reached > 1 else steps


def _difference(found: Convergence, first: Arm, second: Arm) -> str:
    """The difference in time between two arms, over the seeds of both."""
    one, other = found.times[first], found.times[second]
    shared = [seed for seed in one.seeds if seed in other.seeds]
    before = one.times[[one.seeds.index(seed) for seed in shared]]
    after = other.times[[other.seeds.index(seed) for seed in shared]]
    estimate = compare_times(before, after, found.horizon)
    text = f"{_steps(estimate.value)} steps"
    if len(shared) < SEEDS_TESTED:
        return f"{text}, not tested with fewer than {SEEDS_TESTED} seeds"
    limits = estimate.interval()
    p = estimate.p_value()
    if math.isnan(p):
        return f"{text} in every seed, which leaves no spread to test against"
    outcome = "significant" if p < LEVEL else "not significant"
    spread = f"95{SPACE}% interval {_steps(limits.low)} to {_steps(limits.high)}"
    return f"{text} ({spread}), {outcome} on its own ({p_text(p)})"


def _steps(value: float) -> str:
    return f"{value:+,.0f}".replace("-", "\N{MINUS SIGN}")


def _bias(analysis: Analysis) -> Iterator[str]:
    chosen, reference = analysis.chosen, analysis.reference
    if chosen is None or reference is None or chosen == reference:
        return
    clauses = []
    for metric, name in _BIAS_TOLD.items():
        comparison = analysis.comparison(EndpointName("multilingual", metric))
        if comparison is not None:
            scores, endpoint = analysis.scores, comparison.endpoint
            start = number(scores.mean(endpoint, comparison.reference).value, metric)
            end = number(scores.mean(endpoint, chosen).value, metric)
            clauses.append(f"the {name} goes from {start} to {end}, {verdict(comparison)}")
    if clauses:
        yield f"In one pool of all languages, at {chosen.called} against {reference.called}:"
        yield from (f"{sentence(clause)}." for clause in clauses)


def _caveats(analysis: Analysis) -> Iterator[str]:
    """What limits the answer."""
    results = analysis.results
    seeds = analysis.scores.seeds
    finished = sum(
        len(results.select(split=analysis.primary.split, arm=arm).distinct("seed")) for arm in results.arms
    )
    expected = len(results.arms) * len(results.distinct("seed"))
    if finished < expected:
        yield f"Only {finished} of {expected} cells (an arm and a seed) have final figures."
    if len(seeds) < SEEDS_TESTED:
        count = "One seed was" if len(seeds) == 1 else f"{len(seeds)} seeds were"
        yield f"{count} run: nothing is called significant with fewer than {SEEDS_TESTED}."
    else:
        clusters = analysis.scores.of(analysis.primary).influences.shape[2]
        yield (
            f"Tests and intervals ask whether a difference would hold for other seeds and other queries "
            f"({clusters:,} clusters of them). {sentence(analysis.primary.text)} was named "
            "before; everything else is secondary, under one false discovery rate of 5"
            f"{SPACE}%."
        )
    yield from (str(text) for text in analysis.data.get("meaning_of_ratio", ()))
    sets = analysis.data.get("sets", {})
    for split, found in sets.items():
        yield from (f"{sentence(split)} set: {text}" for text in coverage_in_words(found))
    if "zero-shot" in analysis.scores.tiers(analysis.primary.setting, analysis.primary.metric):
        yield "Zero-shot languages are unseen in this training; the encoder it starts from may know them."
