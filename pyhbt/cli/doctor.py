"""What this installation is made of: versions, SIMD level, OpenMP runtimes, CUDA; for ``pyhbt doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path

import torch

import pyhbt
from pyhbt.ops._native import build_info
from pyhbt.ops.cuda.kernels import status as cuda_status

_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy", "babel", "sentence-transformers")
_OPENMP = re.compile(r"/[^/\s]*(?:libgomp|libiomp|libomp)[^/\s]*\.so[^\s]*$")


def diagnose() -> list[tuple[str, str]]:
    """(subject, finding) rows; reads /proc/self/maps where there is one."""
    info = build_info()
    rows = [
        ("pyhbt", f"{pyhbt.__version__}, native module {info['version']} ({info['compiler']})"),
        ("python", f"{platform.python_version()}, {platform.platform()}"),
    ]
    rows += [(name, _version(name)) for name in _PACKAGES]
    built = ", ".join(info["simd_compiled"])
    forced = os.environ.get("PYHBT_SIMD")
    rows.append(("SIMD", f"{info['simd_in_use']} in use{' (PYHBT_SIMD)' if forced else ''}; built: {built}"))
    rows.append(("threads", f"{torch.get_num_threads()} (torch.get_num_threads), {os.cpu_count()} CPUs"))
    runtimes = openmp_runtimes()
    built_with = f"version {info['openmp_version']}" if info["openmp"] else "off"
    rows.append(("OpenMP", f"{built_with}; runtimes loaded: {', '.join(runtimes) or 'unknown'}"))
    if len(runtimes) > 1:
        rows.append(("", "more than one OpenMP runtime: their threads compete; import torch first"))
    rows.append(("CUDA", f"PyHBT: {_own_cuda(info['cuda'])}; torch: {_torch_cuda()}"))
    return rows


def openmp_runtimes() -> list[str]:
    """Paths of the OpenMP runtimes that this process has loaded; empty where /proc is absent."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return []
    lines = maps.read_text(encoding="utf-8").splitlines()
    mapped = (line.split(maxsplit=5) for line in lines)  # the sixth, which may hold spaces, is the file
    return sorted({parts[5] for parts in mapped if len(parts) == 6 and _OPENMP.search(parts[5])})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _own_cuda(built: str) -> str:
    """``built``: what the build says of the CUDA module."""
    found = cuda_status()
    if not found["runtime"]:  # no module
        return built
    return f"{built}; {found['reason'] or 'devices: ' + str(found['devices'])}"


def _torch_cuda() -> str:
    if torch.cuda.is_available():
        return f"{torch.version.cuda}, {torch.cuda.get_device_name()}"
    return f"built for CUDA {torch.version.cuda}, no device" if torch.version.cuda else "CPU build"
