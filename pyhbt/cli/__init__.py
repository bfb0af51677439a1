"""The ``pyhbt`` command: study, train, evaluate, encode, search, mine, bitext, report,
power, doctor.

A mistake of the caller's (an unknown option, a missing file, a wrong value) gives one line and exit code 2.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Annotated

import typer

import pyhbt
from pyhbt.cli.bitext import BitextCommand, bitext
from pyhbt.cli.interruption import INTERRUPTED, TERMINATED, interrupted
from pyhbt.cli.mistakes import in_one_line, is_mistake
from pyhbt.cli.options import USAGE_ERROR, command
from pyhbt.cli.retrieval import (
    EncodeCommand,
    EvaluateCommand,
    MineCommand,
    SearchCommand,
    encode,
    evaluate,
    mine,
    search,
)
from pyhbt.cli.training import StudyCommand, TrainCommand, study, train

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Hybrid batch training of multilingual dense retrievers: train on a mix of monolingual and cross-lingual "
        "batches, and measure what the mix does. Start with: pyhbt study --quick"
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pyhbt {pyhbt.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study, finished or not.")] = Path("pyhbt-study"),
) -> None:
    """Write report.html and its plots anew from a study's results."""
    from pyhbt.cli.terminal import say, usable_cpus
    from pyhbt.study.report import write_report

    say(f"report: {write_report(study, jobs=usable_cpus())}")


def power(
    study: Annotated[Path, typer.Argument(help="Folder of a study of two seeds or more.")] = Path(
        "pyhbt-study"
    ),
    difference: Annotated[
        list[str] | None,
        typer.Option(
            help="Differences to be found, of 0.005, 0.01, 0.02 and 0.05 by default.", metavar="NUMBER"
        ),
    ] = None,
) -> None:
    """Print how many seeds and queries a difference needs, from the spread that a study found."""
    from pyhbt.cli.terminal import say, table
    from pyhbt.study.analysis import analyse
    from pyhbt.study.report.response import DIFFERENCES, needed_table

    wanted = tuple(map(_difference, difference or ())) or DIFFERENCES
    found = needed_table(analyse(study), wanted)
    if found is None:
        raise ValueError(
            f"{study}: found fewer than two arms, seeds or clusters of queries, expected two of each"
        )
    names = [name for name, span in found.spans for _ in range(span)]
    head = [f"{name.split()[0]} {column}" for name, column in zip(names, found.columns, strict=True)]
    rows = [[row.head, *(cell.text for cell in row.cells)] for row in found.rows]
    table(
        f"{found.title}, in three columns: found as it is, seeds, clusters of queries",
        ["endpoint", *head],
        rows,
    )
    for note in found.notes:
        say(note)


def _difference(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ValueError(f"difference: found {text!r}, expected a number between 0 and 1")
    return value


def doctor() -> None:
    """Print versions, SIMD level, OpenMP runtimes and CUDA state."""
    from pyhbt.cli.doctor import diagnose
    from pyhbt.cli.terminal import say

    for subject, finding in diagnose():
        say(f"{subject:<22} {finding}")


app.command()(command(StudyCommand, study))
app.command()(command(TrainCommand, train))
app.command()(command(EvaluateCommand, evaluate))
app.command()(command(EncodeCommand, encode))
app.command()(command(SearchCommand, search))
app.command()(command(MineCommand, mine))
app.command()(command(BitextCommand, bitext))
app.command()(report)
app.command()(power)
app.command()(doctor)


def main() -> None:
    """Entry point: run the command; a caller's mistake is one line and exit code 2, an interruption one line and 130.

    SIGTERM ends a command as Ctrl-C does, with the same line and exit code 143.
    """
    former = signal.signal(signal.SIGTERM, _stop) if current_thread() is main_thread() else None
    try:
        status = app(standalone_mode=False)
    except USAGE_ERROR as error:
        _fail(error.format_message())
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # typer takes the end of a file for an interruption
            _fail(error.__cause__)
        status = INTERRUPTED
    except SystemExit as stop:
        if stop.code != TERMINATED:
            raise
        status = TERMINATED
    except Exception as error:
        if "PYHBT_TRACEBACK" in os.environ:
            raise
        if not is_mistake(error):
            typer.echo("pyhbt: this is a bug of PyHBT; please report it with all that follows", err=True)
            raise
        _fail(error)
    finally:
        if former is not None:
            signal.signal(signal.SIGTERM, former)
    if status in (INTERRUPTED, TERMINATED):  # typer makes an exit code of a KeyboardInterrupt
        typer.echo(f"pyhbt: {interrupted(sys.argv[1:])}", err=True)
    sys.exit(status if isinstance(status, int) else 0)


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


def _fail(error: Exception | str) -> None:
    typer.echo(f"pyhbt: {in_one_line(error)}", err=True)
    sys.exit(2)
