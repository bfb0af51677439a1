"""``pyhbt doctor``: its rows, and which OpenMP runtimes a process has loaded."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from pyhbt import __version__
from pyhbt.cli.doctor import diagnose, openmp_runtimes

doctor = importlib.import_module("pyhbt.cli.doctor")  # its room has a command of that name


def test_doctor(pyhbt: Any) -> None:
    code, out, _ = pyhbt("doctor")
    assert code == 0
    for subject in ("pyhbt", "torch", "SIMD", "OpenMP", "threads", "CUDA"):
        assert f"\n{subject} " in f"\n{out}"


def rows_of(
    monkeypatch: pytest.MonkeyPatch, status: dict[str, Any] | None = None, **info: Any
) -> dict[str, str]:
    """What is said of a build with ``info`` changed and a CUDA module in ``status``."""
    built = doctor.build_info() | info
    found = {"devices": 0, "driver": 0, "runtime": 0, "reason": "not built"} | (status or {})
    monkeypatch.setattr(doctor, "build_info", lambda: built)
    monkeypatch.setattr(doctor, "cuda_status", lambda: found)
    return dict(diagnose())


def test_versions_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(monkeypatch, version="9.8", compiler="GNU 1")
    assert rows["pyhbt"] == f"{__version__}, native module 9.8 (GNU 1)"
    assert rows["python"].startswith(f"{platform.python_version()}, ")
    for name in ("torch", "numpy", "babel"):
        assert rows[name] == importlib.metadata.version(name)
    assert rows["threads"] == f"{torch.get_num_threads()} (torch.get_num_threads), {os.cpu_count()} CPUs"


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("torch", "no-such-package-anywhere"))
    assert rows_of(monkeypatch)["no-such-package-anywhere"] == "not installed"


def test_the_simd_level_and_who_chose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYHBT_SIMD", raising=False)
    levels = {"simd_in_use": "avx2", "simd_compiled": ["portable", "avx2"]}
    assert rows_of(monkeypatch, **levels)["SIMD"] == "avx2 in use; built: portable, avx2"
    monkeypatch.setenv("PYHBT_SIMD", "avx2")
    assert rows_of(monkeypatch, **levels)["SIMD"] == "avx2 in use (PYHBT_SIMD); built: portable, avx2"


def test_more_than_one_openmp_runtime_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for runtimes, said in (
        ([], "version 5; runtimes loaded: unknown"),
        (["/a/libgomp.so.1"], "version 5; runtimes loaded: /a/libgomp.so.1"),
        (["/a/libgomp.so.1", "/b/libomp.so"], "version 5; runtimes loaded: /a/libgomp.so.1, /b/libomp.so"),
    ):
        monkeypatch.setattr(doctor, "openmp_runtimes", lambda runtimes=runtimes: runtimes)
        rows = rows_of(monkeypatch, openmp=True, openmp_version=5)
        assert rows["OpenMP"] == said
        assert ("more than one OpenMP runtime" in rows.get("", "")) == (len(runtimes) == 2)
    assert rows_of(monkeypatch, openmp=False)["OpenMP"].startswith("off; runtimes loaded: ")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, "PyHBT: as built"),
        ({"runtime": 12040, "reason": "no driver"}, "PyHBT: as built; no driver"),
        ({"runtime": 12040, "driver": 12040, "devices": 2, "reason": ""}, "PyHBT: as built; devices: 2"),
    ],
)
def test_the_cuda_module(monkeypatch: pytest.MonkeyPatch, status: dict[str, Any], said: str) -> None:
    assert rows_of(monkeypatch, status, cuda="as built")["CUDA"].split("; torch: ")[0] == said


@pytest.mark.parametrize(
    ("version", "device", "said"),
    [
        (None, None, "CPU build"),
        ("12.4", None, "built for CUDA 12.4, no device"),
        ("12.4", "H100", "12.4, H100"),
    ],
)
def test_the_cuda_of_torch(
    monkeypatch: pytest.MonkeyPatch, version: str | None, device: str | None, said: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device is not None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: device)
    assert rows_of(monkeypatch)["CUDA"].endswith(f"; torch: {said}")


MAPS = """\
55d0c0a00000-55d0c0a01000 r--p 00000000 08:01 131 /usr/bin/python3.11
7f1000000000-7f1000001000 r--p 00000000 08:01 132 /opt/torch/lib/libgomp-a34b3233.so.1
7f1000001000-7f1000002000 r-xp 00001000 08:01 132 /opt/torch/lib/libgomp-a34b3233.so.1
7f1000003000-7f1000004000 r-xp 00000000 08:01 133 /opt/intel/libiomp5.so
7f1000005000-7f1000006000 r-xp 00000000 08:01 134 /home/my user/llvm 2/libomp.so.5
7f1000007000-7f1000008000 r-xp 00000000 08:01 135 /usr/lib/libgomp/readme.txt
7f1000009000-7f100000a000 r-xp 00000000 08:01 136 /usr/lib/libm.so.6
7f100000b000-7f100000c000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0 [stack]
"""


def test_openmp_runtimes_of_a_map(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "maps"
    monkeypatch.setattr(doctor, "Path", lambda name: file if name == "/proc/self/maps" else Path(name))
    assert openmp_runtimes() == []  # a system without /proc
    file.write_text(MAPS)
    assert openmp_runtimes() == [
        "/home/my user/llvm 2/libomp.so.5",
        "/opt/intel/libiomp5.so",
        "/opt/torch/lib/libgomp-a34b3233.so.1",
    ]


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="no /proc here")
def test_openmp_runtimes_of_this_process() -> None:
    found = openmp_runtimes()
    assert found == sorted(set(found))
    assert all(Path(path).is_file() for path in found)
    if doctor.build_info()["openmp"]:
        assert found
