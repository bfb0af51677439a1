"""What cells say of themselves, and which studies they may belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pyhbt.data.pair_set import PairSet
from pyhbt.options import changed
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.config import StudyConfig
from pyhbt.study.description import check_cells, describe
from pyhbt.training.config import TrainingConfig
from tests.toy import parallel_items, study_data

TRAINING = TrainingConfig.of(steps=6, batch_size=8, learning_rate=0.01, temperature=0.05)
CONFIG = StudyConfig(TRAINING, data="toy", arms=(0.5,), seeds=(0,))


def signed(out: Path, **described: object) -> None:
    folder = out / "cells/one"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").touch()
    Cell(Arm.parse(0.5), 0).sign(folder, **described)


def test_growing_changes_no_description() -> None:
    found = describe(CONFIG, study_data())
    for grown in (
        replace(CONFIG, arms=(0.0, 0.5, 1.0)),
        replace(CONFIG, seeds=(0, 1)),
        replace(CONFIG, metrics=("mAP",)),
        replace(CONFIG, margin=0.05, primary="monolingual mAP"),
    ):
        assert describe(grown, study_data()) == found
    assert describe(replace(CONFIG, training=changed(TRAINING, temperature=0.1)), study_data()) != found


def test_cells_of_another_study_are_refused(tmp_path: Path) -> None:
    description = describe(CONFIG, study_data())
    check_cells(tmp_path, description)
    signed(tmp_path, study=description)
    check_cells(tmp_path, description)
    other = describe(replace(CONFIG, training=changed(TRAINING, temperature=0.1)), study_data())
    with pytest.raises(FileExistsError, match=r"temperature.*0\.05.*0\.1"):
        check_cells(tmp_path, other)


def test_other_data_are_another_study(tmp_path: Path) -> None:
    signed(tmp_path, study=describe(CONFIG, study_data()))
    data = study_data()
    fewer = replace(data, train=PairSet.from_parallel(parallel_items(9)))
    with pytest.raises(FileExistsError):
        check_cells(tmp_path, describe(CONFIG, fewer))


def test_what_differs_is_named_not_all_of_it(tmp_path: Path) -> None:
    signed(tmp_path, study={"data": "toy", "set": {"bf16": True, "optim": {"name": "adamw", "eps": 1}}})
    wanted = {"data": "toy", "set": {"bf16": True, "optim": {"name": "adamw", "eps": 2}}}
    with pytest.raises(FileExistsError, match=r"a study with eps 1 .*, this one has eps 2: ") as error:
        check_cells(tmp_path, wanted)
    assert "{" not in str(error.value)
    with pytest.raises(FileExistsError, match="a study with bf16 True .*, this one has bf16 None"):
        check_cells(tmp_path, {"data": "toy", "set": {"optim": {"name": "adamw", "eps": 1}}})
