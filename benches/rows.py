"""Rows of measurements, as CSV files in benches/results/."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pyhbt.ops._native import build_info

RESULTS = Path(__file__).parent / "results"
CASE = ("op", "n", "m", "dim", "k", "data")
"""Columns that name what was measured, as far as a row has them."""
left_out: list[str] = []
"""Peers that were too slow to be timed, for the summary."""


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


@dataclass(frozen=True)
class SearchRow(Row):
    """One measurement of search or ranks: n queries, m passages."""

    data: str
    """As benches/vectors.py names it."""
    index_mib: float
    """What the backend keeps beside the vectors as they were given."""
    read_mib: float
    """One pass over the corpus in the form that the backend reads."""
    gb_per_s: float
    """That pass by the median time."""
    ceiling_gb_per_s: float
    ceiling_int8_gops: float


@dataclass(frozen=True)
class Scan:
    """What search and ranks tell of their corpus: its name, and by backend, where it is not the default, bytes."""

    data: str
    kept: Mapping[str, int] = field(default_factory=dict)
    """Beside the vectors as they were given; 0."""
    read: Mapping[str, int] = field(default_factory=dict)
    """In one pass over the corpus; that of float32 vectors."""


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


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of one file, none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[Any], columns: list[str]) -> None:
    """Dataclass rows as CSV, whole or not at all."""
    _write(path, [asdict(row) for row in rows], columns)


def update_rows(path: Path, rows: Sequence[Row]) -> None:
    """Puts rows in the place of those of the same case; other cases stay, from whatever commit they are."""
    columns = [column.name for column in fields(rows[0])]
    cases: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    old = read_rows(path)
    for row in old if old and list(old[0]) == columns else []:
        cases.setdefault(_case(row), []).append(row)
    new = [asdict(row) for row in rows]
    for row in new:
        cases[_case(row)] = []
    for row in new:
        cases[_case(row)].append(row)
    _write(path, [row for group in cases.values() for row in group], columns)


def _case(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in CASE if column in row)


def _write(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)  # noqa: PTH105
