"""The CUDA kernels on the CPU: their module compiled for the emulator, once a session and only where asked for."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

from pyhbt.ops.cuda.kernels import Kernels
from tests.cuda_emulation import build


@lru_cache(maxsize=1)
def _kernels() -> Kernels:
    made = os.environ.get("EMULATED_MODULE")  # of mutated kernels, by tests.cuda_emulation.mutations
    if made:
        return Kernels(build.load(Path(made)))
    return Kernels(build.module(Path(tempfile.mkdtemp(prefix="pyhbt-emulated-"))))


def emulated_kernels() -> Kernels:
    """Skips the test where there is no C++ compiler."""
    if build.compiler() is None:
        pytest.skip("no C++ compiler on PATH: the CUDA kernels cannot be compiled for the emulator")
    pytest.importorskip("pybind11", reason="pybind11 is needed to compile the emulated CUDA module")
    return _kernels()
