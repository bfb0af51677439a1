"""Plots of final scores: by arm, by ratio, and of two settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyhbt.study.analysis import Analysis, analyse
from pyhbt.study.report.canvas import LIGHT, THEMES, Theme, png_bytes
from pyhbt.study.report.finals import final_values, front, response_curves
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
