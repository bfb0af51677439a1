"""What the benches share: the ``compare`` fixture, and one CSV row per backend and shape in benches/results/.

Peers run in the same process on the same inputs. Rounds are paired: before each round of ours every peer is timed
once, so that a ratio compares neighbouring moments and a slow spell of the machine hits all. A timing is of enough
calls in a row to last 30 ms, after one that is not timed (unless it takes long), so that each finds its own data in
the caches. Peers that take much longer than the fastest are timed in the first rounds only. The ceilings are
measured around each group; figures taken while they read low were taken on a busy machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch

from .probes import Ceilings, ceilings, highest
from .rows import RESULTS, Row, Scan, SearchRow, commit, device, left_out, update_rows

_BUDGET_S = 10.0
_TIMING_S = 0.03
_WARMED_S = 0.2
"""A call that takes this long fills the caches itself."""
_SLOW, _SLOW_S = 3.0, 0.1
"""A peer that takes so many times as long as the fastest, and so many seconds, is timed in three rounds."""
_VERY_SLOW, _VERY_SLOW_S = 1.25, 2.0
"""Likewise in one round."""
_OPENBLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Compare(Protocol):
    """Times ``ours`` with pytest-benchmark and each peer beside it; ``flops`` is what one call must compute.

    ``check`` looks at what each backend (pyhbt and the peers by name) returns, before anything is timed.
    """

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
        scan: Scan | None = None,
        check: Callable[[str, Any], None] | None = None,
    ) -> None: ...


_rows: list[Row] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", type=Path, default=RESULTS, help="folder that rows of figures are written to")


def pytest_sessionstart(session: pytest.Session) -> None:
    found = [name for name in _OPENBLAS if name in os.environ]
    if found and not session.config.getoption("benchmark_disable"):
        raise pytest.UsageError(
            f"{' and '.join(found)}: found set; unset, so that NumPy and FAISS run as they come"
        )


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _seconds(call: Callable[[], Any], calls: int = 1) -> float:
    """Of one call, from ``calls`` in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def _rounds(single: Mapping[str, float], calls: Mapping[str, int]) -> dict[str, int]:
    """In how many rounds each backend is timed."""
    peers = {name: seconds for name, seconds in single.items() if name != "pyhbt"}
    fastest = min(peers.values(), default=0.0)
    slow = {name: 3 for name, seconds in peers.items() if seconds > max(_SLOW_S, _SLOW * fastest)}
    slow |= {name: 1 for name, seconds in peers.items() if seconds > max(_VERY_SLOW_S, _VERY_SLOW * fastest)}
    cost = {name: seconds * (calls[name] + (seconds < _WARMED_S)) for name, seconds in single.items()}
    left = _BUDGET_S - sum(number * cost[name] for name, number in slow.items())
    full = int(np.clip(left / sum(cost[name] for name in single if name not in slow), 3, 40))
    return {name: slow.get(name, full) for name in single}


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
        scan: Scan | None = None,
        check: Callable[[str, Any], None] | None = None,
    ) -> None:
        benchmark.group = f"{op} n={n} m={m} dim={dim} k={k}" + ("" if scan is None else f" {scan.data}")
        single: dict[str, float] = {}
        for name, call in {"pyhbt": ours, **peers}.items():
            single[name], result = _timed(call)
            if check is not None:
                check(name, result)
            del result
        if benchmark.disabled:
            benchmark(ours)
            return
        calls = {name: int(np.clip(_TIMING_S / seconds, 1, 200)) for name, seconds in single.items()}
        rounds = _rounds(single, calls)
        times: dict[str, list[float]] = {name: [] for name in peers}

        def time_peers() -> None:
            for name, call in peers.items():
                if len(times[name]) == rounds[name]:
                    continue
                if single[name] < _WARMED_S:
                    call()
                times[name].append(_seconds(call, calls[name]))
            if single["pyhbt"] < _WARMED_S:
                ours()

        def repeated() -> None:
            for _ in range(calls["pyhbt"]):
                ours()

        threads = torch.get_num_threads()
        ceiling = ceilings(threads)
        benchmark.name = f"pyhbt, {calls['pyhbt']} calls"
        benchmark.pedantic(repeated, setup=time_peers, rounds=rounds["pyhbt"])
        ceiling = highest(ceiling, ceilings(threads))
        own = np.array(benchmark.stats.stats.data) / calls["pyhbt"]
        for backend, seconds in {"pyhbt": own, **times}.items():
            measured = np.asarray(seconds)[: len(own)]
            p20, p50, p80 = (float(p) for p in np.percentile(measured, [20, 50, 80]))
            ratio = float(np.median(measured / own[: len(measured)]))
            benchmark.extra_info[backend] = f"{p50 * 1e3:.3g} ms, x{ratio:.2f}"
            row = Row(
                *(op, backend, n, m, dim, k, "float32", threads, len(measured)),
                *(round(p * 1e3, 4) for p in (p20, p50, p80)),
                round(ratio, 3),
                round(flops / p50 * 1e-9, 1),
                round(ceiling.gflops, 1),
                device(),
                commit(),
            )
            _rows.append(row if scan is None else _search_row(row, scan, ceiling))

    return run


def _search_row(row: Row, scan: Scan, ceiling: Ceilings) -> SearchRow:
    read = scan.read.get(row.backend, 4 * row.m * row.dim)
    return SearchRow(
        **asdict(row),
        data=scan.data,
        index_mib=round(scan.kept.get(row.backend, 0) / 2**20, 1),
        read_mib=round(read / 2**20, 1),
        gb_per_s=round(read / row.p50_ms * 1e-6, 2),
        ceiling_gb_per_s=round(ceiling.gb_per_s, 1),
        ceiling_int8_gops=round(ceiling.int8_gops, 1),
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    folder: Path = session.config.getoption("rows")
    for op in sorted({row.op for row in _rows}):
        update_rows(folder / f"{op}.csv", [row for row in _rows if row.op == op])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for row in _rows:
        ceiling = row.ceiling_gflops
        if isinstance(row, SearchRow) and row.backend.startswith("pyhbt"):
            ceiling = row.ceiling_int8_gops
        line = (
            f"{row.op:22} n={row.n:<6} m={row.m:<7} dim={row.dim:<5} k={row.k:<5} {row.backend:22} "
            f"{row.p50_ms:10.2f} ms  x{row.ratio:5.2f}  {row.gflops:6.1f} GFLOP/s, "
            f"{row.gflops / ceiling:4.0%} of {ceiling:.0f}"
        )
        if isinstance(row, SearchRow):
            line += f"  {row.gb_per_s:5.1f} GB/s of {row.ceiling_gb_per_s:.1f}  {row.data}"
        terminalreporter.write_line(line)
    for what in left_out:
        terminalreporter.write_line(f"left out: {what}")
