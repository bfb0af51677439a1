"""The plot of gains against training examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyhbt.study.analysis import Analysis
from pyhbt.study.gain import language_gains
from pyhbt.study.report.canvas import BODY, SMALL, Theme, plot_text, single

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TIER_MARKS = {"seen": "o", "low-resource": "s", "zero-shot": "^"}


def gain_by_amount_plot(analysis: Analysis, metric: str, theme: Theme) -> Figure | None:
    """A point a language, by name, with the regression line; None where there is nothing to show."""
    found = language_gains(analysis, metric)
    if found is None or len(found.languages) < 3:
        return None
    tiers = analysis.results.language_tiers()
    figure, axes = single(f"Gain in cross-lingual {metric} by training examples", theme)
    at = np.log10(1 + found.examples)
    for language, x, gain in zip(found.languages, at, found.gains, strict=True):
        mark = _TIER_MARKS.get(tiers.get(language, "seen"), "o")
        axes.plot(x, gain, mark, color=theme.plain, ms=4, mew=0, alpha=0.8)
        axes.annotate(
            plot_text(language, 8), (x, gain), xytext=(3, 3), textcoords="offset points",
            fontsize=SMALL, color=theme.ink,
        )  # fmt: skip
    if not np.isnan(found.line.slope.mean):
        ends = np.array([at.min(), at.max()])
        line = found.line.intercept + found.line.slope.mean * ends
        axes.plot(ends, line, "--", color=theme.muted, lw=0.9)
    axes.axhline(0, color=theme.grid, lw=1, zorder=0)
    top = int(np.ceil(at.max()))
    axes.set_xticks(range(top + 1), ["0" if power == 0 else f"{10**power:,}" for power in range(top + 1)])
    axes.set_xlabel("training examples with the language", fontsize=BODY, color=theme.muted)
    axes.set_ylabel("gain", fontsize=BODY, color=theme.muted)
    return figure
