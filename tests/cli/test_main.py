"""The command line as a whole: help, mistakes in one line, exit codes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from pyhbt import __version__
from tests.interpreter import run_python
from tests.study.synthetic_study import Study, write_study


@pytest.mark.parametrize(
    "command", ["study", "train", "evaluate", "encode", "search", "mine", "bitext", "report", "doctor"]
)
def test_help(pyhbt: Any, command: str) -> None:
    code, out, _ = pyhbt(command, "--help")
    assert code == 0
    assert "Usage:" in out
    assert command in pyhbt("--help")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("study", "--bogus"), "No such option: --bogus"),
        (("study", "--seeds", "none"), "Invalid value for '--seeds'"),
        (("nonsense",), "No such command 'nonsense'"),
        (("study", "--data", "bogus"), "bogus"),
        (("study", "--data", "xquad-r:./nowhere"), "nowhere"),
        (("study", "--ratios", "0,2"), "ratio: found 2"),
        (("study", "--encoder", "./nowhere"), "encoder: ./nowhere is not a folder"),
        (("evaluate",), "Missing option '--encoder'"),
        (("evaluate", "--encoder", "ngram", "--metrics", "P@5"), "metric: found 'P@5'"),
        (("encode", "./nowhere.txt", "--out", "x.npy"), "nowhere.txt"),
        (("search", "./nowhere.npy", "./c.npy", "--out", "run"), "nowhere.npy"),
        (("search", "q.npy", "c.npy"), "Missing option '--out'"),
        (("search", "q.npy", "c.npy", "--out", "run", "--k", "0"), "k: found 0, expected at least 1"),
        (
            ("search", "q.npy", "c.npy", "--out", "run", "--similarity", "l2"),
            "Invalid value for '--similarity'",
        ),
        (("report", "./nowhere"), "nowhere"),
    ],
)
def test_mistakes_give_one_line_and_code_2(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = pyhbt(*arguments)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("pyhbt: ")
    assert message in err
    assert list(tmp_path.iterdir()) == []


doctor = importlib.import_module("pyhbt.cli.doctor")  # its room has a command of that name


def raising(error: BaseException) -> Any:
    def diagnose() -> None:
        raise error

    return diagnose


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("found 1,\n  expected 2"), 2, "pyhbt: found 1, expected 2\n"),
        (TypeError("found int"), 2, "pyhbt: found int\n"),
        (FileNotFoundError("x: no such file"), 2, "pyhbt: x: no such file\n"),
        (ImportError("install it"), 2, "pyhbt: install it\n"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    pyhbt: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    monkeypatch.setattr(doctor, "diagnose", raising(error))
    assert pyhbt("doctor") == (code, "", message)


def test_an_interruption_has_an_exit_code_of_its_own(pyhbt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "diagnose", raising(KeyboardInterrupt()))
    assert pyhbt("doctor")[0] == 130


def test_errors_of_ours_are_shown_whole(
    pyhbt: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no mistake of the caller's, and any error where a traceback is wanted."""
    monkeypatch.setattr(doctor, "diagnose", raising(AssertionError("ours")))
    with pytest.raises(AssertionError, match="ours"):
        pyhbt("doctor")
    assert (
        capsys.readouterr().err == "pyhbt: this is a bug of PyHBT; please report it with all that follows\n"
    )
    monkeypatch.setattr(doctor, "diagnose", raising(ValueError("theirs")))
    monkeypatch.setenv("PYHBT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="theirs"):
        pyhbt("doctor")


def test_report_writes_the_page_anew(pyhbt: Any, tmp_path: Path) -> None:
    shape = Study(ratios=(0,), seeds=(0,), languages=("en", "de"), steps=(0,), units=3)
    folder = write_study(tmp_path / "study", shape)
    assert pyhbt("report", folder) == (0, f"report: {folder}/report.html\n", "")
    assert (folder / "report.html").stat().st_size > 10_000


def test_version_of_a_process_of_its_own() -> None:
    assert run_python("from pyhbt.cli import main; main()", "--version").stdout == f"pyhbt {__version__}\n"


def test_help_loads_no_library_that_only_a_run_needs() -> None:
    code = """
        import sys
        from pyhbt import cli
        try:
            cli.main()
        except SystemExit:
            print(sorted({"datasets", "sentence_transformers", "matplotlib"} & set(sys.modules)))
    """
    assert run_python(code, "train", "--help").stdout.strip().endswith("[]")
