"""Learning curves over steps, examples or tokens."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from pyhbt.study.convergence import Axis, convergence, dev_curves
from pyhbt.study.report.canvas import Theme, arm_colours, facets
from pyhbt.study.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curves(
    results: Results, setting: str, metric: str, theme: Theme, *, axis: Axis = "steps"
) -> Figure | None:
    """Dev value by what was trained on: a facet a tier, a line an arm (mean), a band from lowest to highest seed.

    The dotted line is the common target of :func:`pyhbt.study.convergence.convergence`. Points are spaced as
    evaluations are, so the axis is that of the square root, on which a geometric spacing is readable. None where the
    axis is not known.
    """
    rows = results.macro(split="dev", setting=setting, metric=metric, centring="none")
    colours = arm_colours(results.arms, theme)
    where = {"setting": setting, "metric": metric}
    known = {arm: dev_curves(results, arm, axis, tier="all", **where) for arm in rows.arms}
    if not any(known.values()):
        return None

    def draw(axes: Axes, tier: str) -> None:
        for arm in rows.arms:
            curves = list(dev_curves(results, arm, axis, tier=tier, **where).values())
            if not curves:
                continue
            count = min(len(x) for x, _ in curves)
            at = np.mean([x[:count] for x, _ in curves], axis=0)
            if axis == "steps":
                at = reduce(np.intersect1d, [x for x, _ in curves])
                values = np.stack([value[np.isin(x, at)] for x, value in curves])
            else:
                values = np.stack([value[:count] for _, value in curves])
            if len(curves) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(at, low, high, color=colours[arm], alpha=0.18, lw=0)
            style = "--" if not arm.plain else "-"
            axes.plot(at, values.mean(axis=0), style, color=colours[arm], lw=1.5, marker=".", markersize=3)
        found = convergence(results, setting, tier, metric, axis=axis)
        if found is not None:
            axes.axhline(found.target, color=theme.muted, lw=0.8, ls=":")
        axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        axes.set_xlim(left=0)
        last = max(float(x[-1]) for found in known.values() for x, _ in found.values())
        ticks = _ticks(last)
        axes.set_xticks(ticks, [_thousands(tick) for tick in ticks])

    title = f"{setting.capitalize()}: {metric} on the dev set"
    keys = {arm.title: (colours[arm], None, False) for arm in rows.arms}
    return facets(rows.distinct("tier"), title, f"training {axis}", draw, keys, theme, legend_lead="arm ")


def _ticks(last: float) -> list[float]:
    """Round numbers that stand about evenly on an axis of square roots."""
    unit = 10 ** np.floor(np.log10(max(last, 1)))
    unit = next((step for step in (5 * unit, 2 * unit) if step <= last), unit)
    return [0.0, unit / 10, unit / 2.5, unit]


def _thousands(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 10_000 else f"{value:g}"
