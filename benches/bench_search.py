"""Exact top-k search against torch matmul and topk (float32 scores, ties in any order)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

from pyhbt.ops import search

if TYPE_CHECKING:
    from conftest import Measure

SHAPES = ((1, 100_000, 384), (1000, 13_000, 384), (200, 50_000, 384))
KS = (10, 100, 1000)
Search = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


def eager(queries: torch.Tensor, corpus: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    scores, indices = (queries @ corpus.T).topk(k)
    return scores, indices


BACKENDS: dict[str, Search] = {"torch": eager, "pyhbt": search}


@pytest.mark.parametrize("backend", ["torch", "pyhbt"])
@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize(("nq", "n", "dim"), SHAPES)
def test_search(measure: Measure, nq: int, n: int, dim: int, k: int, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(nq, dim, generator=generator))
    corpus = F.normalize(torch.randn(n, dim, generator=generator))
    found = BACKENDS[backend]
    truth = (queries[:20].double() @ corpus.double().T).topk(k).values
    torch.testing.assert_close(found(queries, corpus, k)[0][:20].double(), truth, rtol=0, atol=1e-6)
    flops = 2.0 * nq * n * dim
    measure(
        lambda: found(queries, corpus, k), op="search", backend=backend, n=nq, m=n, dim=dim, k=k, flops=flops
    )
