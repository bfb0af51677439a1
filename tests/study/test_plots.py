"""Plots: drawn for every theme and shape of study, untroubled by any text, without global state."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from pyhbt.study.plots import (
    DARK,
    LIGHT,
    PIXELS_PER_INCH,
    THEMES,
    Theme,
    final_values,
    learning_curves,
    pair_heat_map,
    plot_text,
    png_bytes,
)
from pyhbt.study.results import Results
from tests.interpreter import run_python
from tests.study.synthetic_study import HOSTILE, HOSTILE_ARM, Study, rows


@pytest.fixture(scope="module")
def results() -> Results:
    return Results.from_rows(rows(Study(languages=("sw", "en", "ar"))))


def pixels(png: bytes) -> np.ndarray:
    image: np.ndarray = imread(io.BytesIO(png))
    return image


@pytest.mark.parametrize("theme", THEMES)
def test_figures_fill_their_page(results: Results, theme: Theme) -> None:
    for figure in (
        learning_curves(results, "cross-lingual", "mAP", theme),
        final_values(results, "multilingual", "rank distance", theme),
    ):
        assert figure is not None
        image = pixels(png_bytes(figure))
        assert image.shape[1] == 4 * PIXELS_PER_INCH
        surface = np.array([int(theme.surface[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        np.testing.assert_allclose(image[0, 0, :3], surface, atol=1 / 255)
        painted = np.abs(image[..., :3] - surface).max(axis=2) > 0.2
        assert painted.any(axis=1).mean() > 0.3
        assert painted.any(axis=0).mean() > 0.7


def test_facets_are_the_tiers_present() -> None:
    for tiers, count in (
        (("seen",), 2),
        (("seen", "zero-shot"), 3),
        (("seen", "low-resource", "zero-shot"), 4),
    ):
        study = Study(ratios=(0.5,), seeds=(0,), languages=("en", "de", "ar"), tiers=tiers)  # type: ignore[arg-type]
        figure = learning_curves(Results.from_rows(rows(study)), "monolingual", "mAP", LIGHT)
        assert figure is not None
        assert sum(axes.axison for axes in figure.axes) == count
        png_bytes(figure)


def test_nothing_to_draw(results: Results) -> None:
    assert learning_curves(results, "monolingual", "nDCG@10", LIGHT) is None
    assert final_values(results.select(split="dev"), "monolingual", "mAP", LIGHT) is None
    assert pair_heat_map({}, {"en": "seen"}, "empty", DARK) is None
    assert pair_heat_map({("en", "en"): 0.5}, {"en": "seen"}, "one language", DARK) is None


def test_curves_of_unequal_length_meet_on_shared_steps() -> None:
    study = Study(ratios=(0.5,), seeds=(0, 1), languages=("en", "de", "ar"), steps=(0, 10, 20))
    kept = (row for row in rows(study) if (row["seed"], row["step"]) != (1, 20))
    figure = learning_curves(Results.from_rows(kept), "monolingual", "mAP", LIGHT)
    assert figure is not None
    (line,) = (
        line for line in figure.axes[0].lines if np.size(line.get_xdata()) == 2 and line.get_marker() == "."
    )
    np.testing.assert_array_equal(np.asarray(line.get_xdata()), [0, 10])


@pytest.mark.parametrize(
    "text", [HOSTILE, "$", "$$", r"\$x$", "$x^{$", "", "\x00\t", "中文", "x" * 500, "%_&#{}"]
)
def test_any_text_can_be_drawn(text: str) -> None:
    drawn = plot_text(text)
    assert len(drawn.replace(r"\$", "$")) <= 14
    languages = {text: "seen", "other": "zero-shot"}
    values = {(text, text): 0.5, (text, "other"): -0.2, ("other", text): 0.1}
    figure = pair_heat_map(values, languages, text, DARK, diverging=True)
    assert figure is not None
    png_bytes(figure)


def test_hostile_schedule_name() -> None:
    study = Study(ratios=(0, HOSTILE_ARM), seeds=(0,), languages=("en", "de", "ar"))
    hostile = Results.from_rows(rows(study))
    for figure in (learning_curves(hostile, "monolingual", "mAP", DARK),
                   final_values(hostile, "monolingual", "mAP", DARK)):  # fmt: skip
        assert figure is not None
        png_bytes(figure)


@pytest.mark.parametrize("size", [2, 14, 15, 43])
def test_heat_map_of_any_size(size: int) -> None:
    languages = {f"l{i}": ("seen", "low-resource", "zero-shot")[i * 3 // size] for i in range(size)}
    values = {(q, p): 0.4 for q in languages for p in languages if q != p}
    figure = pair_heat_map(values, languages, "pairs", LIGHT)
    assert figure is not None
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(languages)
    squares = [text for text in axes.texts if text.get_text() == "0.40"]
    assert len(squares) == (size * (size - 1) if size <= 14 else 0)
    png_bytes(figure)


def test_a_map_without_differences(results: Results) -> None:
    languages = {"en": "seen", "de": "seen"}
    figure = pair_heat_map(
        dict.fromkeys([("en", "de"), ("de", "en")], 0.0), languages, "flat", LIGHT, diverging=True
    )
    assert figure is not None
    png_bytes(figure)


def test_global_state_stays_as_it_is(results: Results) -> None:
    before = dict(mpl.rcParams)
    figure = final_values(results, "monolingual", "mAP", DARK)
    assert figure is not None
    png_bytes(figure)
    assert dict(mpl.rcParams) == before


def test_matplotlib_and_torch_load_late() -> None:
    code = "import sys, pyhbt.study.report; sys.exit(any(m in sys.modules for m in ('matplotlib', 'torch', 'jinja2')))"
    run_python(code)
