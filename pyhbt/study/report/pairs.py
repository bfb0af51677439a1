"""The heat map of language pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyhbt.study.report.canvas import (
    BODY,
    LIGHT,
    PIXELS_PER_INCH,
    SMALL,
    TITLE,
    Theme,
    plot_text,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pair_heat_map(
    values: Mapping[tuple[str, str], float],
    tiers: Mapping[str, str],
    title: str,
    theme: Theme,
    *,
    diverging: bool = False,
) -> Figure | None:
    """One square a pair: query languages down, passage languages across, both in the order of ``tiers``.

    Up to 14 languages the values are written into the squares. ``diverging`` centres the colours on 0.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    languages = [language for language in tiers if any(language in pair for pair in values)]
    if len(languages) < 2:
        return None
    size = len(languages)
    grid = np.array([[values.get((q, p), np.nan) for p in languages] for q in languages])
    figure = Figure(figsize=(5.8, 6.3), dpi=PIXELS_PER_INCH, facecolor=theme.surface)
    axes = figure.add_axes((0.125, 0.08, 0.845, 0.79))
    style_axes(axes, theme)
    axes.set_facecolor(theme.grid)
    far = float(np.nanmax(np.abs(grid))) or 1.0
    if diverging:
        middle = "#f4f4f4" if theme is LIGHT else "#2a2e35"
        colours: Any = LinearSegmentedColormap.from_list("diverging", ["#c2570c", middle, "#2f7fd1"])
        image = axes.imshow(grid, cmap=colours, vmin=-far, vmax=far, aspect="auto")
    else:
        image = axes.imshow(grid, cmap="viridis", vmin=0, vmax=far, aspect="auto")
    font = min(BODY, 285 / size)  # points: the pitch of the rows is 358 / size
    labels = [plot_text(language, 8) for language in languages]
    axes.set_xticks(
        range(size), labels, rotation=90 if max(map(len, labels)) * size > 40 else 0, fontsize=font
    )
    axes.set_yticks(range(size), labels, fontsize=font)
    axes.tick_params(length=0, pad=2)
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)
    if size <= 14:
        for (row, column), value in np.ndenumerate(grid):
            if not np.isnan(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                dark_square = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
                text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") if diverging else f"{value:.2f}"
                axes.text(
                    column, row, text, ha="center", va="center", fontsize=min(6.5, 80 / size),
                    color="#ffffff" if dark_square else "#111111",
                )  # fmt: skip
    _mark_tiers(axes, [tiers[language] for language in languages], theme)
    figure.text(
        0.018,
        0.475,
        "query language",
        fontsize=BODY,
        color=theme.muted,
        rotation=90,
        ha="center",
        va="center",
    )
    axes.set_xlabel("passage language", fontsize=BODY, color=theme.muted)
    figure.text(
        0.02, 0.972, plot_text(title, 44), fontsize=TITLE, color=theme.ink, weight="bold", va="center"
    )
    bar = figure.add_axes((0.66, 0.934, 0.31, 0.014))
    figure.colorbar(image, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=SMALL, colors=theme.muted, length=2, pad=1)
    bar.locator_params(nbins=5)
    for side in bar.spines.values():
        side.set_visible(False)
    return figure


def _mark_tiers(axes: Axes, tiers: Sequence[str], theme: Theme) -> None:
    """A line between tiers, and the name of each above its columns."""
    starts = [i for i, tier in enumerate(tiers) if i == 0 or tier != tiers[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(tiers)], strict=True):
        if start:
            axes.axhline(start - 0.5, color=theme.surface, lw=2)
            axes.axvline(start - 0.5, color=theme.surface, lw=2)
        axes.annotate(
            tiers[start], ((start + end - 1) / 2, 1.008), xycoords=("data", "axes fraction"),
            ha="center", va="bottom", fontsize=SMALL, color=theme.muted, annotation_clip=False,
        )  # fmt: skip
