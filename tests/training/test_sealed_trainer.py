"""The trainer's checkpoints: a full disk, damage, rotation, the best one, and who writes."""

from __future__ import annotations

import json
import logging
import math
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from pyhbt.encoders import NgramEncoder
from pyhbt.training import checkpoints
from pyhbt.training.checkpoints import MANIFEST, CheckpointError
from pyhbt.training.objectives import Objective
from pyhbt.training.trainer import HybridTrainer
from tests.training.test_checkpoints import make
from tests.training.test_trainer import PAIRS, arguments, small_ngram


class At(TrainerCallback):
    """Does something after a step."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action = step, action

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.step:
            self.action()


def trainer(folder: Path, *callbacks: TrainerCallback, **options: Any) -> HybridTrainer:
    options = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2, "logging_steps": 3} | options
    return HybridTrainer(
        small_ngram(), arguments(folder, **options), PAIRS, ratio="linear:0:1", callbacks=callbacks
    )


def losses(done: HybridTrainer) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in done.state.log_history if "loss" in row]


def weight(done: HybridTrainer) -> torch.Tensor:
    assert isinstance(done.encoder, NgramEncoder)
    return done.encoder.table.weight


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> HybridTrainer:
    whole = trainer(tmp_path_factory.mktemp("whole"))
    whole.train()
    return whole


def test_full_disk_names_the_last_good_checkpoint(
    tmp_path: Path, uninterrupted: HybridTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """Files may not grow beyond 2 kB from step 5 on: the write fails as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = At(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard)))
    with pytest.raises(
        CheckpointError,
        match=r"checkpoint-6 could not be written \(.+\); the last good checkpoint is checkpoint-4",
    ):
        try:
            trainer(tmp_path, full).train()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-2"]
    resumed = trainer(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert losses(resumed) == losses(uninterrupted)
    assert torch.equal(weight(resumed), weight(uninterrupted))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "pyhbt_state.json", "trainer_state.json"]
)
def test_damaged_checkpoint_gives_way_to_the_one_before(
    name: str, tmp_path: Path, uninterrupted: HybridTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, At(7, lambda: 1 / 0)).train()
    file = tmp_path / "checkpoint-6" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"checkpoint-6: {name} is damaged"):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    resumed = trainer(tmp_path)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=True)
    assert f"checkpoint-6: {name} is damaged; resuming from checkpoint-4" in caplog.text
    assert losses(resumed) == losses(uninterrupted)
    assert torch.equal(weight(resumed), weight(uninterrupted))


