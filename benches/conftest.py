"""What the benches share: the ``compare`` fixture, and one CSV row per backend and shape in benches/results/.

Peers run in the same process on the same inputs. Rounds are paired: before each round of ours every peer is timed
once, so that a ratio compares neighbouring moments and a slow spell of the machine hits all. A timing is of enough
calls in a row to last 30 ms, after one that is not timed, so that each finds its own data in the caches. The
multiply-add ceiling is measured around each group; figures taken while it reads low were taken on a busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
import pytest
import torch

from pyhbt.ops._native import core

from .rows import RESULTS, Row, commit, device, write_rows

_BUDGET_S = 10.0
_TIMING_S = 0.03


class Compare(Protocol):
    """Times ``ours`` with pytest-benchmark and each peer beside it; ``flops`` is what one call must compute."""

    def __call__(
        self,
        ours: Callable[[], Any],
        peers: Mapping[str, Callable[[], Any]],
        *,
        op: str,
        n: int,
        m: int,
        dim: int,
        k: int,
        flops: float,
    ) -> None: ...


_rows: list[Row] = []


def _seconds(call: Callable[[], Any], calls: int = 1) -> float:
    """Of one call, from ``calls`` in a row."""
    if calls > 1:
        call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


@pytest.fixture
def compare(benchmark: Any) -> Compare:
    def run(
        ours: Callable[[], Any],
        peers: Mapping[str, Callable[[], Any]],
        *,
        op: str,
        n: int,
        m: int,
        dim: int,
        k: int,
        flops: float,
    ) -> None:
        benchmark.group = f"{op} n={n} m={m} dim={dim} k={k}"
        single = {name: _seconds(call) for name, call in {"pyhbt": ours, **peers}.items()}
        calls = {name: int(np.clip(_TIMING_S / seconds, 1, 200)) for name, seconds in single.items()}
        round_s = sum(seconds * (calls[name] + 1) for name, seconds in single.items())
        rounds = int(np.clip(_BUDGET_S / round_s, 3, 40))
        times: dict[str, list[float]] = {name: [] for name in peers}

        def time_peers() -> None:
            for name, call in peers.items():
                times[name].append(_seconds(call, calls[name]))
            if calls["pyhbt"] > 1:
                ours()

        def repeated() -> None:
            for _ in range(calls["pyhbt"]):
                ours()

        threads = torch.get_num_threads()
        ceiling = core.fma_peak_gflops(threads)
        benchmark.name = f"pyhbt, {calls['pyhbt']} calls"
        benchmark.pedantic(repeated, setup=time_peers, rounds=rounds)
        if benchmark.stats is None:  # --benchmark-disable
            return
        ceiling = max(ceiling, core.fma_peak_gflops(threads))
        own = np.array(benchmark.stats.stats.data) / calls["pyhbt"]
        for backend, seconds in {"pyhbt": own, **times}.items():
            measured = np.asarray(seconds)[: len(own)]
            p20, p50, p80 = (float(p) for p in np.percentile(measured, [20, 50, 80]))
            ratio = float(np.median(measured / own))
            benchmark.extra_info[backend] = f"{p50 * 1e3:.3g} ms, x{ratio:.2f}"
            _rows.append(
                Row(
                    *(op, backend, n, m, dim, k, "float32", threads, len(own)),
                    *(round(p * 1e3, 4) for p in (p20, p50, p80)),
                    round(ratio, 3),
                    round(flops / p50 * 1e-9, 1),
                    round(ceiling, 1),
                    device(),
                    commit(),
                )
            )

    return run


def pytest_sessionfinish() -> None:
    columns = [field.name for field in fields(Row)]
    for op in sorted({row.op for row in _rows}):
        write_rows(RESULTS / f"{op}.csv", [row for row in _rows if row.op == op], columns)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for row in _rows:
        terminalreporter.write_line(
            f"{row.op:22} n={row.n:<6} m={row.m:<7} dim={row.dim:<5} k={row.k:<5} {row.backend:22} "
            f"{row.p50_ms:10.2f} ms  x{row.ratio:5.2f}  {row.gflops:6.1f} GFLOP/s, "
            f"{row.gflops / row.ceiling_gflops:4.0%} of {row.ceiling_gflops:.0f}"
        )
