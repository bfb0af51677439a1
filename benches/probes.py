"""What the machine can do at most, measured: multiply-adds in float32 and int8, and reading memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from pyhbt.ops._native import build_info, core

INT8_PER_FLOAT = {"avx512vnni": 4, "avxvnni": 4, "avx512": 4, "avx2": 4}
"""Multiply-adds of int8 for one of float32, at the best rate of the instructions that multiply.

All multiply four bytes in each lane at the rate of an FMA. Without VNNI a second instruction adds the products.
"""
_BYTES = 1 << 30


@dataclass(frozen=True)
class Ceilings:
    """Two operations a multiply-add."""

    gflops: float
    int8_gops: float
    gb_per_s: float


def ceilings(threads: int) -> Ceilings:
    gflops = core.fma_peak_gflops(threads)
    factor = INT8_PER_FLOAT.get(build_info()["simd_in_use"], 1)
    return Ceilings(gflops, factor * gflops, read_gb_per_s())


def highest(a: Ceilings, b: Ceilings) -> Ceilings:
    return Ceilings(*(max(getattr(x, name) for x in (a, b)) for name in Ceilings.__dataclass_fields__))


@lru_cache(maxsize=1)
def _gibibyte() -> torch.Tensor:
    return torch.ones(_BYTES // 8, dtype=torch.int64)  # written, so that its pages exist


def read_gb_per_s() -> float:
    """Of torch's threads that take the maximum of 1 GiB; the best of five."""
    numbers, best = _gibibyte(), float("inf")
    for _ in range(5):
        start = time.perf_counter()
        numbers.max()
        best = min(best, time.perf_counter() - start)
    return _BYTES / best * 1e-9
