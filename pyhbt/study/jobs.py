"""Jobs: cells that are made one after the other in this process, or several at a time in others.

Workers are started anew (spawned), hold the data once, and get an equal share of torch's threads each. A worker ends
with the process that started it, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psutil
import torch

from pyhbt.study.cells import Cell

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from pyhbt.encoders import Encoder
    from pyhbt.study.workplace import Observer, Progress, Workplace

_POLL = 0.2  # seconds between two looks at workers' progress


@dataclass(frozen=True)
class Job:
    """A cell to be trained, if it or its encoder is missing, and measured on the test sets of ``splits``.

    ``keep``: its encoder stays.
    """

    cell: Cell
    splits: tuple[str, ...] = ()
    keep: bool = False


def fitting_jobs(encoder: Encoder) -> int:
    """How many trainings of an encoder this machine does best at a time.

    On CPUs one a thread of torch's, as many as a quarter of the free memory holds with gradients and the moments of
    Adam, four numbers a weight; on a GPU one.
    """
    if torch.cuda.is_available():
        return 1
    weights = sum(value.numel() * value.element_size() for value in encoder.parameters())
    room = int(psutil.virtual_memory().available // 4 // (4 * weights + 1))
    return max(1, min(torch.get_num_threads(), room))


def run_jobs(place: Workplace, jobs: Sequence[Job], workers: int, observe: Observer) -> None:
    """Do all jobs, ``workers`` at a time; what the first that fails raises is raised here, after the others ended."""
    from pyhbt.study.workplace import Progress

    works = [
        (job, Progress(number, len(jobs), job.cell, 0, place.planned_steps(job.cell)))
        for number, job in enumerate(jobs)
    ]
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job, progress in works:
            place.make(job.cell, job.splits, progress, observe, keep=job.keep)
    else:
        _run_in_workers(place, works, workers, observe)


def _run_in_workers(
    place: Workplace, works: Sequence[tuple[Job, Progress]], workers: int, observe: Observer
) -> None:
    context = multiprocessing.get_context("spawn")
    told: SimpleQueue[Progress] = context.SimpleQueue()  # what was put is there before its job is done
    threads = max(1, torch.get_num_threads() // workers)
    executor = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_worker, initargs=(place, threads, told, os.getpid())
    )
    shown: dict[int, Progress] = {}
    failed: BaseException | None = None
    try:
        running: set[Future[None]] = {executor.submit(_work, job, progress) for job, progress in works}
        while running:
            done, running = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED)
            _pass_on(told, shown, observe)
            faults = [future.exception() for future in done if not future.cancelled()]
            failed = failed or next(filter(None, faults), None)
            if failed is not None:
                for future in running:
                    future.cancel()  # one that has begun goes on, and is listened to: who is not heard would wait
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        told.close()
    if failed is not None:
        raise failed


def _pass_on(told: SimpleQueue[Progress], shown: dict[int, Progress], observe: Observer) -> None:
    """Hand what workers said to the observer; a cell's news always in the same object."""
    while not told.empty():
        news = told.get()
        progress = shown.setdefault(news.number, news)
        progress.__dict__.update(news.__dict__)
        observe(progress)


_place: Workplace
_told: Any


def _begin_worker(place: Workplace, threads: int, told: Any, parent: int) -> None:
    """What a worker begins with."""
    global _place, _told
    torch.set_num_threads(threads)
    _place, _told = place, told
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _work(job: Job, progress: Progress) -> None:
    _place.make(job.cell, job.splits, progress, lambda news: _told.put(replace(news)), keep=job.keep)
