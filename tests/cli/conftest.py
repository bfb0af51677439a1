"""The command in our own process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from pyhbt import cli


@pytest.fixture
def pyhbt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """(exit code, stdout, stderr) of ``pyhbt ARGUMENTS`` in a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pyhbt", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written without their plots, which take nearly all of the time."""
    monkeypatch.setattr("pyhbt.study.report.page.write_plots", lambda *_: {})
