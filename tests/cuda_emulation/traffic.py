"""Bytes of global memory that the kernels of panels and tiles move, counted (traffic.cpp) instead of assumed.

usage: python -m tests.cuda_emulation.traffic

Counted are sectors of 32 bytes that a block touches, each once: nothing is left in a cache of what other blocks read,
and all of what the block itself reads is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from . import build

SCORES = 64 * 1024  # of the panel and the tile in traffic.cpp


class Traffic(dict[str, tuple[int, int]]):
    """Bytes read and written of each array."""

    @property
    def of_a_score(self) -> float:
        """All bytes, by the number of scores."""
        return sum(map(sum, self.values())) / SCORES


def counted(folder: Path) -> dict[str, Traffic]:
    """By kernel; compiled into the folder and run.

    Raises:
        RuntimeError: with what the compiler says.
    """
    hooks = "-fsanitize=thread", "-U__SANITIZE_THREAD__"  # calls at accesses, without the library behind them
    objects = [
        build.compiled(build.SOURCES / "cuda" / name, folder / f"{name}.o", "none", *hooks)
        for name in ("contrastive.cu", "search.cu")
    ]
    objects.append(build.compiled(build.HERE / "traffic.cpp", folder / "traffic.o", "none"))
    program = build.linked(objects, folder / "traffic", "none")
    lines = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    found: dict[str, Traffic] = defaultdict(Traffic)
    for kernel, array, read, written in map(str.split, lines.splitlines()):
        found[kernel][array] = int(read), int(written)
    return dict(found)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        for kernel, arrays in counted(Path(folder)).items():
            print(f"{kernel:28} {arrays.of_a_score:6.2f} bytes a score   {dict(arrays)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
