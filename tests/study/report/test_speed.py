"""Tables of convergence."""

from __future__ import annotations

from pathlib import Path

from pyhbt.study.analysis import analyse
from pyhbt.study.report.speed import speed_table, targets_table
from tests.study.synthetic_study import SMALL, Study, write_study


def test_times_are_restricted_means(tmp_path: Path) -> None:
    analysis = analyse(write_study(tmp_path, SMALL))
    table = speed_table(analysis, "recall@10")
    assert table is not None
    assert [row.head for row in table.rows] == ["target", "0", "", "0.25", "", "0.5", "", "0.75", "", "1", ""]
    cross = table.columns.index("all", 1)
    cells = {row.head: row.cells[cross] for row in table.rows if row.head}
    assert (cells["0"].text, cells["0"].note) == ("> 2,000", "never")
    assert int(cells["0.5"].text.replace(",", "")) > 0
    assert cells["0.5"].note.startswith("± ")
    assert speed_table(analysis, "nDCG@10") is None
    targets = targets_table(analysis)
    assert targets is not None
    assert targets.spans == (("steps", 4),)  # the made-up study counts neither examples nor tokens
    assert "p" in targets.rows[2].cells[1].note


def test_one_seed_has_times_alone(tmp_path: Path) -> None:
    analysis = analyse(write_study(tmp_path, Study(ratios=(0, 1), seeds=(0,), languages=("en", "de"))))
    table = speed_table(analysis, "mAP")
    assert table is not None
    assert not any(cell.note.startswith("±") for row in table.rows for cell in row.cells)
