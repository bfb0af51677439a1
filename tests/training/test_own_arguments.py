"""What a training makes of the Trainer's arguments, and that those given stay as they were."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from transformers.trainer_callback import TrainerControl, TrainerState

from pyhbt.data.pair_set import PairSet
from pyhbt.training.own_arguments import IntervalsAsAsked, own_arguments, updates_of_epoch
from tests.toy import parallel_items
from tests.training.test_trainer import arguments

PAIRS = PairSet.from_parallel(parallel_items(9, ("aa",)))  # nine queries


@pytest.mark.parametrize(
    ("batch", "accumulated", "updates"), [(9, 3, 1), (3, 3, 1), (2, 3, 2), (1, 3, 3), (1, 1, 9)]
)
def test_updates_of_an_epoch_are_whole(batch: int, accumulated: int, updates: int, tmp_path: Path) -> None:
    args = arguments(tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulated)
    assert updates_of_epoch(args, PAIRS) == updates


def test_epochs_become_steps(tmp_path: Path) -> None:
    args = arguments(tmp_path, max_steps=-1, num_train_epochs=2.5, per_device_train_batch_size=3)
    assert own_arguments(args, PAIRS).max_steps == 8  # 2.5 times three, rounded up
    assert own_arguments(arguments(tmp_path, max_steps=5), PAIRS).max_steps == 5


def test_what_is_given_stays(tmp_path: Path) -> None:
    args = arguments(tmp_path, max_steps=-1)
    before = copy.deepcopy(args.to_dict())
    own = own_arguments(args, PAIRS)
    assert args.to_dict() == before
    assert (own.remove_unused_columns, own.ddp_find_unused_parameters) == (False, False)
    assert own_arguments(
        arguments(tmp_path, ddp_find_unused_parameters=True), PAIRS
    ).ddp_find_unused_parameters


def test_processes_that_are_not_joined_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match="args: found world_size 1 in one of 2 processes, expected them to be joined"
    ):
        own_arguments(args, PAIRS)


def test_intervals_are_those_asked_for_now(tmp_path: Path) -> None:
    state = TrainerState(max_steps=20, logging_steps=7, save_steps=7)
    args = arguments(tmp_path, logging_steps=2, save_strategy="steps", save_steps=5)
    IntervalsAsAsked().on_train_begin(args, state, TrainerControl())
    assert (state.logging_steps, state.save_steps) == (2, 5)
