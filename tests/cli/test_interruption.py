"""Interrupted commands say how to go on."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pyhbt.cli import doctor
from pyhbt.cli.interruption import interrupted
from tests.interpreter import FOLDER, command


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["study", "--out", "a b", "--overwrite"], "interrupted; go on with: pyhbt study --out 'a b'"),
        (["search", "q", "c", "--out", "r"], "interrupted; go on with: pyhbt search q c --out r"),
        (["evaluate", "x"], "interrupted"),
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

    monkeypatch.setattr(doctor, "diagnose", stop)
    assert pyhbt("doctor") == (130, "", "pyhbt: interrupted\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_study_and_leave_no_half_cell(tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "out"
    call = ["-m", "pyhbt.cli", "study", "--quick", "--steps", "100000", "--out", str(out)]
    process = subprocess.Popen(command(*call), cwd=FOLDER, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (out / "environment.json").is_file() or process.poll() is not None:
            break
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert list((out / "cells").iterdir()) == []
    if number == signal.SIGINT:
        assert said.strip().splitlines()[-1].startswith("pyhbt: interrupted; go on with: pyhbt study --quick")
