"""Final scores by arm, by ratio with the curve fitted to them, and one setting's against another's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pyhbt.evaluation.names import STUDY_CENTRINGS
from pyhbt.study.analysis import Analysis
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.report.canvas import (
    BODY,
    SMALL,
    Theme,
    arm_colours,
    facets,
    panels,
    plot_text,
    single,
)
from pyhbt.study.scores import Scores
from pyhbt.study.statistics.response import on_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_KEYS: Final = {"plain": "none", "centred": "both"}
_ARMS: Final = "arm (a number: share of cross-lingual batches)"


def final_values(analysis: Analysis, setting: str, metric: str, theme: Theme) -> Figure | None:
    """Final value by arm: a facet a tier; a dot a seed, the mean and its 95 % interval; plain and centred."""
    scores = analysis.scores
    title = f"{setting.capitalize()}: {metric} on the test set"

    def draw(axes: Axes, tier: str) -> None:
        _draw_values(axes, scores, EndpointName(setting, metric, tier), theme)

    tiers = sorted(scores.tiers(setting, metric))
    return facets(tiers, title, _ARMS, draw, _keys(scores, setting, [metric], theme), theme)


def bias_values(analysis: Analysis, title: str, metrics: Sequence[str], theme: Theme) -> Figure | None:
    """The same of measures of language bias: a facet a measure, all languages."""
    scores = analysis.scores
    measured = {name.metric for name in scores.endpoints if name.setting == "multilingual"}
    names = {metric: metric for metric in metrics if metric in measured}

    def draw(axes: Axes, metric: str) -> None:
        _draw_values(axes, scores, EndpointName("multilingual", metric), theme)

    keys = _keys(scores, "multilingual", list(names), theme)
    return panels(names, title, _ARMS, draw, keys, theme, share_y=False)


def _keys(scores: Scores, setting: str, metrics: Sequence[str], theme: Theme) -> dict[str, Any]:
    """The legend of the centrings that there are."""
    shown = {name.centring for name in scores.endpoints if name.setting == setting and name.metric in metrics}
    colours = (theme.plain, theme.centred)
    return {
        name: (colour, "o", centring == "both")
        for (name, centring), colour in zip(_KEYS.items(), colours, strict=True)
        if centring in shown
    }


def _draw_values(axes: Axes, scores: Scores, plain: EndpointName, theme: Theme) -> None:
    """One endpoint by arm, plain and centred."""
    known = set(scores.endpoints)
    for centring, colour, shift, style in zip(
        STUDY_CENTRINGS, (theme.plain, theme.centred), (-0.12, 0.12), ("-", "--"), strict=True
    ):
        endpoint = plain._replace(centring=centring)
        if endpoint not in known:
            continue
        by_seed = scores.of(endpoint).means
        means = []
        for place, arm in enumerate(scores.arms):
            seeds = by_seed[place][~np.isnan(by_seed[place])]
            estimate = scores.mean(endpoint, arm)
            means.append(estimate.value)
            if len(seeds) > 1:
                at = [place + 2 * shift] * len(seeds)
                axes.plot(at, seeds, "o", color=colour, alpha=0.55, ms=2.8, mew=0)
                axes.plot([place + shift] * 2, estimate.interval()[1:], "-", color=colour, lw=1)
        hollow = theme.surface if centring == "both" else colour
        places = np.arange(len(means)) + shift
        axes.plot(places, means, style, color=colour, lw=0.9, alpha=0.7)
        axes.plot(places, means, "o", color=colour, mfc=hollow, ms=4.5, mew=1.1)
    labels = [plot_text(arm.title, 9) for arm in scores.arms]
    crowded = max(map(len, labels)) * len(labels) > 26
    axes.set_xticks(range(len(labels)), labels, rotation=60 if crowded else 0)
    axes.set_xlim(-0.5, len(labels) - 0.5)


def response_curves(analysis: Analysis, setting: str, metric: str, theme: Theme) -> Figure | None:
    """Final value by ratio: the means, the fitted curve with its 95 % band, the interval of the best ratio below."""
    scores = analysis.scores
    names = {tier: EndpointName(setting, metric, tier) for tier in scores.tiers(setting, metric)}
    found = {tier: fitted for tier, name in names.items() if (fitted := analysis.response(name)) is not None}
    if not found:
        return None

    def draw(axes: Axes, tier: str) -> None:
        response, endpoint = found[tier], names[tier]
        ratios = np.linspace(min(response.ratios), max(response.ratios), 61)
        limits = [response.value(ratio).interval() for ratio in ratios]
        axes.fill_between(
            ratios, [i.low for i in limits], [i.high for i in limits], color=theme.plain, alpha=0.18, lw=0
        )
        axes.plot(ratios, [i.mean for i in limits], "-", color=theme.plain, lw=1.3)
        for arm in analysis.ratios(endpoint):
            axes.plot(
                arm.ratio.bounds[0], scores.mean(endpoint, arm).value, "o", color=theme.plain, ms=4, mew=0
            )
        best = response.best_ratio()
        if not np.isnan(best.low):
            foot = axes.get_xaxis_transform()  # limits of y, which facets share, are left to the curves
            axes.plot(
                [best.low, best.high], [0, 0], "-", color=theme.centred, lw=3, clip_on=False, transform=foot
            )
        axes.locator_params(axis="x", nbins=5)

    keys = {"fit and 95 % band": (theme.plain, "o", False), "best ratio, 95 %": (theme.centred, None, False)}
    title = f"{setting.capitalize()}: {metric} by ratio"
    return facets(sorted(found), title, "share of cross-lingual batches", draw, keys, theme)


def front(analysis: Analysis, metric: str, theme: Theme) -> Figure | None:
    """Monolingual against cross-lingual quality: a cross of 95 % intervals an arm, those on the front joined."""
    first, second = EndpointName("monolingual", metric), EndpointName("cross-lingual", metric)
    scores = analysis.scores
    arms = [arm for arm in scores.measured(first) if arm in scores.measured(second)]
    arms = [
        arm
        for arm in analysis.exposures.comparable(first, arms)
        if arm in analysis.exposures.comparable(second, arms)
    ]
    if len(arms) < 2:
        return None
    figure, axes = single(f"Monolingual against cross-lingual {metric}", theme)
    colours = arm_colours(arms, theme)
    points = {arm: (scores.mean(first, arm), scores.mean(second, arm)) for arm in arms}
    for arm, (one, other) in points.items():
        axes.plot(one.interval()[1:], [other.value] * 2, "-", color=colours[arm], lw=1)
        axes.plot([one.value] * 2, other.interval()[1:], "-", color=colours[arm], lw=1)
        axes.plot(one.value, other.value, "o", color=colours[arm], ms=4.5, mew=0)
        axes.annotate(
            plot_text(arm.title), (one.value, other.value), xytext=(4, 4), textcoords="offset points",
            fontsize=SMALL, color=theme.ink,
        )  # fmt: skip
    values = np.array([(one.value, other.value) for one, other in points.values()])
    outermost = values[on_front(values[:, 0], values[:, 1])]
    outermost = outermost[np.argsort(outermost[:, 0])]
    axes.plot(outermost[:, 0], outermost[:, 1], "--", color=theme.muted, lw=0.8, zorder=0)
    axes.set_xlabel(f"monolingual {metric}", fontsize=BODY, color=theme.muted)
    axes.set_ylabel(f"cross-lingual {metric}", fontsize=BODY, color=theme.muted)
    return figure
