"""Commands that are killed, ended, interrupted, or run twice at once: nothing is half-written, nothing left behind."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyhbt import ExactIndex
from pyhbt.study.run import run_study
from tests.docs.workshop import write_own_data
from tests.study.test_jobs import SMALL
from tests.toy import study_data

pytestmark = pytest.mark.slow
PYHBT = [sys.executable, "-m", "pyhbt.cli"]
SAVE = [
    sys.executable,
    "-c",
    "import numpy as np; from pyhbt import ExactIndex; x = np.load('passages.npy')\n"
    "for size in range(100): ExactIndex(x[: size % 30 + 151]).save('index')",
]


@dataclass(frozen=True)
class Case:
    """A command, what it writes, and whether a file that is there is whole."""

    command: list[str]
    out: str
    is_whole: Callable[[Path], Any]


def _rows(count: int) -> Callable[[Path], bool]:
    return lambda path: len(path.read_text().splitlines()) == count


CASES = {
    "encode": Case(
        [*PYHBT, "encode", "passages.jsonl", "--out", "out.npy", "--encoder", "ngram"],
        "out.npy",
        lambda path: np.load(path).shape == (180, 128),
    ),
    "search": Case(
        [*PYHBT, "search", "queries.npy", "passages.npy", "--k", "5", "--out", "out.trec"],
        "out.trec",
        _rows(25),
    ),
    "mine": Case(
        [
            *PYHBT,
            "mine",
            "--data",
            "jsonl:pairs.jsonl",
            "--encoder",
            "ngram",
            "--any-score",
            "--out",
            "mined.jsonl",
        ],
        "mined.jsonl",
        _rows(180),
    ),
    "bitext": Case(
        [
            *PYHBT,
            "bitext",
            "queries.jsonl",
            "passages.jsonl",
            "--encoder",
            "ngram",
            "--no-unify",
            "--retrieval",
            "forward",
            "--out",
            "bitext.tsv",
        ],
        "bitext.tsv",
        _rows(180),
    ),
    "evaluate": Case(
        [
            *PYHBT,
            "evaluate",
            "--data",
            "beir:kenya/dev",
            "--split",
            "dev",
            "--encoder",
            "ngram",
            "--run",
            "out.trec",
        ],
        "out.trec",
        _rows(30 * 30),
    ),
    "report": Case(
        [*PYHBT, "report", "study"],
        "study/report.html",
        lambda path: path.read_text().rstrip().endswith("</html>"),
    ),
    "index": Case(SAVE, "index", lambda path: ExactIndex.open(path, verify=True)),
}


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_own_data(folder)
    run_study(SMALL, study_data(), folder / "study")
    return folder


@pytest.fixture
def work(furnished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(furnished, tmp_path / "work"))


def start(command: Sequence[str], work: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        **options,
        cwd=work,
        env=os.environ | {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def leftovers(work: Path) -> list[Path]:
    return [
        path for path in work.rglob(".*") if path.suffix in (".partial", ".old") or path.name.endswith("lock")
    ]


def check_whole(case: Case, work: Path) -> None:
    if (work / case.out).exists():
        assert case.is_whole(work / case.out)


@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_moment(name: str, work: Path) -> None:
    case, rng = CASES[name], random.Random(name)
    begin = time.monotonic()
    with start(case.command, work) as process:
        assert process.wait() == 0
    seconds = time.monotonic() - begin
    check_whole(case, work)
    for number in range(2 if name == "report" else 4):
        if number % 2:  # with the former output there, and without
            path = work / case.out
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        with start(case.command, work) as process:
            time.sleep(seconds * rng.uniform(0.5, 1.0))
            process.kill()
        check_whole(case, work)
    with start(case.command, work) as process:
        said = process.communicate()[1]
    assert process.returncode == 0, said
    assert (work / case.out).exists()
    check_whole(case, work)
    assert leftovers(work) == []


@pytest.mark.parametrize("name", CASES)
def test_two_at_once(name: str, work: Path) -> None:
    case = CASES[name]
    with start(case.command, work) as one, start(case.command, work) as other:
        said = {process: process.communicate()[1] for process in (one, other)}
    for process, words in said.items():
        if process.returncode:
            assert process.returncode == 2, words
            assert re.search(r"^pyhbt: .*is being written by process \d+", words, re.MULTILINE), words
    assert 0 in {one.returncode, other.returncode}
    assert (work / case.out).exists()
    check_whole(case, work)
    assert leftovers(work) == []


@pytest.mark.parametrize("name", [name for name in CASES if name != "index"])
def test_a_disk_that_takes_no_more(name: str, work: Path) -> None:
    case, size = CASES[name], 300

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    with start(case.command, work, preexec_fn=limit) as process:
        said = process.communicate()[1]
    assert process.returncode == 2, said
    last = said.strip().splitlines()[-1]
    assert re.search(rf"^pyhbt: .*{Path(case.out).parts[0]}.* cannot be written [(]", last), said
    assert not (work / case.out).exists()
    assert leftovers(work) == []


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_encoding_ends_at_once(how: signal.Signals, code: int, work: Path) -> None:
    text = '{"text": "' + "word " * 400 + '"}\n'
    (work / "many.jsonl").write_text(text * 40_000)
    with start([*PYHBT, "encode", "many.jsonl", "--out", "many.npy", "--encoder", "ngram"], work) as process:
        assert process.stderr is not None
        shown = ""
        while "encode" not in shown:  # the bar of progress
            shown += process.stderr.read(1)
        time.sleep(1)
        begin = time.monotonic()
        process.send_signal(how)
        rest = process.communicate(timeout=60)[1]
        assert time.monotonic() - begin < 4
    assert process.returncode == code
    assert re.search(r"^pyhbt: interrupted$", rest, re.MULTILINE), rest
    assert not (work / "many.npy").exists()
    assert leftovers(work) == []
