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
    """One thread a process, no GPU, and the tests package after what is installed."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def write_script(path: Path, code: str) -> Path:
    """``code`` as a script that can import ``tests``."""
    path.write_text(f"import sys\nsys.path.append({str(ROOT)!r})\n" + textwrap.dedent(code))
    return path


def run(script: Path, ranks: int, *arguments: str, timeout: float = 300) -> None:
    """Run to the end; CalledProcessError if it fails."""
    subprocess.run(command(script, ranks, *arguments), check=True, env=environment(), timeout=timeout)
