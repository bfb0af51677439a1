"""The configuration of a training: held parts, what the Trainer gets, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyhbt.options import build, plain_values, read_values
from pyhbt.training.config import TrainingConfig
from pyhbt.training.objectives import Objective
from pyhbt.training.sampling import SamplerOptions

BASE: dict[str, Any] = {"steps": 100, "batch_size": 8, "learning_rate": 0.01}


def test_it_holds_its_parts() -> None:
    config = TrainingConfig.of(**BASE, temperature=0.1, symmetric=True, cross_pairs="mixed", adapt_every=3)
    assert config.objective == Objective(temperature=0.1, symmetric=True)
    assert config.sampler == SamplerOptions(cross_pairs="mixed")
    assert config.adapt_every == 3


def test_arguments_reach_the_trainer(tmp_path: Path) -> None:
    given = {
        "gradient_accumulation_steps": 4,
        "report_to": "none",
        "adam_beta2": 0.98,
    }
    arguments = TrainingConfig.of(**BASE, lr_scheduler_type="constant", arguments=given).trainer_arguments(
        tmp_path, 7, logging_steps=5
    )
    assert arguments.gradient_accumulation_steps == 4
    assert arguments.adam_beta2 == 0.98
    assert arguments.lr_scheduler_type == "constant"
    assert (arguments.max_steps, arguments.seed, arguments.logging_steps) == (100, 7, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps: found 0, expected at least 1"),
        ({"adapt_every": 0}, "adapt_every: found 0"),
        ({"mini_batch_size": 0}, "mini_batch_size: found 0"),
        ({"learning_rate": 0}, "learning_rate: found 0, expected a number above 0"),
        ({"weight_decay": -0.1}, "weight_decay: found -0.1, expected at least 0"),
        ({"warmup_steps": -1}, "warmup_steps: found -1, expected at least 0"),
        ({"arguments": {"weight_decay": 1}}, "set: found weight_decay, expected the option weight_decay"),
        ({"code_switching": 0.5}, "lexicon: found None"),
        ({"code_switching": 2, "lexicon": "x"}, r"code_switching: found 2, expected a number in \[0, 1\]"),
        ({"arguments": {"bf17": True}}, r"set: found bf17, .*; did you mean bf16\?"),
        ({"arguments": {"learning_rate": 1}}, "set: found learning_rate, expected the option learning_rate"),
        ({"arguments": {"remove_unused_columns": True}}, "set: found remove_unused_columns, expected none"),
        ({"temperature": 0}, "temperature: found 0"),
        ({"language_sampling": "odd"}, "language_sampling: found 'odd'"),
        ({"cross_pairs": "mixed", "language_sampling": "linear:1:0"}, "with cross_pairs 'mixed'"),
        ({"false_negatives": "kept"}, "false_negatives: found 'kept', expected one of avoided, masked"),
    ],
)
def test_refused_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig.of(**BASE | change)


def test_plain_values_build_the_same() -> None:
    config = TrainingConfig.of(
        **BASE, matryoshka_dims=(4, 2), language_sampling=0.3, arguments={"bf16": False}
    )
    plain = plain_values(config)
    assert plain["set"] == {"bf16": False}
    assert plain["matryoshka_dims"] == [4, 2]
    assert build(TrainingConfig, read_values(TrainingConfig, plain, "here")) == config


def test_weight_decay_and_warm_up(tmp_path: Path) -> None:
    given = TrainingConfig.of(**BASE, weight_decay=0.1, warmup_steps=30).trainer_arguments(tmp_path, 0)
    assert (given.weight_decay, given.warmup_steps) == (0.1, 30)
    default = TrainingConfig.of(**BASE).trainer_arguments(tmp_path, 0)
    assert (default.weight_decay, default.warmup_steps) == (0.0, 10)
    assert TrainingConfig.of(**BASE | {"steps": 12}).trainer_arguments(tmp_path, 0).warmup_steps == 3
