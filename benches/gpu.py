"""For whoever has a GPU: are the CUDA kernels right, and how fast are they beside their peers?

usage: python benches/gpu.py [--out FOLDER] [--quick] [--skip-checks]

Runs the tests of the kernels on the device, the same under compute-sanitizer where it is on PATH, and timings beside
torch (eager, compiled, matmul and topk) and, where they are installed, Inf-CL, cut-cross-entropy, siglip-kernel (a
sigmoid loss over the same products), FAISS and cuVS on the GPU.
Writes gpu-<device>.log and gpu-<device>.csv; please send both.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_timings import Device, Row, time_all

import pyhbt
from pyhbt.ops.cuda import kernels

ROOT = Path(__file__).parents[1]
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")


def checks(quick: bool) -> Iterator[tuple[str, list[str]]]:
    """Commands whose success says that the kernels are right on this device."""
    # by its path: python -m would put the source tree, which has no native module, before the installed package
    program = str(Path(pytest.__file__).with_name("__main__.py"))
    tests = [sys.executable, program, "-q", "-m", "gpu", "tests/ops/cuda"]
    yield "tests on the device", tests
    sanitizer = shutil.which("compute-sanitizer")
    for tool in SANITIZERS if sanitizer and not quick else ():
        few = [*tests, "-k", "awkward_sizes or square or overflow or shared_missing"]
        yield f"compute-sanitizer {tool}", [str(sanitizer), "--tool", tool, "--error-exitcode", "1", *few]


def run_checks(quick: bool) -> bool:
    """Prints what each says; False: one failed."""
    good = True
    for name, command in checks(quick):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(
            f"\n== {name}: {'passed' if done.returncode == 0 else 'FAILED'}\n{(done.stdout + done.stderr)[-4000:]}"
        )
        good = good and done.returncode == 0
    return good


def write_rows(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(map(asdict, rows))


class Tee(io.TextIOBase):
    """Writes to the terminal and to a file."""

    def __init__(self, *streams: Any) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        for stream in self.streams:
            stream.write(text)
            stream.flush()
        return len(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python benches/gpu.py", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results")
    parser.add_argument("--quick", action="store_true", help="small shapes, no compute-sanitizer")
    parser.add_argument("--skip-checks", action="store_true", help="timings alone")
    parser.add_argument("--device", default="cuda", help="cpu: tries this script alone")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__}; pyhbt: {kernels.status()['reason']}")
        return 2
    device = Device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = "gpu-" + re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
    with (
        (options.out / f"{stem}.log").open("w", encoding="utf-8") as log,
        redirect_stdout(Tee(sys.stdout, log)),
    ):
        print(
            f"{device.name}, torch {torch.__version__}, CUDA {torch.version.cuda}, pyhbt {pyhbt.__version__}"
        )
        print(f"pyhbt's CUDA module: {kernels.status()}")
        good = options.skip_checks or run_checks(options.quick)
        rows = []
        for row in time_all(device, options.quick):
            rows.append(row)
            said = f"{row.ms:10.3f} ms  x{row.ratio:5.2f}" if row.ms and row.ratio else row.note
            print(f"{row.op:12} n={row.n:<6} m={row.m:<8} k={row.k:<5} {row.dtype:9} {row.backend:18} {said}")
            write_rows(options.out / f"{stem}.csv", rows)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
