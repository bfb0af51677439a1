"""The record of a run: what decides, what differs, in which words; kept and read back."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.training.record import (
    RunDiffersError,
    RunNames,
    RunRecord,
    Segment,
    arguments_that_decide,
    check_resume,
    extension_in_words,
    warn_of_environment,
)
from tests.training.test_trainer import arguments

OPTIONS = {"steps": 12, "ratio": 0.5, "language_sampling": "uniform", "temperature": 0.05}


def record(**options: Any) -> RunRecord:
    return RunRecord(
        OPTIONS | options,
        {"learning_rate": 0.01, "seed": 0, "lr_scheduler_type": "linear"},
        RunNames(base="tiny"),
        (Segment(0, (OPTIONS | options)["steps"], {"torch": "2.5", "device": "cpu"}),),
    )


def changed(run: RunRecord, **given: Any) -> RunRecord:
    return replace(run, arguments={**run.arguments, **given})


def test_every_difference_is_named() -> None:
    found = changed(record(ratio="linear:0:1", extra=3), learning_rate=0.1)
    with pytest.raises(RunDiffersError) as refused:
        check_resume(record(), found, extend=False, where="out/checkpoint-6")
    assert str(refused.value) == (
        "out/checkpoint-6 is of another training: ratio: found 'linear:0:1', the run has 0.5; "
        "extra: found 3, the run has None; learning_rate: found 0.1, the run has 0.01"
    )
    check_resume(record(), record(), extend=False, where="")
    check_resume(record(), record(extra=None), extend=False, where="")  # as good as not there
    assert isinstance(refused.value, ValueError)


@given(st.integers(1, 30), st.integers(1, 30), st.booleans(), st.booleans())
def test_steps(run: int, found: int, extend: bool, other: bool) -> None:
    """More steps take extend, fewer are never right, and extend excuses nothing else."""
    wanted = record(steps=found, **({"temperature": 1.0} if other else {}))
    refused = other or found < run or (found > run and not extend)
    if not refused:
        check_resume(record(steps=run), wanted, extend=extend, where="")
        return
    with pytest.raises(RunDiffersError) as error:
        check_resume(record(steps=run), wanted, extend=extend, where="")
    text = str(error.value)
    assert ("temperature: found 1.0, the run has 0.05" in text) == other
    assert ("a run is never shortened" in text) == (found < run)
    assert ("more steps take extend" in text) == (found > run and not extend)
    assert (f"steps: found {found}, the run has {run}" in text) == (
        found < run or (found > run and not extend)
    )


def test_arguments_of_another_version_of_transformers_are_passed_over() -> None:
    check_resume(record(), changed(record(), brand_new=True), extend=False, where="")
    check_resume(changed(record(), dropped=1), record(), extend=False, where="")


def test_another_environment_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    now = replace(record(), segments=(Segment(0, 12, {"torch": "2.6", "device": "cpu"}),))
    with caplog.at_level(logging.WARNING):
        warn_of_environment(record(), record(), where="checkpoint-6")
        assert caplog.records == []
        check_resume(record(), now, extend=False, where="")
        warn_of_environment(record(), now, where="checkpoint-6")
    assert [row.getMessage() for row in caplog.records] == [
        "checkpoint-6: goes on with torch 2.6, before 2.5: the end may differ in its bits"
    ]


OUTPUT: dict[str, Any] = {
    "logging_steps": 3,
    "logging_first_step": True,
    "save_strategy": "steps",
    "save_steps": 7,
    "save_total_limit": 1,
    "eval_strategy": "steps",
    "eval_steps": 5,
    "eval_delay": 1,
    "report_to": ["tensorboard"],
    "run_name": "x",
    "disable_tqdm": False,
    "dataloader_num_workers": 2,
    "dataloader_pin_memory": False,
    "hub_model_id": "me/x",
    "log_level": "error",
    "per_device_eval_batch_size": 3,
    "num_train_epochs": 9.0,
}
DECIDING: dict[str, Any] = {
    "learning_rate": 0.2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "optim": "adafactor",
    "weight_decay": 0.5,
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "adam_epsilon": 0.5,
    "max_grad_norm": 0.5,
    "gradient_accumulation_steps": 2,
    "bf16": True,
    "seed": 8,
    "data_seed": 8,
}


@pytest.mark.parametrize("name", sorted(OUTPUT))
def test_output_is_no_part_of_the_outcome(name: str, tmp_path: Path) -> None:
    before = arguments_that_decide(arguments(tmp_path), adaptive=False)
    given = {name: OUTPUT[name]}
    assert arguments_that_decide(arguments(tmp_path / "other", **given), adaptive=False) == before


@pytest.mark.parametrize("name", sorted(DECIDING))
def test_what_decides_is_kept(name: str, tmp_path: Path) -> None:
    found = arguments_that_decide(arguments(tmp_path, **{name: DECIDING[name]}), adaptive=False)
    assert found[name] == DECIDING[name]


def test_evaluation_decides_which_model_is_the_best(tmp_path: Path) -> None:
    options: dict[str, Any] = {"eval_strategy": "steps", "save_strategy": "steps", "save_steps": 4}
    options |= {"metric_for_best_model": "mAP", "load_best_model_at_end": True}
    found = [
        arguments_that_decide(arguments(tmp_path, **options, eval_steps=n), adaptive=False) for n in (2, 4)
    ]
    assert found[0] != found[1]
    assert found[0]["metric_for_best_model"] == "mAP"
    workers = [
        arguments_that_decide(arguments(tmp_path, dataloader_num_workers=n), adaptive=True) for n in (0, 2)
    ]
    assert workers[0] != workers[1]  # how far the loader draws ahead of a new ratio


def test_written_and_read_back(tmp_path: Path) -> None:
    run = (
        record(pairs={"pairs": 3}, matryoshka_dims=[8, 4])
        .going_on(6, record(steps=24))
        .with_learning_rate(0.1, 0.2)
    )
    run.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == run
    made = RunRecord.of({"steps": 2, "ratio": 0.5, "dims": (1, 2)}, arguments(tmp_path), RunNames())
    made.write(tmp_path / "run.json")
    assert RunRecord.read(tmp_path / "run.json") == made
    assert made.options["dims"] == [1, 2]


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"options": {}, "arguments": {}, "names": {"x": 1}, "segments": []}']
)
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json: found no record of a run"):
        RunRecord.read(tmp_path / "run.json")
    with pytest.raises(FileNotFoundError):
        RunRecord.read(tmp_path / "none.json")


def test_segments_and_names() -> None:
    run = record()
    found = replace(record(), names=RunNames(data="toy"), segments=(Segment(0, 12, {"torch": "2.6"}),))
    once = run.going_on(6, found)
    assert once.segments == (*run.segments, Segment(6, 12, {"torch": "2.6"}))
    assert once.names == RunNames(base="tiny", data="toy")
    assert run.going_on(12, found).segments == run.segments  # nothing is left to do
    assert run.going_on(12, record(steps=24)).steps == 24


def test_an_extension_says_what_it_does() -> None:
    plain = record().going_on(12, record(steps=24)).with_learning_rate(0.0, 0.005)
    assert extension_in_words(plain, 1) == (
        "at step 12 from 12 to 24 steps; learning rate there 0 -> 0.005 (linear over 24 steps)"
    )
    moving = record(ratio="linear:0:1", language_sampling="linear:1:0.3").going_on(6, record(steps=24))
    assert extension_in_words(moving, 1) == (
        "at step 6 from 12 to 24 steps; "
        "ratio linear:0:1 spans 24 steps from there on; batches before were drawn with it over 12; "
        "language_sampling linear:1:0.3 spans 24 steps from there on; batches before were drawn with it over 12"
    )
    adaptive = record(ratio="adaptive:0.1:0.9").going_on(6, record(steps=24))
    assert extension_in_words(adaptive, 1).endswith("; ratio adaptive:0.1:0.9 goes on")


def test_the_file_is_for_people_too(tmp_path: Path) -> None:
    record().write(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["options"]["temperature"] == 0.05
