"""Exact top-k search against torch matmul and topk (float32 scores, ties in any order)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

from pyhbt.ops import search

if TYPE_CHECKING:
    from .conftest import Compare

SHAPES = ((1, 100_000, 384), (1000, 13_000, 384), (200, 50_000, 384))
KS = (10, 100, 1000)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize(("nq", "n", "dim"), SHAPES)
def test_search(compare: Compare, nq: int, n: int, dim: int, k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(nq, dim, generator=generator))
    corpus = F.normalize(torch.randn(n, dim, generator=generator))
    truth = (queries[:20].double() @ corpus.double().T).topk(k).values
    torch.testing.assert_close(search(queries, corpus, k)[0][:20].double(), truth, rtol=0, atol=1e-6)
    compare(
        lambda: search(queries, corpus, k),
        {"torch": lambda: (queries @ corpus.T).topk(k)},
        op="search",
        n=nq,
        m=n,
        dim=dim,
        k=k,
        flops=2.0 * nq * n * dim,
    )
