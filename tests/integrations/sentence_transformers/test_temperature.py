"""A temperature that may be learned: its floor, its gradient, checkpoints that keep it."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("sentence_transformers", minversion="6.0")

from sentence_transformers.sentence_transformer import losses
from transformers import TrainerCallback

from pyhbt.integrations.sentence_transformers import (
    FusedInBatchLoss,
    TemperatureCallback,
    hybrid_dataset,
)
from pyhbt.integrations.sentence_transformers.temperature import Temperature
from tests.integrations.sentence_transformers.test_losses import PLAIN, features, tiny_model, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_temperature_is_trained_without_decay(folder: Path) -> None:
    model = tiny_model(folder)
    loss = FusedInBatchLoss(model, 0.3, learnable_temperature=True)
    options = {"weight_decay": 0.1, "learning_rate_mapping": {"log_bias": 0.02}}
    _, _, trainer = train(folder / "out", model, loss, hybrid_dataset(PLAIN), **options)
    assert loss.temperature != pytest.approx(0.3, rel=1e-3)
    assert loss.get_config_dict()["temperature"] == loss.temperature
    (own,) = [
        group
        for group in trainer.optimizer.param_groups
        if any(p is loss._temperature.log_bias for p in group["params"])
    ]
    assert own["weight_decay"] == 0.0
    assert own["initial_lr"] == 0.02
    other = FusedInBatchLoss(model, 0.3, learnable_temperature=True)
    other.load_state_dict(loss.state_dict())
    assert other.temperature == loss.temperature


def test_temperature_has_a_floor(folder: Path) -> None:
    model = tiny_model(folder)
    loss = FusedInBatchLoss(model, learnable_temperature=True)
    with torch.no_grad():
        loss._temperature.log_bias.fill_(-50.0)
    assert loss.temperature == pytest.approx(0.01)
    assert torch.isfinite(loss(features(model, PLAIN, range(4)), None))
    assert FusedInBatchLoss(model, 0.004, learnable_temperature=True).temperature == pytest.approx(0.004)


class PowerCut(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.step:
            raise RuntimeError("power failed")


@pytest.mark.parametrize("strategy", ["steps", pytest.param("epoch", marks=pytest.mark.slow)])
def test_temperature_resumes(folder: Path, tmp_path: Path, strategy: str) -> None:
    options = {"save_strategy": strategy, "save_steps": 3, "max_steps": 8, "seed": 4}
    checkpoint = tmp_path / "parts" / ("checkpoint-3" if strategy == "steps" else "checkpoint-5")

    def run(
        output: Path, cut: int, resume: Path | None
    ) -> tuple[list[float], float, dict[str, torch.Tensor]]:
        model = tiny_model(folder)
        loss = FusedInBatchLoss(model, learnable_temperature=True)
        callbacks = [TemperatureCallback(losses.MatryoshkaLoss(model, loss, [32])), PowerCut(cut)]
        resume_from = None if resume is None else str(resume)
        logged, weights, _ = train(
            output,
            model,
            loss,
            hybrid_dataset(PLAIN),
            callbacks=callbacks,
            resume_from_checkpoint=resume_from,
            **options,
        )
        return logged, loss.temperature, weights

    whole = run(tmp_path / "whole", -1, None)
    with pytest.raises(RuntimeError, match="power failed"):
        run(tmp_path / "parts", 6, None)
    resumed = run(tmp_path / "parts", -1, checkpoint)
    assert resumed[:2] == whole[:2]
    assert whole[1] != 0.05
    assert all(torch.equal(resumed[2][name], value) for name, value in whole[2].items())


def test_a_copy_keeps_its_own_temperature(folder: Path) -> None:
    loss = FusedInBatchLoss(tiny_model(folder), learnable_temperature=True)
    copied = copy.deepcopy(loss)
    with torch.no_grad():
        loss._temperature.log_bias += 1
    assert copied.temperature == pytest.approx(0.05)


def test_a_constant_is_a_number() -> None:
    constant = Temperature(0.004, learnable=False)
    assert constant() == constant.value() == 0.004
    assert not constant.learnable
    assert list(constant.parameters()) == []
    assert Temperature(1, learnable=False).value() == 1.0


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("learnable", [False, True])
def test_mistakes(value: float, learnable: bool) -> None:
    with pytest.raises(ValueError, match=f"temperature: found {value}, expected a finite number above 0"):
        Temperature(value, learnable=learnable)


@pytest.mark.parametrize("value", [0.01, 0.05, 1.0, 20.0])
def test_the_gradient_is_that_of_the_logarithm(value: float) -> None:
    """d f(T) / d log T = T f'(T); here f(T) = 3 / T."""
    learnt = Temperature(value, learnable=True)
    assert learnt.learnable
    assert learnt.value() == pytest.approx(value, rel=1e-6)
    temperature = learnt()
    assert isinstance(temperature, torch.Tensor)
    (3 / temperature).backward()
    assert learnt.log_bias.grad is not None
    assert float(learnt.log_bias.grad) == pytest.approx(-3 / value, rel=1e-5)


