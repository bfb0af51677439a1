"""Peak memory of one loss and its gradients above the inputs, each in a process of its own (Linux).

Rows in results/contrastive_memory.csv: peak_mib is the growth of the resident set's high-water mark over one step,
gradients (which every backend returns) included; elapsed_s is that one cold step and no benchmark.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from .rows import RESULTS, commit, device, write_rows

SHAPES = [
    pytest.param(1024, 768),
    *(pytest.param(n, 768, marks=pytest.mark.slow) for n in (4096, 8192, 16384)),
]
_SCRIPT = """
import ctypes, sys, time
from pathlib import Path
import torch
sys.path.append(sys.argv[1])
from benches import bench_contrastive as bench
from pyhbt.ops import contrastive_loss

def status(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])

backend, n, dim = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
losses = {
    "pyhbt": lambda q, p: contrastive_loss(q, p, temperature=bench.TEMPERATURE),
    "pyhbt-symmetric": lambda q, p: contrastive_loss(q, p, temperature=bench.TEMPERATURE, symmetric=True),
    "torch": bench.cross_entropy,
    "torch-symmetric": bench.symmetric_cross_entropy,
}
def make(n):
    queries, passages = bench.inputs(n, dim)
    if backend == "torch-panels":
        return bench.panel_step(queries, passages, cosine=False, symmetric=False)
    if backend.startswith("st-cached-mnrl-"):
        return bench.CachedLoss(queries, passages, int(backend.rsplit("-", 1)[1]))
    return bench.step(losses[backend], queries, passages)
make(64)()  # loads libraries and starts threads
call = make(n)
ctypes.CDLL(None).malloc_trim(0)
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
before = status("VmRSS:")
start = time.perf_counter()
call()
print((status("VmHWM:") - before) / 1024, time.perf_counter() - start)
"""


@dataclass(frozen=True)
class MemoryRow:
    """One process."""

    op: str
    backend: str
    n: int
    m: int
    dim: int
    peak_mib: float
    elapsed_s: float
    device: str
    commit: str


_rows: list[MemoryRow] = []


def measure(backend: str, n: int, dim: int) -> float:
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT]
    arguments = [str(Path(__file__).parents[1]), backend, str(n), str(dim)]
    done = subprocess.run([*command, *arguments], cwd=sys.prefix, capture_output=True, text=True, check=True)
    peak_mib, elapsed_s = (float(value) for value in done.stdout.split())
    _rows.append(
        MemoryRow(
            *("contrastive", backend, n, n, dim),
            *(round(peak_mib, 1), round(elapsed_s, 2), device(), commit()),
        )
    )
    return peak_mib


@pytest.fixture(scope="module", autouse=True)
def _keep_rows() -> object:
    yield
    if len({row.n for row in _rows}) > 1:  # not from a run of the smallest size alone
        columns = [field.name for field in fields(MemoryRow)]
        write_rows(RESULTS / "contrastive_memory.csv", _rows, columns)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc/self/clear_refs")
@pytest.mark.parametrize(("n", "dim"), SHAPES)
def test_memory(n: int, dim: int) -> None:
    backends = ["torch", "torch-symmetric", "torch-panels", "pyhbt-symmetric"]
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        pass
    else:
        backends.append("st-cached-mnrl-256")
    own = measure("pyhbt", n, dim)
    gradients = 2 * n * dim * 4 / 2**20
    assert own >= gradients
    for backend in backends:
        assert measure(backend, n, dim) > 0.9 * gradients


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc/self/clear_refs")
def test_a_batch_beyond_eager_torch() -> None:
    """65,536 queries: eager torch would need 2^32 scores, 16 GiB, several times over."""
    assert measure("pyhbt", 65536, 768) < 1024
