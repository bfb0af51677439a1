"""Plots of final scores: by arm, by ratio, and of two settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyhbt.evaluation.names import SETTINGS
from pyhbt.study.analysis import Analysis, analyse
from pyhbt.study.report.canvas import LIGHT, THEMES, Theme, png_bytes
from pyhbt.study.report.curves import learning_curves
from pyhbt.study.report.finals import bias_values, final_values, front, response_curves
from pyhbt.study.report.quality import BIAS_TABLES
from tests.study.synthetic_study import HOSTILE_ARM, Study, write_study


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(write_study(tmp_path_factory.mktemp("study"), Study(languages=("sw", "en", "ar"))))


@pytest.mark.parametrize("theme", THEMES)
def test_all_are_drawn(analysis: Analysis, theme: Theme) -> None:
    for figure in (
        final_values(analysis, "multilingual", "rank distance", theme),
        response_curves(analysis, "cross-lingual", "recall@10", theme),
        front(analysis, "recall@10", theme),
    ):
        assert figure is not None
        assert len(png_bytes(figure)) > 10_000


def beyond(figure: Figure | None) -> list[str]:
    """Facets whose data lie outside of their axes, with what was left out."""
    assert figure is not None
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        low, high = axes.get_ylim()
        drawn = [line.get_ydata() for line in axes.lines if line.get_transform() == axes.transData]
        drawn += [path.vertices[:, 1] for band in axes.collections for path in band.get_paths()]
        heights = np.concatenate([np.asarray(part, dtype=float) for part in drawn]) if drawn else np.zeros(0)
        outside = heights[(heights < low) | (heights > high)]
        if outside.size:
            found.append(f"{axes.get_title(loc='left')}: {outside.min():g} to {outside.max():g}")
    return found


def test_no_facet_cuts_its_data_off(analysis: Analysis) -> None:
    """Facets share the axis of y, so what one of them does to it happens to all."""
    for setting in SETTINGS:
        assert beyond(response_curves(analysis, setting, "recall@10", LIGHT)) == []
        assert beyond(final_values(analysis, setting, "recall@10", LIGHT)) == []
        assert beyond(learning_curves(analysis.macro, setting, "recall@10", LIGHT)) == []
    for title, measures in BIAS_TABLES.items():
        figure = bias_values(analysis, title, measures, LIGHT)
        assert figure is None or beyond(figure) == []
    assert bias_values(analysis, "none was measured", ("PEER@100",), LIGHT) is None
    assert beyond(front(analysis, "recall@10", LIGHT)) == []


def test_the_response_has_its_band_and_the_best_ratio(analysis: Analysis) -> None:
    figure = response_curves(analysis, "cross-lingual", "recall@10", LIGHT)
    assert figure is not None
    axes = figure.axes[0]
    fitted, *points, best = axes.lines
    assert len(fitted.get_xdata()) == 61
    assert len(points) == 5
    response = analysis.response(analysis.primary)
    assert response is not None
    found = response.best_ratio()
    assert list(best.get_xdata()) == [found.low, found.high]
    assert axes.collections


def test_the_front_joins_the_arms_that_none_dominates(analysis: Analysis) -> None:
    figure = front(analysis, "recall@10", LIGHT)
    assert figure is not None
    (dashed,) = (line for line in figure.axes[0].lines if line.get_linestyle() == "--")
    at, up = dashed.get_xdata(), dashed.get_ydata()
    assert list(at) == sorted(at)
    assert list(up) == sorted(up, reverse=True)


def test_little_to_draw(tmp_path: Path) -> None:
    shape = Study(ratios=(0, HOSTILE_ARM), seeds=(0,), languages=("en", "de", "ar"))
    few = analyse(write_study(tmp_path, shape))
    assert response_curves(few, "cross-lingual", "recall@10", LIGHT) is None
    assert final_values(few, "monolingual", "nDCG@10", LIGHT) is None
    hostile = final_values(few, "monolingual", "mAP", LIGHT)
    assert hostile is not None
    png_bytes(hostile)
    alone = analyse(write_study(tmp_path / "one", Study(ratios=(0,), languages=("en", "de"))))
    assert front(alone, "recall@10", LIGHT) is None
