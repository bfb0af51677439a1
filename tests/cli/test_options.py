"""Options made from options: help with defaults, files, precedence, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyhbt import __version__ as version
from pyhbt.cli.training import StudyCommand, TrainCommand
from pyhbt.options import options_of, read_config, read_values
from tests.toy import save_tiny_bert


@pytest.mark.parametrize("command", ["study", "train", "evaluate", "encode", "search", "mine", "bitext"])
def test_help_shows_defaults(pyhbt: Any, command: str) -> None:
    code, shown, _ = pyhbt(command, "-h")
    assert code == 0
    assert "Default: " in shown
    assert "--config" in shown
    assert pyhbt(command, "--help")[1] == shown


def test_version_and_completion(pyhbt: Any) -> None:
    code, shown, _ = pyhbt("--version")
    assert (code, shown.strip()) == (0, f"pyhbt {version}")
    assert "--install-completion" in pyhbt("-h")[1]


def test_every_option_is_on_the_command_line(pyhbt: Any) -> None:
    for command, options in (("study", StudyCommand), ("train", TrainCommand)):
        shown = pyhbt(command, "-h")[1]
        for item in options_of(options):
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


def test_the_file_of_a_study_runs_again(pyhbt: Any, tmp_path: Path, without_plots: None) -> None:
    options = ["--languages", "de,en", "--ratios", "0,1", "--seeds", 1, "--steps", 2, "--batch-size", 8]
    assert pyhbt("study", *options, "--jobs", 1, "--out", tmp_path / "a")[0] == 0
    config = tmp_path / "a/config.yaml"
    assert pyhbt("study", "--config", config, "--jobs", 1, "--out", tmp_path / "b")[0] == 0
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


def test_the_file_of_a_transformer_keeps_the_length_of_training(pyhbt: Any, tmp_path: Path) -> None:
    """Its 512 positions are more than the 128 tokens that training keeps by default."""
    encoder = save_tiny_bert(tmp_path / "bert", positions=512)
    options = ["--encoder", encoder, "--languages", "de,en", "--steps", 2, "--batch-size", 4]
    assert pyhbt("train", *options, "--out", tmp_path / "a")[0] == 0
    assert read_config(tmp_path / "a/config.yaml")["max_length"] is None
    shown = pyhbt("train", "--config", tmp_path / "a/config.yaml", "--out", tmp_path / "b")[1]
    assert "at most 128 tokens" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "--encoder", "ngram", "--run-depth", "0"), "run_depth: found 0, expected at least 1"),
        (("encode", "x.txt", "--out", "x.npy", "--batch-size", "0"), "batch_size: found 0"),
        (("mine", "--out", "x.jsonl", "--limit", "0"), "limit: found 0"),
        (("mine", "--out", "x.jsonl", "--num-negatives", "0"), "num_negatives: found 0"),
        (("train", "--out", "x", "--save-every", "0"), "save_every: found 0"),
        (("train", "--out", "x", "--seed", "-1"), "seed: found -1"),
        (("train", "--out", "x", "--ratio", "2"), "ratio: found 2"),
        (("study", "--threads", "0"), "threads: found 0"),
        (("study", "--set", "bf17=true"), "set: found bf17"),
    ],
)
def test_values_out_of_range_are_refused_before_work(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = pyhbt(*arguments)
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []
