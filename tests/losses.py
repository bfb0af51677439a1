"""Batches for the contrastive loss, and the comparison with float64.

Budgets. Ordinary inputs: 3e-7 relative norm for gradients, whatever the size, and, for losses, 4 float32 units of
the largest score, since a float32 score carries that much rounding. Peaked inputs (loss near 1e-8): 5e-5, since a
rounding error e of a score changes exp(score) by the factor 1 + e and scores reach 1 / temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pyhbt.ops import contrastive_loss, reference

SIZES = (1, 2, 7, 8, 9, 31, 33, 127, 129)
RECTANGLES = ((1, 33), (7, 9), (31, 129), (129, 31), (8, 300), (300, 517), (530, 270))
REDUCTIONS = ("mean", "sum", "none")
ORDINARY, PEAKED = 3e-7, 5e-5
ON_A_GPU = 1e-6
"""Of gradients, whose sums the GPU's libraries cut as they like, and the emulator sums in one row."""
UNIT = 2.0**-23


def make(n: int, m: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(n, dim, generator=generator) / dim**0.5
    return queries, torch.randn(m, dim, generator=generator) / dim**0.5, generator


def with_gradients(
    loss: Callable[..., Any], queries: torch.Tensor, passages: torch.Tensor, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss, and gradients of its sum weighted by 1, 2, 3, ... so that rows are told apart."""
    queries, passages = queries.clone().requires_grad_(), passages.clone().requires_grad_()
    value = loss(queries, passages, *args, **kwargs)
    (value * torch.arange(1, value.numel() + 1).reshape(value.shape)).sum().backward()
    assert queries.grad is not None
    assert passages.grad is not None
    return value.detach(), queries.grad, passages.grad


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm().clamp(min=1e-300))


def check(
    queries: torch.Tensor, passages: torch.Tensor, *args: Any, ordinary: float = ORDINARY, **kwargs: Any
) -> None:
    found = with_gradients(contrastive_loss, queries, passages, *args, **kwargs)
    truth = with_gradients(reference.contrastive_loss, queries.double(), passages.double(), *args, **kwargs)
    temperature, cosine = kwargs["temperature"], kwargs.get("similarity") == "cosine"
    largest = 1.0 if cosine else float((queries.double() @ passages.double().T).abs().max())
    rows = queries.shape[0] if kwargs["reduction"] == "sum" else 1
    assert float((found[0].double() - truth[0]).abs().max()) <= 4 * UNIT * rows * max(
        largest / temperature, 1.0
    )
    # A gradient is a sum of embeddings with coefficients up to weight / temperature, which may cancel. For cosine it
    # loses its part along the row, which may be all of it (dim 1), and is divided by the row's norm: eight float32
    # roundings, half a unit each, of a vector as long as all coefficients of the batch together.
    n = queries.shape[0]
    largest_weight = {"mean": 1, "sum": 1, "none": n}[kwargs["reduction"]]
    all_weights = {"mean": 1, "sum": n, "none": n * (n + 1) / 2}[kwargs["reduction"]]
    for gradient, expected, row, summands in zip(
        found[1:], truth[1:], (queries, passages), (passages, queries), strict=True
    ):
        if cosine:
            term = 4 * all_weights / float(row.norm(dim=1).clamp(min=1e-12).min())
        else:
            term = largest_weight * float(summands.norm(dim=1).max())
        budget = ordinary * float(expected.norm()) + UNIT * term / temperature
        assert float((gradient.double() - expected).norm()) <= budget
