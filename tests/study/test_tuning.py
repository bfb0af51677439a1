"""The learning rate of each arm: candidates, the choice by dev scores, cells by the arm they stand for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.config import StudyConfig
from pyhbt.study.tuning import Tuned, candidates, choices, choose, chosen_cells, study_cells
from pyhbt.training.config import TrainingConfig

CONFIG = StudyConfig(
    TrainingConfig.of(steps=6, batch_size=8, learning_rate=0.01, temperature=0.05),
    arms=(0.0, "1+learning-rate=0.5"),
    seeds=(3, 4),
    learning_rates=(0.1, 0.2, 0.3),
)
ZERO = Arm.parse(0)


def trained(out: Path, arm: Arm, seed: int, *scores: float) -> Path:
    """A cell with these points of its curve, in the primary endpoint."""
    cell = Cell(arm, seed)
    folder = out / "cells" / cell.folder_name
    folder.mkdir(parents=True)
    cell.sign(folder)
    rows = [
        {"arm": arm.label, "seed": seed, "step": step, "split": "dev", "centring": "none",
         "setting": "cross-lingual", "tier": "all", "metric": metric, "value": value + shift}
        for step, value in enumerate(scores)
        for metric, shift in (("recall@10", 0), ("mAP", -0.1))
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_candidates_have_the_first_seed() -> None:
    assert candidates(CONFIG) == [Cell(ZERO.with_learning_rate(rate), 3) for rate in (0.1, 0.2, 0.3)]


def test_the_last_point_of_the_curve_decides(tmp_path: Path) -> None:
    folders = {
        rate: trained(tmp_path, ZERO.with_learning_rate(rate), 3, *scores)
        for rate, scores in ((0.1, (0.9, 0.3)), (0.2, (0.1, 0.5)), (0.3, (0.2, 0.4)))
    }
    other = trained(tmp_path, CONFIG.arms[1], 3, 0.5)
    choose(CONFIG, tmp_path)
    assert choices(tmp_path) == {ZERO: Tuned(0.2, {0.1: 0.3, 0.2: 0.5, 0.3: 0.4})}
    cells = list(map(Cell._make, CONFIG.cells))
    assert chosen_cells(tmp_path, cells) == [
        Cell(ZERO.with_learning_rate(0.2), 3),
        Cell(CONFIG.arms[1], 3),
        Cell(ZERO.with_learning_rate(0.2), 4),
        Cell(CONFIG.arms[1], 4),
    ]
    assert study_cells(tmp_path) == {Cell(ZERO, 3): folders[0.2], Cell(CONFIG.arms[1], 3): other}


def test_without_scores_there_is_no_choice(tmp_path: Path) -> None:
    for rate in (0.1, 0.2, 0.3):
        trained(tmp_path, ZERO.with_learning_rate(rate), 3)
    with pytest.raises(ValueError, match="found no cross-lingual recall@10 on the dev set at ratio 0"):
        choose(CONFIG, tmp_path)


def test_a_missing_score_is_kept_as_missing(tmp_path: Path) -> None:
    trained(tmp_path, ZERO.with_learning_rate(0.1), 3)
    for rate in (0.2, 0.3):
        trained(tmp_path, ZERO.with_learning_rate(rate), 3, rate)
    choose(CONFIG, tmp_path)
    found = choices(tmp_path)[ZERO]
    assert found.chosen == 0.3
    assert math.isnan(found.scores[0.1])


@pytest.mark.parametrize("text", ["{", "[]", '{"0": 1}', '{"nonsense": {}}'])
def test_damage_is_named(tmp_path: Path, text: str) -> None:
    assert choices(tmp_path) == {}
    (tmp_path / "tuning.json").write_text(text)
    with pytest.raises(ValueError, match=r"tuning\.json: found no choices of learning rates"):
        choices(tmp_path)
