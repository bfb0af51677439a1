"""Tables of the response, of two factors, of gains and of what a difference needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyhbt.study.analysis import Analysis, analyse
from pyhbt.study.report.response import factor_tables, gain_table, needed_table, response_table
from tests.study.synthetic_study import SMALL, Study, write_study


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(write_study(tmp_path_factory.mktemp("study"), SMALL))


def test_the_best_ratio_of_every_endpoint(analysis: Analysis) -> None:
    table = response_table(analysis)
    assert table is not None
    assert len(table.rows) == 2 * 3 * 4
    cells = {row.head: [cell.text for cell in row.cells] for row in table.rows}
    degree, at, limits, members = cells["cross-lingual recall@10"]
    assert degree in ("2", "3")
    assert 0.4 < float(at) < 0.8
    low, high = map(float, limits.split(" to "))
    assert low <= 0.6 <= high
    assert "0.5" in members.split(", ") or "0.75" in members.split(", ")


def test_what_a_difference_needs(analysis: Analysis) -> None:
    table = needed_table(analysis, (0.01, 0.5))
    assert table is not None
    assert table.columns == ("smallest", "0.01", "0.5", "0.01", "0.5")
    for row in table.rows:
        smallest, *_, large = (cell.text for cell in row.cells)
        assert 0 < float(smallest) < 0.5
        assert int(large) >= 2
        assert row.cells[2].text == "3"


def test_gains_have_a_regression(analysis: Analysis) -> None:
    table = gain_table(analysis)
    assert table is not None
    assert table.rows[0].cells[0].text == str(len(SMALL.languages))


def test_a_grid_of_two_factors_is_told(tmp_path: Path) -> None:
    shape = Study(
        ratios=(0, 1, "0+negatives=mixed", "1+negatives=mixed"), languages=("en", "de"), metrics=("mAP",)
    )
    (table,) = factor_tables(analyse(write_study(tmp_path, shape)))
    assert table.columns == ("1", "negatives=mixed", "interaction")
    assert [row.head for row in table.rows] == ["monolingual mAP", "cross-lingual mAP", "multilingual mAP"]
    assert all(cell.note.startswith("p") for row in table.rows for cell in row.cells)


def test_little_to_tell(tmp_path: Path) -> None:
    few = analyse(write_study(tmp_path, Study(ratios=(0, 1), seeds=(0,), languages=("en", "de"))))
    assert response_table(few) is None
    assert needed_table(few) is None
    assert factor_tables(few) == []
