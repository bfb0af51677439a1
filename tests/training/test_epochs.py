"""Epochs: strategies act at their ends, batches go on through them, and a resumed training has those it was to have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Features, NgramEncoder
from pyhbt.training import checkpoints
from pyhbt.training.batches import Draw, DrawnExamples, Draws, Examples
from pyhbt.training.epochs import Epochs
from pyhbt.training.sampling import HybridBatchSampler
from pyhbt.training.trainer import HybridTrainer
from tests.toy import parallel_items
from tests.training.test_trainer import PAIRS, arguments, small_ngram

BY_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch", "logging_strategy": "epoch"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Draw]:
    """Every batch that is made from now on, in this process."""
    made: list[Draw] = []
    examples = DrawnExamples.__getitem__

    def spied(self: DrawnExamples, draw: Draw) -> Examples:
        made.append(draw)
        return examples(self, draw)

    monkeypatch.setattr(DrawnExamples, "__getitem__", spied)
    return made


def log(done: HybridTrainer, name: str) -> list[int]:
    return [int(row["step"]) for row in done.state.log_history if name in row]


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"num_train_epochs": 3}, [10, 20, 30]),
        ({"num_train_epochs": 1.25}, [10, 13]),
        ({"max_steps": 25}, [10, 20, 25]),
        ({"max_steps": 4}, [4]),
        (
            {"num_train_epochs": 2, "gradient_accumulation_steps": 3},
            [4, 8],
        ),  # ten batches in updates of three
        ({"max_steps": 5, "gradient_accumulation_steps": 3}, [4, 5]),
    ],
)
def test_strategies_by_epoch_act_at_its_end(
    options: dict[str, Any], ends: list[int], tmp_path: Path, drawn: list[Draw]
) -> None:
    """80 distinct queries in batches of 8."""
    seen = []
    trainer = HybridTrainer(
        small_ngram(),
        arguments(tmp_path, **BY_EPOCH, **options, seed=5),
        PAIRS,
        ratio="linear:0:1",
        evaluate=lambda encoder, step: {"mAP": float(seen.append(step) or step)},
    )
    trainer.train()
    assert seen == log(trainer, "loss") == ends
    assert sorted(int(path.name[11:]) for path in checkpoints.checkpoints(tmp_path)) == ends
    steps = ends[-1] * trainer.args.gradient_accumulation_steps
    sampler = HybridBatchSampler(PAIRS, 8, ratio="linear:0:1", steps=steps, seed=5)
    assert drawn == [Draw(step, tuple(sampler.at(step)[0])) for step in range(steps)]
    assert trainer.state.epoch == pytest.approx(ends[-1] / ends[0] if len(ends) > 1 else ends[0] / 10)


def test_early_stopping_by_epoch(tmp_path: Path) -> None:
    trainer = HybridTrainer(
        small_ngram(),
        arguments(
            tmp_path,
            **BY_EPOCH,
            num_train_epochs=9,
            load_best_model_at_end=True,
            metric_for_best_model="mAP",
        ),
        PAIRS,
        evaluate=lambda encoder, step: {"mAP": {10: 0.1, 20: 0.3}.get(step, 0.2)},
        callbacks=[EarlyStoppingCallback(2)],
    )
    trainer.train()
    assert log(trainer, "eval_mAP") == [10, 20, 30, 40]
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-20")


class _Stops(TrainerCallback):
    """Ends every epoch after so many of its steps, or the training with an error."""

    def __init__(self, epoch_after: int = 0, fails_at: int = 0) -> None:
        self.epoch_after, self.fails_at = epoch_after, fails_at
        self.steps = 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.steps += 1
        if state.global_step == self.fails_at:
            raise RuntimeError("power failed")
        control.should_epoch_stop = self.steps == self.epoch_after


def test_an_epoch_that_ends_early_is_followed_by_the_next_batch(tmp_path: Path, drawn: list[Draw]) -> None:
    options = arguments(tmp_path, num_train_epochs=3)
    trainer = HybridTrainer(small_ngram(), options, PAIRS, callbacks=[_Stops(epoch_after=4)])
    trainer.train()
    assert trainer.state.global_step == 12
    # accelerate has one batch more than is used, of each of the three epochs
    assert [draw.step for draw in drawn] == [*range(5), *range(4, 9), *range(8, 13)]


class Noisy(NgramEncoder):
    """With dropout, so that a random number too many or too few shows in the weights."""

    def embed(self, features: Features) -> Tensor:
        return F.normalize(F.dropout(super().embed(features), 0.2, self.training), dim=-1)


STAY = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 3}


@pytest.mark.parametrize(
    ("at", "adaptive", "options"),
    [
        pytest.param(3, False, {}, id="in the middle of an epoch"),
        pytest.param(5, True, {}, id="at its end"),
        pytest.param(7, True, {}, id="in a later one"),
        pytest.param(3, True, {"gradient_accumulation_steps": 3}, id="with accumulation"),
        pytest.param(7, True, {"dataloader_num_workers": 2}, id="with workers"),
        pytest.param(5, False, STAY, id="with workers that stay, at an end"),
        pytest.param(7, True, STAY, id="with workers that stay, in the middle"),
    ],
)
def test_resume_goes_on_as_if_nothing_had_been(
    at: int, adaptive: bool, options: dict[str, Any], tmp_path: Path, drawn: list[Draw]
) -> None:
    """With dropout, through two and a half epochs of five steps; and no batch is made again."""
    made: list[list[int]] = []

    def train(folder: Path, fails_at: int, resume: bool) -> HybridTrainer:
        drawn.clear()
        schedule: dict[str, Any] = {"ratio": "linear:0:1"}
        if adaptive:
            dev = PairSet.from_parallel(parallel_items(9, ("aa", "bb"), seed=9))
            schedule = {"ratio": "adaptive:0.1:0.9", "dev_pairs": dev, "adapt_every": 2}
        trainer = HybridTrainer(
            Noisy(dim=16, num_buckets=512, sizes=(2, 3)),
            arguments(
                folder,
                max_steps=12,
                per_device_train_batch_size=16,
                save_strategy="steps",
                save_steps=at,
                learning_rate=1e-3,
                **options,
            ),
            PAIRS,
            **schedule,
            callbacks=[_Stops(fails_at=fails_at)],
        )
        try:
            trainer.train(resume_from_checkpoint=resume)
        finally:
            made.append([draw.step for draw in drawn])
        return trainer

    whole = train(tmp_path / "whole", 0, False)
    with pytest.raises(RuntimeError, match="power failed"):
        train(tmp_path / "parts", at + 1, False)
    resumed = train(tmp_path / "parts", 0, True)
    losses = [
        {row["step"]: row["loss"] for row in t.state.log_history if "loss" in row} for t in (whole, resumed)
    ]
    assert losses[0] == losses[1]
    assert resumed.sampler.ratio_changes == whole.sampler.ratio_changes
    for name, value in whole.encoder.state_dict().items():
        assert torch.equal(resumed.encoder.state_dict()[name], value), name
    if "dataloader_num_workers" not in options:
        batches = options.get("gradient_accumulation_steps", 1)
        assert made[0] == list(range(12 * batches))
        assert made[2] == list(range(at * batches, 12 * batches))


def test_resume_at_the_end_does_nothing(tmp_path: Path) -> None:
    options = {"max_steps": 13, "save_strategy": "epoch"}
    done = HybridTrainer(small_ngram(), arguments(tmp_path, **options), PAIRS)
    done.train()
    again = HybridTrainer(small_ngram(), arguments(tmp_path, **options), PAIRS)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 13
    assert torch.equal(again.encoder.encode(["kalo"]), done.encoder.encode(["kalo"]))


def test_a_pass_begins_where_it_is_told() -> None:
    """Seven steps, epochs of three, two ranks."""
    sampler = HybridBatchSampler(PAIRS, 4, steps=7, num_ranks=2)
    draws = Draws(sampler, 3)

    def drawn_pass() -> list[Draw]:
        return list(draws)

    def of(*steps: int) -> list[Draw]:
        return [Draw(step, tuple(rows)) for step in steps for rows in sampler.at(step)]

    assert len(draws) == 6
    assert drawn_pass() == of(0, 1, 2)
    draws.begin(3)
    assert drawn_pass() == drawn_pass() == of(3, 4, 5)
    draws.begin(5, 2)
    assert drawn_pass() == [Draw(3, ()), Draw(3, ()), Draw(4, ()), Draw(4, ()), *of(5)]
    draws.begin(6)
    assert drawn_pass() == of(6)
    draws.begin(7, 1)
    assert drawn_pass() == [Draw(6, ()), Draw(6, ())]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 4), st.integers(1, 25), st.integers(1, 3))
def test_any_interruption_goes_on_with_the_next_batch(
    data: st.DataObject, updates: int, accumulation: int, total: int, ranks: int
) -> None:
    """The Trainer's loop over epochs, which drops what it counts as done of the first."""
    done = data.draw(st.integers(0, total))
    sampler = HybridBatchSampler(PAIRS, 4, steps=total * accumulation, num_ranks=ranks)
    draws = Draws(sampler, updates * accumulation)
    epochs, control = Epochs(draws), TrainerControl()
    args = SimpleNamespace(gradient_accumulation_steps=accumulation)
    epochs.on_train_begin(args, TrainerState(), control)  # type: ignore[arg-type]
    found: list[Draw] = []
    dropped = (done % updates) * accumulation * ranks
    for epoch in range(done // updates, -(-total // updates)):
        epochs.on_epoch_begin(args, TrainerState(global_step=max(done, epoch * updates)), control)  # type: ignore[arg-type]
        found += list(draws)[dropped:]
        dropped = 0
    steps = range(done * accumulation, total * accumulation)
    assert found == [Draw(step, tuple(rows)) for step in steps for rows in sampler.at(step)]


def test_only_the_first_epoch_of_a_training_is_resumed(tmp_path: Path) -> None:
    draws = Draws(HybridBatchSampler(PAIRS, 4, steps=40), 10)
    epochs, control = Epochs(draws), TrainerControl()
    args = arguments(tmp_path, gradient_accumulation_steps=2)
    for _ in range(2):
        epochs.on_train_begin(args, TrainerState(), control)
        for updates, first in ((8, 10), (11, 22)):
            epochs.on_epoch_begin(args, TrainerState(global_step=updates), control)
            assert next(iter(draws)).step == first
