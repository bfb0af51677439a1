"""Compiles the kernels with nvcc for several architectures and fails on what makes them slow without showing.

usage: python -m tests.cuda_emulation.check_sass [ARCHITECTURE ...]    (default: 80 90 120)

Spilled registers and stack frames are read from ptxas; loads and stores of local memory from the machine code, where
cuobjdump is on PATH or in $CUOBJDUMP. No kernel multiplies matrices on tensor cores: torch does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .build import SOURCES

ARCHITECTURES = ("80", "90", "120")
KERNELS = {"contrastive.cu": 6, "loss_rows.cu": 10, "search.cu": 10}
_ENTRY = re.compile(r"Compiling entry function '(\S+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


class Kernel(NamedTuple):
    name: str
    registers: int
    stack: int
    spilled: int


def nvcc() -> str | None:
    """The CUDA compiler, if there is one."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if name in os.environ and (Path(os.environ[name]) / "bin" / "nvcc").is_file():
            return str(Path(os.environ[name]) / "bin" / "nvcc")
    usual = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(usual) if usual.is_file() else None)


def cuobjdump() -> str | None:
    return os.environ.get("CUOBJDUMP") or shutil.which("cuobjdump")


def assemble(source: Path, architecture: str, target: Path) -> list[Kernel]:
    """Assemble a source and read what the compiler says of each kernel.

    Raises:
        RuntimeError: with what the compiler says.
    """
    command = [nvcc() or "nvcc", "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v", "-cubin"]
    done = subprocess.run(
        [*command, str(source), "-o", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{source.name} for sm_{architecture}:\n{done.stderr}")
    kernels, parts = [], re.split(_ENTRY, done.stdout + done.stderr)
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        registers, stack = re.search(_REGISTERS, text), re.search(_STACK, text)
        if registers is None or stack is None:
            raise RuntimeError(f"{name}: ptxas said neither registers nor stack:\n{text}")
        kernels.append(Kernel(name, int(registers[1]), int(stack[1]), int(stack[2]) + int(stack[3])))
    return kernels


def local_accesses(cubin: Path) -> int | None:
    """Loads and stores of local memory in the machine code; None without cuobjdump."""
    program = cuobjdump()
    if program is None:
        return None
    done = subprocess.run([program, "-sass", str(cubin)], capture_output=True, text=True, check=True)
    return len(re.findall(r"\b(?:LDL|STL)\b", done.stdout))


def faults(architecture: str, folder: Path) -> list[str]:
    """What is wrong with the kernels on one architecture; prints a line for each."""
    found = []
    for name, expected in KERNELS.items():
        cubin = folder / f"{name}.{architecture}.cubin"
        kernels = assemble(SOURCES / "cuda" / name, architecture, cubin)
        if len(kernels) != expected:
            found.append(f"{name}: {len(kernels)} kernels, expected {expected}")
        for kernel in kernels:
            print(f"sm_{architecture} {kernel.registers:4} registers {kernel.stack:4} stack {kernel.name}")
            if kernel.stack or kernel.spilled:
                found.append(
                    f"sm_{architecture} {kernel.name}: {kernel.stack} stack, {kernel.spilled} spilled"
                )
        accesses = local_accesses(cubin)
        if accesses:
            found.append(f"sm_{architecture} {name}: {accesses} accesses of local memory")
    return found


def main(architectures: Sequence[str]) -> int:
    if nvcc() is None:
        print("no nvcc was found (PATH, CUDA_HOME, CUDA_PATH)")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        found = [fault for name in architectures for fault in faults(name, Path(folder))]
    print("\n".join(found) or "nothing spills, and no memory is local")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ARCHITECTURES))
