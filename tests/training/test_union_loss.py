"""The loss over the union batch in one process: the fused loss with weights (over several: test_distributed.py)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pyhbt.ops import reference
from pyhbt.training.union_loss import union_loss


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 7), (8, 9)])
def test_one_process_has_the_whole_batch(n: int, m: int, symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(n)
    queries, passages = (
        F.normalize(torch.randn(rows, 5, generator=generator, dtype=torch.float64), dim=1).requires_grad_()
        for rows in (n, m)
    )
    options = {
        "weights": torch.rand(n, generator=generator, dtype=torch.float64),
        "temperature": 0.2,
        "similarity": "cosine",
        "symmetric": symmetric,
        "query_groups": torch.arange(n) // 2,
        "passage_groups": torch.cat([torch.arange(n) // 2, torch.full((m - n,), -1)]),
    }
    positives = torch.arange(n).flip(0)
    found = union_loss(queries, passages, positives, margin=None, **options)
    expected = reference.contrastive_loss(queries, passages, positives, reduction="sum", **options)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, (queries, passages)) for value in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_a_margin_over_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyhbt.training.union_loss.world_size", lambda: 2)
    rows = torch.eye(3)
    with pytest.raises(
        ValueError, match="margin: found 0.1, expected None where symmetric scores are over several"
    ):
        union_loss(
            rows,
            rows,
            torch.arange(3),
            weights=torch.ones(3),
            temperature=1.0,
            similarity="dot",
            symmetric=True,
            margin=0.1,
        )
