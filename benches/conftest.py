"""What the benches share: the ``measure`` fixture, and one CSV row per measurement in benches/results/.

Peers run in the same session on the same inputs, and every answer is checked before it is timed. The session prints
the measured multiply-add ceiling of this machine; figures taken while it reads low were taken on a busy machine.
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch

from pyhbt.ops._native import core

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measurement; gflops counts 2 flops for each multiply-add that the operation needs, at the median."""

    op: str
    backend: str
    n: int
    m: int
    dim: int
    k: int
    dtype: str
    threads: int
    p20_ms: float
    p50_ms: float
    p80_ms: float
    gflops: float
    device: str
    commit: str


class Measure(Protocol):
    """Times ``call`` and keeps a row; ``flops`` is what one call must compute."""

    def __call__(
        self,
        call: Callable[[], Any],
        *,
        op: str,
        backend: str,
        n: int,
        m: int,
        dim: int,
        k: int,
        flops: float,
    ) -> None: ...


_rows: list[Row] = []


def _device() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else "none"


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    def run(
        call: Callable[[], Any], *, op: str, backend: str, n: int, m: int, dim: int, k: int, flops: float
    ) -> None:
        benchmark.group = f"{op} n={n} m={m} dim={dim} k={k}"
        benchmark.name = backend
        rounds = int(np.clip(6e10 / flops, 5, 20))
        benchmark.pedantic(call, rounds=rounds, warmup_rounds=1)
        if benchmark.stats is None:  # --benchmark-disable
            return
        p20, p50, p80 = np.percentile(benchmark.stats.stats.data, [20, 50, 80]) * 1e3
        measured = (round(float(p20), 4), round(float(p50), 4), round(float(p80), 4))
        gflops = round(flops / float(p50) * 1e-6, 1)
        identity = (op, backend, n, m, dim, k, "float32", torch.get_num_threads())
        _rows.append(Row(*identity, *measured, gflops, _device(), _commit()))

    return run


def pytest_sessionfinish() -> None:
    for op in sorted({row.op for row in _rows}):
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{op}.csv"
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(row) for row in _rows if row.op == op)
        os.replace(temporary, path)  # noqa: PTH105


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _rows:
        threads = torch.get_num_threads()
        peak = core.fma_peak_gflops(threads)
        terminalreporter.write_line(f"multiply-add ceiling with {threads} threads: {peak:.0f} GFLOP/s")
