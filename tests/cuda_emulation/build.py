"""Compiles csrc/cuda with g++ for the emulator: the Python module, and the native test program.

The sources are those that nvcc compiles; ``mutate`` may change a copy of one, to show that the tests notice.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "csrc"
SANITIZERS = {"none": "", "address": "address,undefined", "thread": "thread"}


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which("g++") or shutil.which("c++")


def flags(sanitizer: str) -> list[str]:
    found = ["-std=c++20", "-O1", "-g1", "-DPYHBT_CUDA_EMULATED", f"-I{HERE}"]
    found += ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-ignored-attributes"]
    if SANITIZERS[sanitizer]:
        found += [f"-fsanitize={SANITIZERS[sanitizer]}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    return found


def compile_all(command: Sequence[str], sources: Sequence[Path], target: Path) -> None:
    """:raises RuntimeError: with what the compiler says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    program = compiler()
    if program is None:
        raise RuntimeError("no C++ compiler was found (g++ or c++ on PATH)")
    done = subprocess.run(
        [program, *command, "-x", "c++", *map(str, sources), "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"compiling {target.name} failed:\n{done.stderr}")


def program(target: Path, sanitizer: str = "none", sources: Path = SOURCES) -> Path:
    """The native tests."""
    cuda = sources / "cuda"
    units = [cuda / "contrastive.cu", cuda / "search.cu", HERE / "main.cpp"]
    compile_all([*flags(sanitizer), f"-I{cuda}"], units, target)
    return target


def module(folder: Path) -> ModuleType:
    """``_cuda_emulated``, compiled into the folder and imported."""
    import pybind11

    target = folder / f"_cuda_emulated{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{path}" for path in (pybind11.get_include(), sysconfig.get_path("include"))]
    cuda = SOURCES / "cuda"
    units = [cuda / name for name in ("contrastive.cu", "search.cu", "bindings.cpp")]
    command = [*flags("none"), "-O2", "-fvisibility=hidden", "-fPIC", "-shared", f"-I{cuda}", *includes]
    compile_all(command, units, target)
    spec = importlib.util.spec_from_file_location("_cuda_emulated", target)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["_cuda_emulated"] = loaded
    spec.loader.exec_module(loaded)
    return loaded
