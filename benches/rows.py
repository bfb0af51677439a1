"""Rows of measurements, as CSV files in benches/results/."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyhbt.ops._native import build_info

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
    rounds: int
    p20_ms: float
    p50_ms: float
    p80_ms: float
    ratio: float
    """Median over rounds of this backend's time divided by pyhbt's."""
    gflops: float
    ceiling_gflops: float
    device: str
    commit: str


def device() -> str:
    """The processor and the instruction set in use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({build_info()['simd_in_use']})"


def commit() -> str:
    """The short hash of HEAD."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "none"


def write_rows(path: Path, rows: list[Any], columns: list[str]) -> None:
    """Dataclass rows as CSV, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    os.replace(temporary, path)  # noqa: PTH105
