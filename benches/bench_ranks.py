"""Ranks of given targets against torch: all scores, then a count of those above each target's; k is targets a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

from pyhbt.ops import ranks

if TYPE_CHECKING:
    from .conftest import Compare

SHAPES = ((1000, 13_000, 384, 1), (1000, 13_000, 384, 10))


def eager(queries: torch.Tensor, corpus: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    scores = queries @ corpus.T
    thresholds = scores.gather(1, targets)
    return torch.stack([(scores > column[:, None]).sum(dim=1) + 1 for column in thresholds.T], dim=1)


@pytest.mark.parametrize(("nq", "n", "dim", "per_query"), SHAPES)
def test_ranks(compare: Compare, nq: int, n: int, dim: int, per_query: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(nq, dim, generator=generator))
    corpus = F.normalize(torch.randn(n, dim, generator=generator))
    targets = torch.randint(0, n, (nq, per_query), generator=generator)
    exact = queries[:20].double() @ corpus.double().T
    truth = (exact[:, None, :] > exact.gather(1, targets[:20])[:, :, None]).sum(dim=2) + 1
    assert torch.equal(ranks(queries, corpus, targets)[:20], truth)
    # Float32 scores may swap neighbours.
    assert int((eager(queries, corpus, targets)[:20] - truth).abs().max()) <= 3
    compare(
        lambda: ranks(queries, corpus, targets),
        {"torch": lambda: eager(queries, corpus, targets)},
        op="ranks",
        n=nq,
        m=n,
        dim=dim,
        k=per_query,
        flops=2.0 * nq * n * dim,
    )
