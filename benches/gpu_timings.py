"""Timings of the operations on a GPU beside their peers, as rows; for benches/gpu.py."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy, normalize

from pyhbt.ops import contrastive_loss, panels
from pyhbt.retrieval.index import ExactIndex

TEMPERATURE = 0.05
LOSSES = [(n, 768, dtype) for dtype in (torch.bfloat16, torch.float32) for n in (1024, 4096, 16384, 65536)]
SEARCHES = [(1000, 1_000_000, 768, 100), (1000, 1_000_000, 768, 1000), (10_000, 1_000_000, 768, 100)]
QUICK_LOSSES = [(256, 32, torch.float32), (256, 32, torch.bfloat16)]
QUICK_SEARCHES = [(20, 5000, 32, 10)]


@dataclass(frozen=True)
class Row:
    """One backend on one case; milliseconds are medians."""

    op: str
    backend: str
    n: int
    m: int
    dim: int
    k: int
    dtype: str
    ms: float | None
    ratio: float | None
    """Its time over ours."""
    peak_mib: float | None
    """Above what lay there before."""
    tflops: float | None
    device: str
    torch: str
    note: str = ""


Case = tuple[str, int, int, int, int, str]
"""op, n, m, dim, k, dtype"""


class Device:
    """The GPU; or the CPU, on which only this script itself can be tried."""

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)
        self.cuda = self.device.type == "cuda"
        self.name = torch.cuda.get_device_name() if self.cuda else "cpu"

    def milliseconds(self, call: Callable[[], Any]) -> tuple[float, float | None]:
        """Median of at least 5 calls and some 2 s, and peak memory in MiB."""
        call()
        self.wait()
        before = 0
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        times, start = [], time.perf_counter()
        while len(times) < 5 or (time.perf_counter() - start < 2 and len(times) < 50):
            begin = time.perf_counter()
            call()
            self.wait()
            times.append((time.perf_counter() - begin) * 1e3)
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if self.cuda else None
        return statistics.median(times), peak

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Search = Callable[[torch.Tensor], Any]


def eager_loss(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    scores = (queries @ passages.T).float() / TEMPERATURE
    return cross_entropy(scores, torch.arange(len(queries), device=queries.device))


def panels_loss(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    """Loss and gradients at once, as torch code."""
    n = len(queries)
    own = torch.arange(n, device=queries.device)
    weights = torch.full((n,), 1 / n, device=queries.device)
    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64)
    found = panels.contrastive_loss(
        queries.detach(),
        passages.detach(),
        own,
        weights,
        temperature,
        *(torch.inf, False, False, None, None, True, True),
    )
    return found[1]


def inf_cl() -> Loss:
    from inf_cl.flash import cal_flash_loss

    def loss(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        own = torch.arange(len(queries), device=queries.device)
        result: torch.Tensor = cal_flash_loss(queries, passages, own, 1 / TEMPERATURE).mean()
        return result

    return loss


def cut_cross_entropy() -> Loss:
    """Without its filter, which leaves out small gradients."""
    from cut_cross_entropy import linear_cross_entropy

    def loss(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        own = torch.arange(len(queries), device=queries.device)
        result: torch.Tensor = linear_cross_entropy(queries / TEMPERATURE, passages, own, filter_eps=None)
        return result

    return loss


def siglip_kernel() -> Loss:
    """Another loss, a sigmoid for each score, over the same products."""
    from siglip_kernel import fused_siglip_loss

    def loss(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        scale = torch.tensor(1 / TEMPERATURE, device=queries.device).log().requires_grad_()
        bias = torch.tensor(-10.0, device=queries.device, requires_grad=True)
        result: torch.Tensor = fused_siglip_loss(queries, passages, scale, bias)
        return result

    return loss


def loss_backends(device: Device) -> dict[str, Callable[[], Loss]]:
    """By name, how to make each, ours first; what is not installed is left out."""
    found: dict[str, Callable[[], Loss]] = {
        "pyhbt": lambda: our_loss,
        "pyhbt-frozen": lambda: our_loss_of_frozen_passages,
        "torch": lambda: eager_loss,
        "torch-panels": lambda: panels_loss,
    }
    if device.cuda:
        found["torch-compile"] = lambda: torch.compile(eager_loss)
        packages = {"inf_cl": inf_cl, "cut_cross_entropy": cut_cross_entropy, "siglip_kernel": siglip_kernel}
        found |= {package: make for package, make in packages.items() if installed(package)}
    return found


def with_gradients(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], queries: torch.Tensor, passages: torch.Tensor
) -> torch.Tensor:
    queries.grad = passages.grad = None
    value = loss(queries, passages)
    if value.requires_grad:
        value.backward()
    return value.detach()


def our_loss(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    return contrastive_loss(queries, passages, temperature=TEMPERATURE)


def our_loss_of_frozen_passages(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    return contrastive_loss(queries, passages.detach(), temperature=TEMPERATURE)


def ready_loss(make: Callable[[], Loss], queries: torch.Tensor, passages: torch.Tensor) -> Callable[[], Any]:
    return partial(with_gradients, make(), queries, passages)


def time_losses(device: Device, cases: list[tuple[int, int, torch.dtype]]) -> Iterator[Row]:
    for n, dim, dtype in cases:
        queries, passages = (unit(n, dim, device, seed).to(dtype).requires_grad_() for seed in (0, 1))
        calls = {
            name: partial(ready_loss, make, queries, passages) for name, make in loss_backends(device).items()
        }
        case = ("contrastive", n, n, dim, 0, str(dtype).removeprefix("torch."))
        yield from time_backends(device, case, calls, 6.0 * n * n * dim)


def matmul_topk(corpus: torch.Tensor, k: int, queries: torch.Tensor) -> Any:
    best: tuple[torch.Tensor, torch.Tensor] | None = None
    for start in range(0, len(corpus), 65536):
        chunk = corpus[start : start + 65536]
        scores, indices = (queries @ chunk.T).topk(min(k, len(chunk)))
        indices += start
        if best is not None:
            scores, indices = torch.cat([best[0], scores], 1), torch.cat([best[1], indices], 1)
            scores, places = scores.topk(k)
            indices = indices.gather(1, places)
        best = scores, indices
    return best


def faiss_gpu(corpus: torch.Tensor, k: int) -> Search:
    import faiss

    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), corpus.shape[1])
    index.add(corpus.cpu().numpy())
    return lambda queries: index.search(queries.cpu().numpy(), k)


def cuvs(corpus: torch.Tensor, k: int) -> Search:
    from cuvs.neighbors import brute_force

    built = brute_force.build(corpus, metric="inner_product")
    return lambda queries: brute_force.search(built, queries, k)


def our_index(corpus: torch.Tensor, k: int) -> Search:
    index = ExactIndex(corpus)
    return lambda queries: index.search(queries, k)


def chunked(corpus: torch.Tensor, k: int) -> Search:
    return partial(matmul_topk, corpus, k)


def search_backends(device: Device) -> dict[str, Callable[[torch.Tensor, int], Search]]:
    """As :func:`loss_backends`."""
    found = {"pyhbt": our_index, "torch-matmul-topk": chunked}
    packages = {"faiss": faiss_gpu, "cuvs": cuvs} if device.cuda else {}
    return found | {package: make for package, make in packages.items() if installed(package)}


def ready_search(
    make: Callable[[torch.Tensor, int], Search], corpus: torch.Tensor, k: int, queries: torch.Tensor
) -> Callable[[], Any]:
    return partial(make(corpus, k), queries)


def time_searches(device: Device, cases: list[tuple[int, int, int, int]]) -> Iterator[Row]:
    for nq, n, dim, k in cases:
        queries, corpus = unit(nq, dim, device, 0), unit(n, dim, device, 1)
        calls = {
            name: partial(ready_search, make, corpus, k, queries)
            for name, make in search_backends(device).items()
        }
        case = ("search", nq, n, dim, k, "float32")
        yield from time_backends(device, case, calls, 2.0 * nq * n * dim)


def time_backends(
    device: Device, case: Case, calls: dict[str, Callable[[], Callable[[], Any]]], flops: float
) -> Iterator[Row]:
    """Each call is made before it is timed. One that cannot be made or run has its error as a note."""
    own_ms = None
    op, *rest = case
    for name, make in calls.items():
        try:
            ms, peak = device.milliseconds(make())
        except Exception as error:  # out of memory, or a peer that has changed
            yield Row(
                op, name, *rest, None, None, None, None, device.name, torch.__version__, _first_line(error)
            )
            continue
        own_ms = own_ms or ms
        tflops = flops / ms * 1e-9
        yield Row(op, name, *rest, ms, ms / own_ms, peak, tflops, device.name, torch.__version__)


def unit(rows: int, dim: int, device: Device, seed: int) -> torch.Tensor:
    """Random directions (rows, dim) float32."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, dim, generator=generator)).to(device.device)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]


def time_all(device: Device, quick: bool) -> Iterator[Row]:
    yield from time_losses(device, QUICK_LOSSES if quick else LOSSES)
    yield from time_searches(device, QUICK_SEARCHES if quick else SEARCHES)
