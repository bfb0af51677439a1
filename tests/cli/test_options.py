"""Options made from settings: help with defaults, files, precedence, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyhbt.cli.training import StudyCommand, TrainCommand
from pyhbt.settings import read_config, read_values, settings_of


@pytest.mark.parametrize("command", ["study", "train", "evaluate", "encode", "search", "mine"])
def test_help_shows_defaults(pyhbt: Any, command: str) -> None:
    code, shown, _ = pyhbt(command, "-h")
    assert code == 0
    assert "Default: " in shown
    assert "--config" in shown
    assert pyhbt(command, "--help")[1] == shown


def test_version_and_completion(pyhbt: Any) -> None:
    code, shown, _ = pyhbt("--version")
    assert (code, shown.strip()) == (0, "pyhbt 0.1.0")
    assert "--install-completion" in pyhbt("-h")[1]


def test_every_setting_is_an_option(pyhbt: Any) -> None:
    for command, settings in (("study", StudyCommand), ("train", TrainCommand)):
        shown = pyhbt(command, "-h")[1]
        for item in settings_of(settings):
            assert f"--{item.name.replace('_', '-')}"[:14] in shown, item.name


def test_a_file_is_the_command_line_and_the_command_line_comes_first(pyhbt: Any, tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(
        "languages: [de, en, fr]\nsteps: 2\nbatch-size: 6\ntemperature: 0.1\nset:\n  gradient_accumulation_steps: 2\n"
    )
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert pyhbt("train", "--config", file, "--steps", 3, "--out", first)[0] == 0
    saved = read_config(first / "config.yaml")
    assert (saved["steps"], saved["batch_size"], saved["temperature"]) == (3, 6, 0.1)
    assert saved["set"] == {"gradient_accumulation_steps": 2}
    assert pyhbt("train", "--config", first / "config.yaml", "--out", second)[0] == 0
    options = ["--languages", "de,en,fr", "--steps", 3, "--batch-size", 6, "--temperature", 0.1]
    options += ["--set", "gradient_accumulation_steps=2", "--out", third]
    assert pyhbt("train", *options)[0] == 0
    losses = [
        [row.get("loss") for row in map(json.loads, (out / "train.jsonl").read_text().splitlines())]
        for out in (first, second, third)
    ]
    assert losses[0] == losses[1] == losses[2]
    assert read_config(second / "config.yaml") == saved == read_config(third / "config.yaml")


def test_the_file_of_a_study_runs_again(pyhbt: Any, tmp_path: Path) -> None:
    options = ["--languages", "de,en", "--ratios", "0,1", "--seeds", 1, "--steps", 2, "--batch-size", 8]
    assert pyhbt("study", *options, "--out", tmp_path / "a")[0] == 0
    assert pyhbt("study", "--config", tmp_path / "a/config.yaml", "--out", tmp_path / "b")[0] == 0
    assert (tmp_path / "a/results.jsonl").read_bytes() == (tmp_path / "b/results.jsonl").read_bytes()
    assert read_config(tmp_path / "a/config.yaml") == read_config(tmp_path / "b/config.yaml")
    values = read_values(StudyCommand, read_config(tmp_path / "a/config.yaml"), "here")
    assert values["seeds"] == (0,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stepz: 3", "c.yaml: stepz: unknown; did you mean steps?"),
        ("steps: many", "c.yaml: steps: found 'many', expected a whole number"),
        ("set: {bf17: true}", "set: found bf17"),
        ("ratio: 2", "ratio: found 2"),
        ("steps: [", "c.yaml:1: not YAML"),
    ],
)
def test_mistakes_in_a_file_give_one_line(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(content)
    code, _, err = pyhbt("train", "--config", "c.yaml", "--out", "out")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert not Path("out").exists()
