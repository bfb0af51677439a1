"""What the commands show: progress of trainings and studies, tables of scores."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pyhbt.arguments import check_at_least
from pyhbt.evaluation.names import ALL_SETTINGS, BIAS_METRICS, PREFERENCE_METRICS, RANK_METRICS, SETTINGS
from pyhbt.visible import visible

if TYPE_CHECKING:
    from pyhbt.evaluation.result import Evaluation
    from pyhbt.study.workplace import Observer
    from pyhbt.study.workplace import Progress as StudyProgress

_MOST_THREADS = 1 << 16  # torch starts them all

console = Console()


def set_up(threads: int | None) -> None:
    """What a command begins with: threads as asked for; under torchrun the first rank alone speaks."""
    import torch

    if threads is not None:
        check_at_least("threads", threads, 1)
        if threads > _MOST_THREADS:
            raise ValueError(f"threads: found {threads}, expected at most {_MOST_THREADS}")
        torch.set_num_threads(threads)
    os.environ.setdefault(
        "HF_HUB_DISABLE_PROGRESS_BARS", "1"
    )  # read by libraries when they are first imported
    if logging.lastResort is not None:  # what prints warnings where nothing else is set up
        logging.lastResort.setFormatter(_Visible())
    console.quiet = os.environ.get("RANK", "0") != "0"


def usable_cpus() -> int:
    """Processors that this process may use; the library of torch is not loaded for it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Visible(logging.Formatter):
    """Messages of the log, which hold text from data, harmless to look at."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), keep="\n")


def say(*lines: str) -> None:
    """Print lines as they are, but for control characters and line breaks in them: no markup, no colours."""
    for line in lines:
        console.print(visible(line), highlight=False, soft_wrap=True, markup=False, emoji=False)


@contextmanager
def study_progress(title: str) -> Iterator[Observer]:
    """A live display of a study: a bar over cells, one over the steps of each cell in work; a line a finished cell."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        cells = bars.add_task(title, total=None, note="")
        tasks: dict[int, tuple[TaskID, float]] = {}  # of cells in work, by number
        done = 0

        def observe(progress: StudyProgress) -> None:
            nonlocal done
            if progress.number not in tasks:
                tasks[progress.number] = bars.add_task("", note=""), time.monotonic()
            task, started = tasks[progress.number]
            scores = progress.scores
            note = "  ".join(
                f"{setting[:5]} R@10 {scores[f'{setting} recall@10']:.3f}"
                for setting in SETTINGS
                if f"{setting} recall@10" in scores
            )
            bars.update(cells, total=progress.cells)
            bars.update(
                task,
                description=visible(progress.cell.called),
                total=progress.steps,
                completed=progress.step,
                note=note,
            )
            if progress.finished:
                done += 1
                seconds = time.monotonic() - started
                say(f"[{done}/{progress.cells}] {progress.cell.called}: dev {note}  ({seconds:.0f} s)")
                bars.update(cells, completed=done)
                bars.remove_task(task)
                del tasks[progress.number]
                if done == progress.cells:
                    done = 0  # the next ones are of another stage: cells made of these

        yield observe


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is left-aligned, the others to the right."""
    printed = Table(title=Text(visible(title)), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(header):
        printed.add_column(Text(visible(name)), justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        printed.add_row(*(Text(visible(cell)) for cell in row))
    console.print(printed)


def evaluation_table(evaluations: Sequence[Evaluation], metrics: Sequence[str]) -> None:
    """Macro means in percent, one row a setting and centring, and those of language bias that are defined."""
    rows = []
    for evaluation in evaluations:
        for setting in ALL_SETTINGS:
            values = [evaluation.macro(setting, metric) for metric in metrics]
            if any(value == value for value in values):
                rows.append([setting, evaluation.centring, *(f"{100 * value:.2f}" for value in values)])
    table("macro means over languages or language pairs, x 100", ["setting", "centring", *metrics], rows)
    bias = {
        metric: [evaluation.macro("multilingual", metric) for evaluation in evaluations]
        for metric in BIAS_METRICS
        if metric not in PREFERENCE_METRICS
    }
    measured = {metric: values for metric, values in bias.items() if any(value == value for value in values)}
    if measured:
        table(
            "language bias in the multilingual pool",
            ["centring", *measured],
            [
                [
                    evaluation.centring,
                    *(
                        f"{value:,.1f}" if metric in RANK_METRICS else f"{value:.3f}"
                        for metric, value in zip(measured, values, strict=True)
                    ),
                ]
                for evaluation, *values in zip(evaluations, *measured.values(), strict=True)
            ],
        )
    preference = [
        [metric, *(f"{value:.3f}" for value in values)]
        for metric in PREFERENCE_METRICS
        for values in ([evaluation.macro("multilingual", metric) for evaluation in evaluations],)
        if any(value == value for value in values)
    ]
    if preference:
        heads = [evaluation.centring for evaluation in evaluations]
        table("preference for the query's language", ["measure", *heads], preference)
