"""The door to the native module.

torch is imported first on purpose: the module's OpenMP threads must be those of the ``libgomp`` that torch has
already loaded, since two thread pools in one process fight for the same cores.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pyhbt._core import BuildInfo

try:
    from pyhbt import _core
except ImportError as error:
    if "PYHBT_SIMD" in str(error):
        raise
    folder = Path(__file__).parents[2]
    if (folder / "CMakeLists.txt").is_file():
        advice = (
            f"{folder} is the source tree: start Python in another folder to get the installed package, "
            "or install this one in place with `pip install -e .`"
        )
    else:
        advice = (
            "install the package again with `pip install .` in its source tree (a C++17 compiler is needed)"
        )
    raise ImportError(f"pyhbt._core: the native module cannot be loaded ({error}); {advice}") from error

__all__ = ["build_info", "core", "threads"]

core = _core


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)  # its own operations, which ours use, would hang likewise


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """The number of threads that the kernels use: torch's, and one in a forked process.

    A fork copies none of OpenMP's threads, and its child would wait for them for ever.
    """
    return 1 if _forked else torch.get_num_threads()


def build_info() -> BuildInfo:
    """How the native module was built and what it uses: version, compiler, instruction sets, OpenMP, CUDA."""
    return _core.build_info()
