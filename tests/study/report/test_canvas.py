"""The paper of plots: any text, any theme, no global state."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from pyhbt.study.arms import Arm
from pyhbt.study.report.canvas import (
    LIGHT,
    PIXELS_PER_INCH,
    THEMES,
    Theme,
    arm_colours,
    facets,
    panels,
    plot_text,
    png_bytes,
    single,
)
from tests.interpreter import run_python
from tests.study.synthetic_study import HOSTILE


def pixels(png: bytes) -> np.ndarray:
    image: np.ndarray = imread(io.BytesIO(png))
    return image


@pytest.mark.parametrize("theme", THEMES)
def test_figures_have_the_pages_surface(theme: Theme) -> None:
    drawn = []
    figure = facets(["seen", "all"], "title", "x", lambda axes, tier: drawn.append(tier), {}, theme)
    assert figure is not None
    assert drawn == ["all", "seen"]
    other, _ = single("title", theme)
    surface = np.array([int(theme.surface[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    for one in (figure, other):
        image = pixels(png_bytes(one))
        assert image.shape[1] == 4 * PIXELS_PER_INCH
        np.testing.assert_allclose(image[0, 0, :3], surface, atol=1 / 255)
    assert facets([], "title", "x", lambda axes, tier: None, {}, theme) is None


@pytest.mark.parametrize(
    "text", [HOSTILE, "$", "$$", r"\$x$", "$x^{$", "", "\x00\t", "中文", "x" * 500, "%_&#{}"]
)
def test_any_text_can_be_drawn(text: str) -> None:
    drawn = plot_text(text)
    assert len(drawn.replace(r"\$", "$")) <= 14
    figure, axes = single(text, LIGHT)
    axes.set_xlabel(plot_text(text))
    png_bytes(figure)


def test_few_labels_of_a_legend_are_whole() -> None:
    keys = {
        "fit and 95 % interval of the mean": ("#123456", "o", False),
        "best ratio, 95 %": ("#654321", None, False),
    }
    figure = panels({"all": "all"}, "title", "x", lambda axes, name: None, keys, LIGHT)
    assert figure is not None
    figure.draw_without_rendering()
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == list(keys)
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_arms_have_colours_of_their_own() -> None:
    arms = list(map(Arm.parse, (0, 0.5, 1)))
    colours = arm_colours(arms, LIGHT)
    assert len({tuple(colour) for colour in colours.values()}) == 3
    assert len(arm_colours(arms[:1], LIGHT)) == 1
    assert arm_colours([], LIGHT) == {}


def test_global_state_stays_as_it_is() -> None:
    before = dict(mpl.rcParams)
    png_bytes(single("title", LIGHT)[0])
    assert dict(mpl.rcParams) == before


def test_matplotlib_and_torch_load_late() -> None:
    code = "import sys, pyhbt.study.report; sys.exit(any(m in sys.modules for m in ('matplotlib', 'torch', 'jinja2')))"
    run_python(code)
