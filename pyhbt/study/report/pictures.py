"""The report's plots: drawn, saved below plots/ and inlined, each for a light and for a dark page."""

from __future__ import annotations

import base64
import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyhbt.evaluation.names import SETTINGS
from pyhbt.files import write_atomically
from pyhbt.study.analysis import Analysis
from pyhbt.study.convergence import AXES
from pyhbt.study.report.canvas import DARK, LIGHT, THEMES, Theme, png_bytes
from pyhbt.study.report.curves import learning_curves
from pyhbt.study.report.finals import bias_values, final_values, front, response_curves
from pyhbt.study.report.gain import gain_by_amount_plot
from pyhbt.study.report.pairs import pair_heat_map
from pyhbt.study.report.quality import BIAS_TABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """One plot as data URLs for a light and a dark page, with its size in CSS pixels."""

    alt: str
    light: str
    dark: str
    width: int
    height: int


class _Drawn(NamedTuple):
    section: str
    alt: str
    url: str
    width: int
    height: int


class _Plot(NamedTuple):
    section: str
    name: str
    alt: str
    draw: Callable[[Theme], Figure | None]


def write_plots(analysis: Analysis, folder: Path, jobs: int = 1) -> dict[str, list[Picture]]:
    """Draw, save and inline every plot; section name -> its pictures. About half a second a plot and theme.

    With ``jobs`` above 1 a second process draws those of dark pages.
    """
    folder.mkdir(exist_ok=True)
    if jobs > 1:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            dark = executor.submit(_draw, analysis, DARK, folder)
            drawn = [_draw(analysis, LIGHT, folder), dark.result()]
    else:
        drawn = [_draw(analysis, theme, folder) for theme in THEMES]
    sections: dict[str, list[Picture]] = {}
    for light, dark_one in zip(*drawn, strict=True):
        picture = Picture(light.alt, light.url, dark_one.url, light.width, light.height)
        sections.setdefault(light.section, []).append(picture)
    return sections


def _draw(analysis: Analysis, theme: Theme, folder: Path) -> list[_Drawn]:
    """Draw and save what there is to draw for one theme."""
    drawn = []
    for plot in _plots(analysis):
        figure = plot.draw(theme)
        if figure is None:
            continue
        png = png_bytes(figure)
        with write_atomically(folder / f"{plot.name}{theme.suffix}.png") as temporary:
            temporary.write_bytes(png)
        url = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        width, height = (round(100 * inches) for inches in figure.get_size_inches())
        drawn.append(_Drawn(plot.section, plot.alt, url, width, height))
    return drawn


def _plots(analysis: Analysis) -> Iterator[_Plot]:
    """All settings of the first metric, and the primary endpoint's setting of the others."""
    primary, first = analysis.primary, analysis.metrics[0] if analysis.metrics else None
    shown = [(metric, setting) for metric in analysis.metrics for setting in SETTINGS]
    for metric, setting in shown:
        if metric != first and setting != primary.setting:
            continue
        name, what = f"{setting}-{_slug(metric)}", f"{metric}, {setting} setting"
        for axis in AXES if (metric, setting) == (first, primary.setting) else AXES[:1]:
            yield _Plot(
                "curves" if axis == "steps" else "curves over",
                f"learning-curves-{name}" + ("" if axis == "steps" else f"-{axis}"),
                f"Learning curves over {axis}: {what}, a line an arm",
                partial(learning_curves, analysis.macro, setting, metric, axis=axis),
            )
        yield _Plot(
            "finals",
            f"final-{name}",
            f"Final {what}, by arm, plain and centred",
            partial(final_values, analysis, setting, metric),
        )
        if metric == first:
            yield _Plot(
                "response",
                f"response-{name}",
                f"Final {what}, by ratio, with the curve fitted",
                partial(response_curves, analysis, setting, metric),
            )
    for title, measures in BIAS_TABLES.items():
        yield _Plot(
            "bias",
            f"bias-{_slug(title)}",
            f"Language bias by arm: {title.lower()}, a facet a measure",
            partial(bias_values, analysis, f"{title}: the test set", measures),
        )
    if first is not None:
        yield _Plot(
            "front",
            f"front-{_slug(first)}",
            f"Monolingual against cross-lingual {first}, a point an arm",
            partial(front, analysis, first),
        )
        yield _Plot(
            "gain",
            f"gain-{_slug(first)}",
            f"Gain of each language in {first} against its training examples",
            partial(gain_by_amount_plot, analysis, first),
        )
        yield from _heat_maps(analysis, first)


def _heat_maps(analysis: Analysis, metric: str) -> Iterator[_Plot]:
    """The language pairs at the chosen arm, and their difference from the reference."""
    chosen, reference = analysis.chosen, analysis.reference
    if chosen is None or reference is None:
        return
    rows = analysis.results.select(split="test", centring="none", metric=metric, setting=SETTINGS[:2])
    tiers = analysis.results.language_tiers()
    values = rows.pair_means(arm=chosen)
    title = f"{metric} at {chosen.called}"
    yield _Plot(
        "pairs", "language-pairs", f"{title} by language pair", partial(pair_heat_map, values, tiers, title)
    )
    if chosen == reference:
        return
    before = rows.pair_means(arm=reference)
    change = {pair: values[pair] - before[pair] for pair in values.keys() & before.keys()}
    name = f"{chosen.called} minus {reference.called}"
    yield _Plot(
        "pairs",
        "language-pairs-difference",
        f"{metric} by language pair, {name}",
        partial(pair_heat_map, change, tiers, f"Difference: {name}", diverging=True),
    )


def _slug(name: str) -> str:
    """A metric's name in a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "metric"