@pytest.mark.parametrize(("start", "floor"), [(0.05, 0.01), (0.01, 0.01), (0.004, 0.004)])
def test_the_floor_is_001_or_where_it_began(start: float, floor: float) -> None:
    learnt = Temperature(start, learnable=True)
    with torch.no_grad():
        learnt.log_bias.fill_(-50.0)
    assert learnt.value() == pytest.approx(floor, rel=1e-6)
    assert float(learnt.log_bias.detach()) == -50.0  # looking changes nothing
    temperature = learnt()
    assert isinstance(temperature, torch.Tensor)
    assert float(temperature.detach()) == pytest.approx(floor, rel=1e-6)
    temperature.backward()  # at the floor there is still a gradient, so that it can rise again
    assert float(learnt.log_bias.grad) == pytest.approx(floor, rel=1e-6)  # type: ignore[arg-type]


def callback_of(learnt: Temperature) -> TemperatureCallback:
    return TemperatureCallback(torch.nn.ModuleList([torch.nn.ModuleList([learnt]), learnt]))


def test_a_callback_keeps_the_temperature_as_json() -> None:
    learnt = Temperature(0.3, learnable=True)
    callback = callback_of(learnt)  # found once, though it is held twice
    state: Any = SimpleNamespace(stateful_callbacks={"others": {}})
    arguments: Any = None
    waiting: Any = SimpleNamespace(should_save=False)
    callback.on_step_end(arguments, state, waiting)
    callback.on_epoch_end(arguments, state, waiting)
    assert state.stateful_callbacks == {"others": {}}
    for hook in (callback.on_step_end, callback.on_epoch_end):
        state.stateful_callbacks.pop("pyhbt.TemperatureCallback", None)
        hook(arguments, state, SimpleNamespace(should_save=True))
        kept = json.loads(json.dumps(state.stateful_callbacks))
        assert kept.keys() == {"others", "pyhbt.TemperatureCallback"}
        other = Temperature(0.9, learnable=True)
        callback_of(other).on_train_begin(arguments, SimpleNamespace(stateful_callbacks=kept), waiting)
        assert torch.equal(other.log_bias, learnt.log_bias)


def test_a_checkpoint_without_a_temperature_leaves_it() -> None:
    learnt = Temperature(0.3, learnable=True)
    state: Any = SimpleNamespace(stateful_callbacks={})
    nothing: Any = None
    callback_of(learnt).on_train_begin(nothing, state, nothing)
    assert learnt.value() == pytest.approx(0.3)


def test_a_callback_needs_one_learnable_temperature() -> None:
    constant, learnt, other = (Temperature(0.3, learnable=learnable) for learnable in (False, True, True))
    TemperatureCallback(torch.nn.ModuleList([constant, learnt]))
    for parts in ([], [constant], [learnt, other]):
        found = sum(part.learnable for part in parts)
        with pytest.raises(ValueError, match=f"loss: found {found} learnable temperatures, expected 1"):
            TemperatureCallback(torch.nn.ModuleList(parts))
