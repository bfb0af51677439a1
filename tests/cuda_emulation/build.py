"""Compiles csrc/cuda with g++ for the emulator: the Python module, and the native test program.

The sources are those that nvcc compiles.
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
KERNELS = ("contrastive.cu", "loss_rows.cu", "search.cu")
BINDINGS = ("bindings.cpp", "bind_loss.cpp")
CHECKS = ("contrastive_checks.cpp", "loss_checks.cpp", "search_checks.cpp", "step_checks.cpp", "main.cpp")
SANITIZERS = {"none": "", "address": "address,undefined", "thread": "thread"}


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which("g++") or shutil.which("c++")


def flags(sanitizer: str) -> list[str]:
    found = ["-std=c++20", "-O1", "-g1", "-DPYHBT_CUDA_EMULATED", f"-I{HERE}"]
    found += ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-ignored-attributes"]
    if SANITIZERS[sanitizer]:
        found += [
            f"-fsanitize={SANITIZERS[sanitizer]}",
            "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer",
        ]
    return found


def run_compiler(arguments: Sequence[str], target: Path) -> Path:
    """Run the compiler.

    Raises:
        RuntimeError: with what the compiler says.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    program = compiler()
    if program is None:
        raise RuntimeError("no C++ compiler was found (g++ or c++ on PATH)")
    done = subprocess.run(
        [program, *arguments, "-o", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"compiling {target.name} failed:\n{done.stderr}")
    return target


def compiled(source: Path, target: Path, sanitizer: str, *more: str) -> Path:
    """An object file; sources of kernels include their neighbours in csrc/cuda."""
    command = [*flags(sanitizer), f"-I{SOURCES / 'cuda'}", *more, "-x", "c++", "-c", str(source)]
    return run_compiler(command, target)


def linked(objects: Sequence[Path], target: Path, sanitizer: str) -> Path:
    """A program of object files."""
    return run_compiler([*flags(sanitizer), *map(str, objects)], target)


def module_object(source: Path, target: Path, *more: str) -> Path:
    """An object file of ``_cuda_emulated``."""
    import pybind11

    includes = [f"-I{path}" for path in (pybind11.get_include(), sysconfig.get_path("include"))]
    return compiled(source, target, "none", "-O2", "-fvisibility=hidden", "-fPIC", *includes, *more)


def module_file(objects: Sequence[Path], folder: Path) -> Path:
    target = folder / f"_cuda_emulated{sysconfig.get_config_var('EXT_SUFFIX')}"
    return run_compiler([*flags("none"), "-shared", *map(str, objects)], target)


def load(file: Path) -> ModuleType:
    """``_cuda_emulated``, imported."""
    spec = importlib.util.spec_from_file_location("_cuda_emulated", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["_cuda_emulated"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def module(folder: Path) -> ModuleType:
    """``_cuda_emulated``, compiled into the folder and imported."""
    names = (*KERNELS, *BINDINGS)
    objects = [module_object(SOURCES / "cuda" / name, folder / f"{name}.o") for name in names]
    return load(module_file(objects, folder))
