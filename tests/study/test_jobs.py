"""Cells made by several processes: the same rows, what fails is told, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from pyhbt.encoders import load_encoder
from pyhbt.study.jobs import fitting_jobs
from pyhbt.study.run import run_study
from pyhbt.study.workplace import Progress
from tests.interpreter import FOLDER, command
from tests.study.test_run import CONFIG
from tests.toy import study_data

SMALL = replace(CONFIG, arms=(0.0, 0.5), seeds=(0,))


def test_two_processes_make_the_same_study(tmp_path: Path) -> None:
    seen: list[Progress] = []
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # as each of two workers has: other numbers of threads sum in another order
        run_study(SMALL, study_data(), tmp_path / "one")
        run_study(SMALL, study_data(), tmp_path / "two", jobs=2, observe=lambda p: seen.append(replace(p)))
    finally:
        torch.set_num_threads(threads)
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "results.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert one == two
    assert {progress.number for progress in seen if progress.finished} == {0, 1}
    assert any(progress.scores for progress in seen)


def test_threads_bound_the_jobs() -> None:
    encoder = load_encoder("ngram")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert fitting_jobs(encoder) == 1
        torch.set_num_threads(2)
        assert fitting_jobs(encoder) in (1, 2)
    finally:
        torch.set_num_threads(threads)


_KILLED = """
    import sys
    sys.path.append(sys.argv[2])
    from dataclasses import replace
    from tests.study.test_run import CONFIG, study_data, run_study

    def observe(progress):
        print(progress.number, progress.step, flush=True)

    if __name__ == "__main__":
        run_study(replace(CONFIG, seeds=tuple(range(50))), study_data(), sys.argv[1], jobs=2, observe=observe)
"""


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    lines = _KILLED.strip("\n").splitlines()
    script.write_text("\n".join(line[4:] for line in lines))
    root = Path(__file__).parents[2]
    arguments = [command("")[0], str(script), str(tmp_path / "out"), str(root)]
    with subprocess.Popen(arguments, cwd=FOLDER, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        os.kill(process.pid, signal.SIGKILL)
    gone = time.monotonic() + 20
    while any(child.is_running() and child.status() != "zombie" for child in children):
        assert time.monotonic() < gone, "workers outlive their parent"
        time.sleep(0.2)
