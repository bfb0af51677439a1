"""Learning curves."""

from __future__ import annotations

import numpy as np
import pytest

from pyhbt.study.report.canvas import DARK, LIGHT, THEMES, Theme, png_bytes
from pyhbt.study.report.curves import learning_curves
from pyhbt.study.results import Results
from tests.study.synthetic_study import HOSTILE_ARM, Study, rows


@pytest.mark.parametrize("theme", THEMES)
def test_curves_fill_their_page(theme: Theme) -> None:
    results = Results.from_rows(rows(Study(languages=("sw", "en", "ar"))))
    figure = learning_curves(results, "cross-lingual", "mAP", theme)
    assert figure is not None
    assert len(png_bytes(figure)) > 10_000
    (axes, *_) = figure.axes
    lines = [line for line in axes.lines if line.get_marker() == "."]
    assert len(lines) == 5
    assert axes.get_xlim()[0] == 0
    assert learning_curves(results, "monolingual", "nDCG@10", theme) is None
    assert learning_curves(results, "cross-lingual", "mAP", theme, axis="tokens") is None


@pytest.mark.parametrize(
    ("tiers", "count"),
    [(("seen",), 2), (("seen", "zero-shot"), 3), (("seen", "low-resource", "zero-shot"), 4)],
)
def test_facets_are_the_tiers_present(tiers: tuple[str, ...], count: int) -> None:
    study = Study(ratios=(0.5,), seeds=(0,), languages=("en", "de", "ar"), tiers=tiers)  # type: ignore[arg-type]
    figure = learning_curves(Results.from_rows(rows(study)), "monolingual", "mAP", LIGHT)
    assert figure is not None
    assert sum(axes.axison for axes in figure.axes) == count


def test_curves_of_unequal_length_meet_on_shared_steps() -> None:
    study = Study(ratios=(0.5,), seeds=(0, 1), languages=("en", "de", "ar"), steps=(0, 10, 20))
    kept = (row for row in rows(study) if (row["seed"], row["step"]) != (1, 20))
    figure = learning_curves(Results.from_rows(kept), "monolingual", "mAP", LIGHT)
    assert figure is not None
    (line,) = (line for line in figure.axes[0].lines if line.get_marker() == ".")
    np.testing.assert_array_equal(np.asarray(line.get_xdata()), [0, 10])


def test_hostile_names_and_one_step() -> None:
    study = Study(ratios=(0, HOSTILE_ARM), seeds=(0,), languages=("en", "de"), steps=(0,))
    figure = learning_curves(Results.from_rows(rows(study)), "monolingual", "mAP", DARK)
    assert figure is not None
    png_bytes(figure)
