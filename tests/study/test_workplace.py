"""Where cells are made: budgets, encoders that are kept, averages of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pyhbt.encoders import load_encoder
from pyhbt.options import changed
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.config import StudyConfig
from pyhbt.study.workplace import Workplace, average_weights
from pyhbt.training.config import TrainingConfig
from tests.toy import study_data

TRAINING = TrainingConfig.of(steps=6, batch_size=8, learning_rate=0.01, temperature=0.05)
CONFIG = StudyConfig(TRAINING, data="toy", arms=(0.0, 1.0), seeds=(0,))


def workplace(tmp_path: Path, **changes: Any) -> Workplace:
    return Workplace(replace(CONFIG, **changes), study_data(), {}, tmp_path, {})


@pytest.mark.parametrize("budget", ["steps", "examples", "tokens"])
def test_full_batches_take_the_steps_asked_for(tmp_path: Path, budget: str) -> None:
    place = workplace(tmp_path, budget=budget)
    steps = [place.planned_steps(Cell(arm, 0)) for arm in CONFIG.arms]
    if budget != "tokens":
        assert steps == [6, 6]
    else:
        assert all(4 <= number <= 9 for number in steps)


def test_short_batches_take_more_steps(tmp_path: Path) -> None:
    """500 pairs are asked for, a language pair has 60: as many examples need more steps."""
    wide = changed(TRAINING, steps=2, batch_size=500)
    place = workplace(tmp_path, training=wide, budget="examples")
    assert place.planned_steps(Cell(Arm.parse(1), 0)) > 10
    assert workplace(tmp_path, training=wide, budget="steps").planned_steps(Cell(Arm.parse(1), 0)) == 2


def test_encoders_that_are_kept(tmp_path: Path) -> None:
    zero = CONFIG.arms[0]
    assert workplace(tmp_path, keep_encoders="all").keeps_encoders(zero)
    assert not workplace(tmp_path, keep_encoders="none").keeps_encoders(zero)
    averaged = workplace(tmp_path, arms=(0.0, 1.0, "average:0+1@0.5"), keep_encoders="none")
    assert averaged.keeps_encoders(zero)


def test_steering_questions_are_none_of_the_curve(tmp_path: Path) -> None:
    place = workplace(tmp_path)
    steering, curve = set(place._steering.questions), set(place.curve.data.questions)
    assert steering
    assert curve
    assert not steering & curve


def test_weights_are_averaged() -> None:
    first, second = (load_encoder("ngram", seed=seed) for seed in (0, 1))
    one = {name: value.clone() for name, value in first.state_dict().items()}
    average_weights(first, second, 0.25)
    other = second.state_dict()
    for name, value in first.state_dict().items():
        expected = 0.75 * one[name].double() + 0.25 * other[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="other: found no "):
        average_weights(first, torch.nn.Linear(2, 2), 0.5)  # type: ignore[arg-type]
