"""Tables of means and of differences."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyhbt.study.analysis import Analysis, analyse
from pyhbt.study.arms import Arm
from pyhbt.study.report.quality import (
    UNSEEN_MARK,
    bias_differences_table,
    bias_table,
    differences_table,
    quality_table,
)
from pyhbt.study.words import number, signed
from tests.study.synthetic_study import SMALL, Study, write_study


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(write_study(tmp_path_factory.mktemp("study"), SMALL))


def test_means_and_the_best_of_each_column(analysis: Analysis) -> None:
    table = quality_table(analysis, "recall@10")
    assert len(table.rows) == 5 * 2
    assert [row.head for row in table.rows[::2]] == ["0", "0.25", "0.5", "0.75", "1"]
    assert {row.sub for row in table.rows} == {"plain", "centred"}
    column = [table.columns.index("all", 1)]  # of the cross-lingual setting
    for centring, rows in (("none", table.rows[::2]), ("both", table.rows[1::2])):
        endpoint = analysis.primary._replace(centring=centring)
        for arm, row in zip(analysis.scores.arms, rows, strict=True):
            estimate = analysis.scores.mean(endpoint, arm)
            (cell,) = (row.cells[place] for place in column)
            assert cell.text == number(estimate.value)
            assert cell.note == f"± {number(estimate.interval().half_width)}"
            assert cell.strong == (arm == analysis.scores.best(endpoint, analysis.scores.arms))
    assert table.notes == ()


def test_differences_are_from_the_reference(analysis: Analysis) -> None:
    table = differences_table(analysis, "recall@10", "none")
    assert table is not None
    assert [row.head for row in table.rows] == ["0.25", "0.5", "0.75", "1"]
    for row in table.rows:
        comparison = analysis.comparisons.find(analysis.primary, Arm.parse(row.head))
        assert comparison is not None
        cell = row.cells[table.columns.index("all", 1)]
        assert (cell.text, cell.strong) == (signed(comparison.estimate.value), comparison.significant)
    assert table.notes[0] == "Reference: ratio 0."
    assert "Primary: Holm over 4." in table.notes
    assert any(note.startswith("Secondary: false discovery rate over") for note in table.notes)
    assert differences_table(analysis, "nDCG@10", "none") is None
    assert bias_differences_table(analysis, "bias", SMALL.bias) is not None
    assert bias_table(analysis, "bias", ("PEER@100",)) is None


def test_arms_that_saw_other_languages_are_marked(tmp_path: Path) -> None:
    shape = Study(ratios=(0, 0.5, 1), languages=("en", "de", "sw", "yo", "th", "zu"), confounded=True)
    analysis = analyse(write_study(tmp_path, shape))
    table = quality_table(analysis, "recall@10")
    low = table.columns.index("low-resource", 4)  # of the cross-lingual setting
    assert [UNSEEN_MARK in row.cells[low].text for row in table.rows[::2]] == [True, False, False]
    assert not table.rows[0].cells[low].strong
    assert table.notes[0].startswith(UNSEEN_MARK)
    differences = differences_table(analysis, "recall@10", "none")
    assert differences is not None
    marked = differences.rows[0].cells[low]
    assert (marked.note, marked.strong) == ("not comparable", False)
