"""Interrupted commands say how to go on."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from pyhbt.cli.interruption import interrupted


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["study", "--out", "a b", "--overwrite"], "interrupted; go on with: pyhbt study --out 'a b'"),
        (["search", "q", "c", "--out", "r"], "interrupted; go on with: pyhbt search q c --out r"),
        (["evaluate", "x"], "interrupted"),
        (["bitext", "a", "b", "--out", "c.tsv"], "interrupted"),
        ([], "interrupted"),
        *(
            (
                ["train", "--out", "x", *resumed],
                "interrupted; go on from its last checkpoint, if it wrote one, with: pyhbt train --out x --resume",
            )
            for resumed in ([], ["--resume"])
        ),
    ],
)
def test_what_goes_on_is_said(arguments: list[str], line: str) -> None:
    assert interrupted(arguments) == line


def test_an_interruption_is_one_line(pyhbt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("pyhbt.cli.doctor"), "diagnose", stop)
    assert pyhbt("doctor") == (130, "", "pyhbt: interrupted\n")
