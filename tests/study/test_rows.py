"""Rows of cells, gathered in one file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.rows import collect
from tests.study.test_influences import save_scores
from tests.study.test_results import ROW

if TYPE_CHECKING:
    from pathlib import Path


def test_cells_are_collected_under_the_name_of_their_arm(tmp_path: Path) -> None:
    """A tuned arm's rows are told under the arm; its other candidates are not told at all."""
    tuned = Arm.parse(0.5)
    for rate in (0.1, 0.2):
        arm = tuned.with_learning_rate(rate)
        folder = tmp_path / "cells" / f"{rate}"
        save_scores(folder, Cell(arm, 1), {"clusters": np.array(["a"])})
        (folder / "rows.jsonl").write_text(json.dumps({**ROW, "arm": arm.label, "value": rate}) + "\n")
        (folder / "measured/test/rows.jsonl").touch()
    choice = {"0.5": {"chosen": 0.2, "scores": [[0.1, 0.3], [0.2, 0.4]]}}
    (tmp_path / "tuning.json").write_text(json.dumps(choice))
    (line,) = collect(tmp_path).read_text().splitlines()
    assert json.loads(line) == {**ROW, "arm": "0.5", "value": 0.2}
