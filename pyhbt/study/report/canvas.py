"""The paper that plots of the report are drawn on: themes, text, facets by tier, and the file.

A figure is about 400 CSS pixels wide, so that three stand side by side on a desktop page and one fills a phone. No
global state of matplotlib is read or changed. Arms take colours of viridis, ordered and colour-blind safe.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pyhbt.evaluation.names import ALL_TIERS
from pyhbt.study.arms import Arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PIXELS_PER_INCH: Final = 200  # of the files; the page shows them at half that, sharp on dense screens
WIDTH: Final = 4.0  # inches, of a figure of facets
SMALL, BODY, TITLE = 6.5, 7.5, 8.5  # font sizes, points
_MAX_LABEL: Final = 14  # characters of a label in a plot
_LEGEND_ROOM: Final = 72  # of all labels of a legend of one row


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


def arm_colours(arms: Sequence[Arm], theme: Theme) -> dict[Arm, Any]:
    """An ordered colour for each arm."""
    from matplotlib import colormaps

    low, high = theme.viridis
    spots = np.linspace(low, high, len(arms)) if len(arms) != 1 else np.array([(low + high) / 2])
    return dict(zip(arms, colormaps["viridis"](spots), strict=True))


def style_axes(axes: Axes, theme: Theme) -> None:
    """A quiet grid, and a line below."""
    axes.set_facecolor(theme.surface)
    axes.grid(True, color=theme.grid, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, colors=theme.muted, length=0, pad=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
        spine.set_linewidth(0.6)


def facets(
    tiers: Sequence[str],
    title: str,
    x_label: str,
    draw: Callable[[Axes, str], None],
    keys: Mapping[str, tuple[Any, str | None, bool]],
    theme: Theme,
    legend_lead: str = "",
) -> Figure | None:
    """A figure with one set of axes a tier, sharing y; None without tiers."""
    names = {tier: "all languages" if tier == "all" else tier for tier in ALL_TIERS if tier in tiers}
    return panels(names, title, x_label, draw, keys, theme, legend_lead)


def panels(
    names: Mapping[str, str],
    title: str,
    x_label: str,
    draw: Callable[[Axes, str], None],
    keys: Mapping[str, tuple[Any, str | None, bool]],
    theme: Theme,
    legend_lead: str = "",
    *,
    share_y: bool = True,
) -> Figure | None:
    """A figure with one set of axes for each of ``names``, which head them, below a legend of ``keys``."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not names:
        return None
    columns = min(2, len(names))
    lines = -(-len(names) // columns)
    legend_rows = -(-len(keys) // 6)
    height = 0.95 + 0.17 * legend_rows + 1.42 * lines  # inches
    figure = Figure(figsize=(WIDTH, height), dpi=PIXELS_PER_INCH, facecolor=theme.surface)
    top = 1 - (0.5 + 0.17 * legend_rows) / height
    space = {"hspace": 0.42, "wspace": 0.1 if share_y else 0.24}
    grid = figure.subplots(lines, columns, squeeze=False, sharey=share_y, gridspec_kw=space)
    figure.subplots_adjust(left=0.1, right=0.975, top=top, bottom=0.44 / height)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for place, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        style_axes(axes, theme)
        draw(axes, name)
        axes.set_title(names[name], fontsize=BODY, color=theme.ink, loc="left", pad=4, y=1.0)
        if share_y and place % columns:
            axes.tick_params(labelleft=False)
    figure.text(
        0.03,
        1 - 0.13 / height,
        plot_text(title, 60),
        fontsize=TITLE,
        color=theme.ink,
        weight="bold",
        va="center",
    )
    figure.text(0.54, 0.1 / height, x_label, fontsize=BODY, color=theme.muted, ha="center", va="center")
    handles = [
        Line2D(
            [], [], color=colour, marker=mark, ls="-", lw=1.6, ms=4, mfc=theme.surface if hollow else colour
        )
        for colour, mark, hollow in keys.values()
    ]
    room = max(_MAX_LABEL, _LEGEND_ROOM // max(1, len(keys)))
    labels = [plot_text(name, room) for name in keys]
    if labels:
        labels[0] = legend_lead + labels[0]
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.02, 1 - 0.2 / height), ncols=6, fontsize=SMALL,
        frameon=False, labelcolor=theme.muted, handlelength=1.3, columnspacing=0.9, handletextpad=0.4,
        borderpad=0.2,
    )  # fmt: skip
    return figure


def single(title: str, theme: Theme) -> tuple[Figure, Axes]:
    """A figure with one set of axes below its title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.2), dpi=PIXELS_PER_INCH, facecolor=theme.surface)
    axes = figure.add_axes((0.14, 0.14, 0.82, 0.74))
    style_axes(axes, theme)
    figure.text(
        0.03, 0.955, plot_text(title, 60), fontsize=TITLE, color=theme.ink, weight="bold", va="center"
    )
    return figure, axes
