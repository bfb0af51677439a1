"""Contrastive loss with gradients against torch eager, and against eager code for the symmetric loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

from pyhbt.ops import contrastive_loss

if TYPE_CHECKING:
    from conftest import Measure

TEMPERATURE = 0.05
SHAPES = ((256, 384), (256, 768), (1024, 384), (1024, 768), (4096, 384))
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def eager(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(queries @ passages.T / TEMPERATURE, torch.arange(len(queries)))


def eager_symmetric(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    scores, labels = queries @ passages.T / TEMPERATURE, torch.arange(len(queries))
    return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2


def native(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    return contrastive_loss(queries, passages, temperature=TEMPERATURE)


def native_symmetric(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    return contrastive_loss(queries, passages, temperature=TEMPERATURE, symmetric=True)


BACKENDS: dict[tuple[str, str], Loss] = {
    ("contrastive", "torch"): eager,
    ("contrastive", "pyhbt"): native,
    ("contrastive_symmetric", "torch"): eager_symmetric,
    ("contrastive_symmetric", "pyhbt"): native_symmetric,
}


def step(loss: Loss, queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    queries.grad = passages.grad = None
    value = loss(queries, passages)
    value.backward()  # type: ignore[no-untyped-call]
    return value.detach()


@pytest.mark.parametrize("backend", ["torch", "pyhbt"])
@pytest.mark.parametrize("op", ["contrastive", "contrastive_symmetric"])
@pytest.mark.parametrize(("n", "dim"), SHAPES)
def test_contrastive(measure: Measure, n: int, dim: int, op: str, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, passages = (
        F.normalize(torch.randn(n, dim, generator=generator)).requires_grad_() for _ in range(2)
    )
    loss = BACKENDS[op, backend]
    expected = step(BACKENDS[op, "torch"], queries, passages)
    assert queries.grad is not None
    expected_gradient = queries.grad
    assert float(step(loss, queries, passages)) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(queries.grad, expected_gradient, rtol=1e-3, atol=1e-6)
    flops = 6.0 * n * n * dim
    measure(
        lambda: step(loss, queries, passages), op=op, backend=backend, n=n, m=n, dim=dim, k=0, flops=flops
    )
