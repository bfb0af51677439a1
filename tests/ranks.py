"""Runs a test's code on several processes under torchrun, or kills it on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def command(script: Path, ranks: int, *arguments: str) -> list[str]:
    """To run ``script`` on so many ranks; it finds the tests package."""
    python = [sys.executable, str(script), *arguments]
    if ranks == 1:
        return python
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"]
    return [sys.executable, *launcher, *python[1:]]


def environment() -> dict[str, str]:
    """One thread a process, no GPU, no network."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def write_script(path: Path, code: str) -> Path:
    """``code`` as a script that can import ``tests``.

    It ends without the interpreter's finalisation, in which gloo's threads abort now and then (``distributed.leave``).
    """
    begin = f"import os, sys\nsys.path.append({str(ROOT)!r})\n"
    end = "\nfrom pyhbt.training.distributed import leave\nleave()\nsys.stdout.flush()\nos._exit(0)\n"
    path.write_text(begin + textwrap.dedent(code) + end)
    return path


def run(script: Path, ranks: int, *arguments: str, timeout: float = 300) -> None:
    """Run to the end; CalledProcessError if it fails."""
    subprocess.run(command(script, ranks, *arguments), check=True, env=environment(), timeout=timeout)
