"""The plot of gains against training examples."""

from __future__ import annotations

from pathlib import Path

from pyhbt.study.analysis import analyse
from pyhbt.study.report.canvas import LIGHT, png_bytes
from pyhbt.study.report.gain import gain_by_amount_plot
from tests.study.synthetic_study import SMALL, Study, write_study


def test_every_language_is_a_point_with_its_name(tmp_path: Path) -> None:
    figure = gain_by_amount_plot(analyse(write_study(tmp_path, SMALL)), "recall@10", LIGHT)
    assert figure is not None
    axes = figure.axes[0]
    assert sorted(text.get_text() for text in axes.texts) == sorted(SMALL.languages)
    assert axes.get_xticklabels()[0].get_text() == "0"
    png_bytes(figure)


def test_two_languages_make_no_plot(tmp_path: Path) -> None:
    shape = Study(ratios=(0, 1), languages=("en", "de"))
    assert gain_by_amount_plot(analyse(write_study(tmp_path, shape)), "recall@10", LIGHT) is None
