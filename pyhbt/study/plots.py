"""Plots of a ratio study, each for a light and for a dark page.

A figure is about 400 CSS pixels wide, so that three stand side by side on a desktop page and one fills a phone;
the heat map of language pairs is wider. Each function reads macro or pair rows of
:class:`pyhbt.study.results.Results` and returns a matplotlib ``Figure``; drawing one costs 0.1 to 0.3 s. No global
state of matplotlib is read or changed. Ratios take colours of viridis, ordered and colour-blind safe.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pyhbt.evaluation.names import ALL_TIERS, STUDY_CENTRINGS
from pyhbt.study.arms import Arm
from pyhbt.study.findings import convergence, final_interval
from pyhbt.study.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PIXELS_PER_INCH: Final = 200  # of the files; the page shows them at half that, sharp on dense screens
_WIDTH: Final = 4.0  # inches, of a figure of facets
_SMALL, _BODY, _TITLE = 6.5, 7.5, 8.5  # font sizes, points
_MAX_LABEL: Final = 14  # characters of a label in a plot


@dataclass(frozen=True)
class Theme:
    """Colours of a page; the names of its files end in ``suffix``."""

    suffix: str
    surface: str
    ink: str
    muted: str
    grid: str
    plain: str
    centred: str
    viridis: tuple[float, float]


LIGHT: Final = Theme("", "#ffffff", "#1c2026", "#59616c", "#e3e6ea", "#1f5fa8", "#c2570c", (0.0, 0.82))
DARK: Final = Theme("-dark", "#191c21", "#eceef1", "#a5adb8", "#343941", "#7ab8f5", "#f2a25c", (0.28, 1.0))
THEMES: Final = (LIGHT, DARK)


def plot_text(text: str, limit: int = _MAX_LABEL) -> str:
    """Text that matplotlib draws as it stands: short, one line, in glyphs of its font, no mathematics."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    drawable = "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "?" for c in text)
    short = drawable if len(drawable) <= limit else drawable[: limit - 1] + "…"
    return short.replace("$", r"\$")


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(
        buffer,
        format="png",
        dpi=PIXELS_PER_INCH,
        facecolor=figure.get_facecolor(),
        metadata={"Software": None},
    )
    return buffer.getvalue()


def learning_curves(results: Results, setting: str, metric: str, theme: Theme) -> Figure | None:
    """Dev value by training step: a facet a tier, a line an arm (mean), a band from lowest to highest seed.

    The dotted line is the common target of :func:`pyhbt.study.findings.convergence`.
    """
    rows = results.macro(setting=setting, metric=metric, centring="none").select(split="dev")
    colours = _arm_colours(results.arms, theme)

    def draw(axes: Axes, tier: str) -> None:
        for arm in rows.arms:
            curves = list(rows.curves(arm=arm, tier=tier).values())
            if not curves:
                continue
            shared = reduce(np.intersect1d, [steps for steps, _ in curves])
            values = np.stack([value[np.isin(steps, shared)] for steps, value in curves])
            style = "--" if not arm.plain else "-"
            if len(curves) > 1:
                axes.fill_between(
                    shared, values.min(axis=0), values.max(axis=0), color=colours[arm], alpha=0.18, lw=0
                )
            axes.plot(
                shared, values.mean(axis=0), style, color=colours[arm], lw=1.5, marker=".", markersize=3
            )
        for speed in convergence(rows, setting, tier, metric).values():
            axes.axhline(speed.target, color=theme.muted, lw=0.8, ls=":")
            break  # it is common to the arms
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}")

    title = f"{setting.capitalize()}: {metric} on the dev set"
    keys = {arm.title: (colours[arm], None, False) for arm in rows.arms}
    return _facets(rows, title, "training steps", draw, keys, theme, legend_lead="arm ")


