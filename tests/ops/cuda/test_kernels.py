"""The CUDA module as nvcc makes it: registers, spills, what it links to, what it says without a usable driver."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pyhbt.ops.cuda import kernels as door
from tests.cuda_emulation import build, check_sass
from tests.interpreter import run_python

TESTS = Path(__file__).parents[2]
STATUS = "import json; from pyhbt.ops.cuda import kernels; print(json.dumps(kernels.status()))"


@pytest.fixture
def module() -> Path:
    """The built ``_cuda``."""
    found = importlib.util.find_spec("pyhbt._cuda")
    if found is None or found.origin is None:
        pytest.skip("this installation has no CUDA module (no nvcc when it was built)")
    return Path(found.origin)


@pytest.mark.slow
@pytest.mark.skipif(check_sass.nvcc() is None, reason="no nvcc on PATH or in CUDA_HOME")
@pytest.mark.parametrize("architecture", check_sass.ARCHITECTURES)
def test_nothing_spills(architecture: str, tmp_path: Path) -> None:
    assert check_sass.faults(architecture, tmp_path) == []


def test_the_module_needs_no_library_of_torch_or_cuda(module: Path) -> None:
    if shutil.which("ldd") is None:
        pytest.skip("no ldd")
    linked = subprocess.run(["ldd", str(module)], capture_output=True, text=True, check=True).stdout
    for library in ("torch", "cudart", "cublas", "libcuda", "not found"):
        assert library not in linked


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_driver_it_says_so(module: Path) -> None:
    found = json.loads(run_python(STATUS).stdout)
    assert found["devices"] == 0
    if found["driver"] == 0:
        assert found["reason"] == "no CUDA driver"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("version", "reason"),
    [("12020", "the driver is for CUDA 12.2, expected at least"), ("99000", "cudaErrorNoDevice")],
)
def test_the_driver_is_too_old_or_has_no_device(
    version: str, reason: str, module: Path, tmp_path: Path
) -> None:
    compiler = build.compiler()
    if compiler is None:
        pytest.skip("no C++ compiler on PATH")
    source = TESTS / "cuda_emulation" / "fake_driver.c"
    library = tmp_path / "libcuda.so.1"
    command = [compiler, "-x", "c", "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True)
    done = run_python(STATUS, LD_LIBRARY_PATH=str(tmp_path), FAKE_DRIVER_VERSION=version)
    found = json.loads(done.stdout)
    assert found["devices"] == 0
    assert found["driver"] == int(version)
    assert found["reason"].startswith(reason)


def test_one_warning_where_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "status", lambda: {"devices": 0, "reason": "no CUDA driver"})
    door.kernels.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="CUDA kernels are not available, no CUDA driver"):
            assert door.kernels(torch.device("cuda:0")) is None
        assert door.kernels(torch.device("cuda:0")) is None  # and says no more: warnings are errors here
    finally:
        door.kernels.cache_clear()


def test_an_installation_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_module", lambda: (None, "not built into this installation (why)"))
    assert door.status() == {
        "devices": 0,
        "driver": 0,
        "runtime": 0,
        "reason": "not built into this installation (why)",
    }


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        ("80 86-real 89-real", (7, 5), False),
        ("80 86-real 89-real", (7, 0), False),
        ("80 86-real 89-real", (8, 0), True),
        ("80 86-real 89-real", (12, 1), True),
        ("80-real", (8, 9), True),
        ("80-real", (9, 0), False),
        ("86-real", (8, 0), False),
        ("90a-real", (9, 0), True),
        ("75-virtual", (9, 0), True),
        ("", (9, 0), False),
    ],
)
def test_machine_code_runs_on_its_generation_and_ptx_on_later_ones(
    architectures: str, capability: tuple[int, int], runs: bool
) -> None:
    assert door.runs_on(architectures, capability) == runs


def test_a_device_that_is_too_old_takes_torch_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "status", lambda: {"devices": 1, "reason": ""})
    monkeypatch.setattr(door, "build_info", lambda: {"cuda": "CUDA 13.0, sm 80 86-real"})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.warns(RuntimeWarning, match="cuda:7 has compute capability 7.5, built for 80 86-real"):
        assert door.kernels(torch.device("cuda:7")) is None


class Elsewhere:
    """Stands for a tensor on another device than the current one."""

    is_cuda = True
    device = torch.device("cuda:1")


def test_torch_makes_the_device_current_for_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes back: its guard alone knows whether the former device has a context, and makes none."""
    said: list[Any] = []

    class Guard:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def __enter__(self) -> None:
            said.append(("enter", self.device.index))

        def __exit__(self, *_: object) -> None:
            said.append("exit")

    module = SimpleNamespace(MOST_SELECTED=1, some_kernel=lambda **given: said.append(given))
    monkeypatch.setattr(torch.cuda, "device", Guard)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=77))
    elsewhere: Any = Elsewhere()
    door.Kernels(module).launch("some_kernel", elsewhere, rows=3)
    assert said == [("enter", 1), {"where": {"device": 1, "stream": 77}, "rows": 3}, "exit"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("add", [False, True])
def test_products_are_written_where_they_belong(add: bool, dtype: torch.dtype) -> None:
    left, right = (torch.randn(5, 7).to(dtype), torch.randn(7, 3).to(dtype))
    out = torch.full((5, 3), 2.0)
    door.multiply_into(out, left, right, add=add)
    expected = left.double() @ right.double() + (2.0 if add else 0.0)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("add", [False, True])
def test_halves_are_multiplied_into_float32_on_a_gpu(add: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place: torch has these overloads for CUDA tensors alone."""
    calls: list[tuple[str, Any]] = []
    monkeypatch.setattr(door, "_multiplies_wide", lambda _: True)
    monkeypatch.setattr(torch, "mm", lambda *given, **options: calls.append(("mm", options)))
    monkeypatch.setattr(
        torch, "addmm", lambda *given, **options: calls.append(("addmm", (given[0], options)))
    )
    out = torch.zeros(5, 3)
    door.multiply_into(out, torch.zeros(5, 7).half(), torch.zeros(7, 3).half(), add=add)
    options: dict[str, Any] = {"out_dtype": torch.float32, "out": out}
    assert calls[0][0] == ("addmm" if add else "mm")
    given = calls[0][1][1] if add else calls[0][1]
    assert given["out"] is options["out"]
    assert given["out_dtype"] == torch.float32
    assert not add or calls[0][1][0] is out
    for operator in (torch.ops.aten.mm, torch.ops.aten.addmm):
        assert "ScalarType out_dtype" in str(operator.dtype_out._schema)