def test_nothing_whole_to_resume_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        trainer(tmp_path).train(resume_from_checkpoint=True)
    make(tmp_path, 2, sealed=False)
    anew = trainer(tmp_path)
    with caplog.at_level(logging.WARNING):
        anew.train(resume_from_checkpoint=True)  # the first was never finished: from the beginning
    assert "checkpoint-2: it was not finished; no checkpoint before it is whole" in caplog.text
    assert anew.state.global_step == 8
    for path in checkpoints.checkpoints(tmp_path):
        (path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no whole checkpoint to resume from"):
        trainer(tmp_path).train(resume_from_checkpoint=True)


def test_rotation_keeps_the_limit(tmp_path: Path) -> None:
    done = trainer(tmp_path, save_total_limit=2)
    done.train()
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == ["checkpoint-8", "checkpoint-6"]
    assert all(checkpoints.fault(path) is None for path in checkpoints.checkpoints(tmp_path))
    listed = json.loads((tmp_path / "checkpoint-8" / MANIFEST).read_text())["files"]
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= listed.keys()


BEST = {
    "max_steps": 6,
    "save_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "mAP",
}


def best_of(folder: Path, scores: dict[int, float], **options: Any) -> HybridTrainer:
    """Scores by step, 0.1 where none is given; the temperature is learnt."""
    made = HybridTrainer(
        small_ngram(),
        arguments(folder, **{"save_strategy": "steps"} | BEST | options),
        PAIRS,
        objective=Objective(0.1, learn_temperature=True),
        evaluate=lambda encoder, step: {"mAP": scores.get(step, 0.1)},
    )
    made.train()
    return made


@pytest.mark.parametrize(
    ("limit", "options", "kept"),
    [
        (1, {}, [3]),
        (2, {}, [6, 3]),
        (3, {}, [6, 5, 3]),
        (4, {}, [6, 5, 4, 3]),
        (None, {}, [6, 5, 4, 3, 2, 1]),
        (2, {"load_best_model_at_end": False}, [6, 3]),  # the Trainer protects it all the same
        (2, {"save_strategy": "best"}, [3, 1]),
        (2, {"save_only_model": True}, [6, 3]),
        (2, {"save_steps": 0.5, "eval_steps": 0.5}, [6, 3]),
    ],
)
def test_the_best_model_is_kept_and_loaded(
    limit: int | None, options: dict[str, Any], kept: list[int], tmp_path: Path
) -> None:
    done = best_of(tmp_path, {3: 0.9}, save_total_limit=limit, **options)
    assert [int(path.name[11:]) for path in checkpoints.checkpoints(tmp_path)] == kept
    assert done.state.best_model_checkpoint == str(tmp_path / "checkpoint-3")
    best = NgramEncoder.load(tmp_path / "checkpoint-3")
    state = json.loads((tmp_path / "checkpoint-3/pyhbt_state.json").read_text())
    loaded = options.get("load_best_model_at_end", True)
    assert torch.equal(weight(done), best.table.weight) == loaded
    assert (done.temperature == pytest.approx(math.exp(state["log_temperature"]), abs=1e-8)) == loaded


def test_the_least_may_be_the_best(tmp_path: Path) -> None:
    done = best_of(tmp_path, {2: -0.5, 3: 0.9}, greater_is_better=False)
    assert done.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")


def test_a_damaged_best_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="checkpoint-3: model.safetensors is damaged"):
        made = HybridTrainer(
            small_ngram(),
            arguments(tmp_path, **{"save_strategy": "steps"} | BEST),
            PAIRS,
            evaluate=lambda encoder, step: {"mAP": {3: 0.9}.get(step, 0.1)},
            callbacks=[At(5, lambda: _spoil(tmp_path / "checkpoint-3/model.safetensors"))],
        )
        made.train()


def _spoil(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("given", [True, "checkpoint-6"])
def test_a_checkpoint_without_the_optimizer_is_loaded_not_resumed(given: bool | str, tmp_path: Path) -> None:
    done = trainer(tmp_path, save_only_model=True)
    done.train()
    assert not (tmp_path / "checkpoint-8/optimizer.pt").exists()
    assert torch.equal(NgramEncoder.load(tmp_path / "checkpoint-8").table.weight, weight(done))
    again = trainer(tmp_path)
    before = weight(again).clone()
    with pytest.raises(
        ValueError, match=r"resume_from_checkpoint: found .+-[68], saved with save_only_model"
    ):
        again.train(resume_from_checkpoint=given if given is True else str(tmp_path / given))
    assert torch.equal(weight(again), before)


@pytest.mark.parametrize("restored", [True, False])
def test_states_of_callbacks_are_restored(restored: bool, tmp_path: Path) -> None:
    """Two evaluations without gain end a training; one was before the interruption."""

    def made(*callbacks: TrainerCallback) -> HybridTrainer:
        return HybridTrainer(
            small_ngram(),
            arguments(
                tmp_path,
                **{"save_strategy": "steps", "restore_callback_states_from_checkpoint": restored} | BEST,
            ),
            PAIRS,
            evaluate=lambda encoder, step: {"mAP": 1 / step},
            callbacks=[EarlyStoppingCallback(3), *callbacks],
        )

    with pytest.raises(ZeroDivisionError):
        made(At(3, lambda: 1 / 0)).train()
    resumed = made()
    resumed.train(resume_from_checkpoint=True)
    # the Trainer saves the count before it evaluates a last time, so that one of the three is after the interruption
    assert resumed.state.global_step == (4 if restored else 5)


@pytest.mark.parametrize("each", [True, False])
def test_who_writes_on_several_nodes(each: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first process of the second node; one alone, so that none waits for the other."""
    made = trainer(tmp_path, save_on_each_node=each)
    monkeypatch.setattr(type(made.args), "process_index", 1)
    monkeypatch.setattr(type(made.args), "local_process_index", 0)
    made.train()
    found = checkpoints.checkpoints(tmp_path)
    assert [int(path.name[11:]) for path in found if checkpoints.fault(path) is None] == (
        [8, 6, 4, 2] if each else []
    )