def final_values(results: Results, setting: str, metric: str, theme: Theme) -> Figure | None:
    """Final value by arm: a facet a tier; a dot a seed, the mean and its 95 % interval; plain and centred."""
    rows = results.macro(split="test", setting=setting, metric=metric)
    title = f"{setting.capitalize()}: {metric} on the test set"

    def draw(axes: Axes, tier: str) -> None:
        for centring, colour, shift, style in zip(
            STUDY_CENTRINGS, (theme.plain, theme.centred), (-0.12, 0.12), ("-", "--"), strict=True
        ):
            where = {"tier": tier, "centring": centring, "setting": setting, "metric": metric}
            means = []
            for place, arm in enumerate(results.arms):
                seeds = list(rows.by_seed(arm=arm, **where).values())
                interval = final_interval(rows, arm, **where)
                means.append(interval.mean)
                if len(seeds) > 1:
                    axes.plot(
                        [place + 2 * shift] * len(seeds), seeds, "o", color=colour, alpha=0.55, ms=2.8, mew=0
                    )
                    axes.plot([place + shift] * 2, interval[1:], "-", color=colour, lw=1)
            hollow = theme.surface if centring == "both" else colour
            places = np.arange(len(means)) + shift
            axes.plot(places, means, style, color=colour, lw=0.9, alpha=0.7)
            axes.plot(places, means, "o", color=colour, mfc=hollow, ms=4.5, mew=1.1)
        labels = [plot_text(arm.title, 9) for arm in results.arms]
        crowded = max(map(len, labels)) * len(labels) > 26
        axes.set_xticks(range(len(labels)), labels, rotation=60 if crowded else 0)
        axes.set_xlim(-0.5, len(labels) - 0.5)

    keys = {"plain": (theme.plain, "o", False), "centred": (theme.centred, "o", True)}
    shown = rows.distinct("centring")
    present = {name: key for (name, key), c in zip(keys.items(), STUDY_CENTRINGS, strict=True) if c in shown}
    return _facets(rows, title, "arm (a number: share of cross-lingual batches)", draw, present, theme)


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
    _style(axes, theme)
    axes.set_facecolor(theme.grid)
    far = float(np.nanmax(np.abs(grid))) or 1.0
    if diverging:
        middle = "#f4f4f4" if theme is LIGHT else "#2a2e35"
        colours: Any = LinearSegmentedColormap.from_list("diverging", ["#c2570c", middle, "#2f7fd1"])
        image = axes.imshow(grid, cmap=colours, vmin=-far, vmax=far, aspect="auto")
    else:
        image = axes.imshow(grid, cmap="viridis", vmin=0, vmax=far, aspect="auto")
    font = min(_BODY, 285 / size)  # points: the pitch of the rows is 358 / size
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
        fontsize=_BODY,
        color=theme.muted,
        rotation=90,
        ha="center",
        va="center",
    )
    axes.set_xlabel("passage language", fontsize=_BODY, color=theme.muted)
    figure.text(
        0.02, 0.972, plot_text(title, 44), fontsize=_TITLE, color=theme.ink, weight="bold", va="center"
    )
    bar = figure.add_axes((0.66, 0.934, 0.31, 0.014))
    figure.colorbar(image, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=_SMALL, colors=theme.muted, length=2, pad=1)
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
            ha="center", va="bottom", fontsize=_SMALL, color=theme.muted, annotation_clip=False,
        )  # fmt: skip


def _arm_colours(arms: Sequence[Arm], theme: Theme) -> dict[Arm, Any]:
    """An ordered colour for each arm."""
    from matplotlib import colormaps

    low, high = theme.viridis
    spots = np.linspace(low, high, len(arms)) if len(arms) > 1 else [(low + high) / 2]
    return dict(zip(arms, colormaps["viridis"](spots), strict=True))


def _style(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.surface)
    axes.grid(True, color=theme.grid, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=_SMALL, colors=theme.muted, length=0, pad=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
        spine.set_linewidth(0.6)


def _facets(
    rows: Results,
    title: str,
    x_label: str,
    draw: Callable[[Axes, str], None],
    keys: Mapping[str, tuple[Any, str | None, bool]],
    theme: Theme,
    legend_lead: str = "",
) -> Figure | None:
    """A figure with one set of axes a tier, sharing y; None without rows."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tiers = [tier for tier in ALL_TIERS if tier in rows.distinct("tier")]
    if not tiers:
        return None
    columns = min(2, len(tiers))
    lines = -(-len(tiers) // columns)
    legend_rows = -(-len(keys) // 6)
    height = 0.95 + 0.17 * legend_rows + 1.42 * lines  # inches
    figure = Figure(figsize=(_WIDTH, height), dpi=PIXELS_PER_INCH, facecolor=theme.surface)
    top = 1 - (0.5 + 0.17 * legend_rows) / height
    grid = figure.subplots(
        lines, columns, squeeze=False, sharey=True, gridspec_kw={"hspace": 0.42, "wspace": 0.1}
    )
    figure.subplots_adjust(left=0.1, right=0.975, top=top, bottom=0.44 / height)
    for place, axes in enumerate(grid.flat):
        if place >= len(tiers):
            axes.set_axis_off()
            continue
        _style(axes, theme)
        draw(axes, tiers[place])
        name = "all languages" if tiers[place] == "all" else tiers[place]
        axes.set_title(name, fontsize=_BODY, color=theme.ink, loc="left", pad=4, y=1.0)
        if place % columns:
            axes.tick_params(labelleft=False)
    figure.text(
        0.03,
        1 - 0.13 / height,
        plot_text(title, 60),
        fontsize=_TITLE,
        color=theme.ink,
        weight="bold",
        va="center",
    )
    figure.text(0.54, 0.1 / height, x_label, fontsize=_BODY, color=theme.muted, ha="center", va="center")
    handles = [
        Line2D(
            [], [], color=colour, marker=mark, ls="-", lw=1.6, ms=4, mfc=theme.surface if hollow else colour
        )
        for colour, mark, hollow in keys.values()
    ]
    labels = [plot_text(name) for name in keys]
    if labels:
        labels[0] = legend_lead + labels[0]
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.02, 1 - 0.2 / height), ncols=6, fontsize=_SMALL,
        frameon=False, labelcolor=theme.muted, handlelength=1.3, columnspacing=0.9, handletextpad=0.4,
        borderpad=0.2,
    )  # fmt: skip
    return figure
