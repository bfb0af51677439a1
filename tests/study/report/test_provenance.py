"""Facts, command and configuration."""

from __future__ import annotations

from pathlib import Path

from pyhbt.study.analysis import analyse
from pyhbt.study.report.provenance import command, configuration, facts, flatten
from tests.study.synthetic_study import SMALL, write_study


def test_facts(tmp_path: Path) -> None:
    found = dict(facts(analyse(write_study(tmp_path, SMALL))))
    assert found["Cells finished"] == "15 of 15"
    assert found["Training steps"] == "2,000"
    assert found["Languages"] == "6 (2 seen, 2 low-resource, 2 zero-shot)"
    assert found["Primary endpoint"] == "cross-lingual recall@10"


def test_commands_are_lines_of_shell() -> None:
    assert command({"command": ["pyhbt", "study", "--out", "a b"]}) == "pyhbt study --out 'a b'"
    assert command({"command": "pyhbt study"}) == "pyhbt study"
    assert command({}) == ""


def test_configurations_are_told_whole() -> None:
    config = {"config": {"steps": 3, "data": None}, "command": "x", "environment": {"a": 1}, "b": [{"c": 2}]}
    assert configuration(config) == [("steps", "3"), ("data", "–"), ("b[0].c", "2")]
    assert list(flatten({"a": [], "b": {}, "c": [1, 2]})) == [("a", "–"), ("c", "1, 2")]
