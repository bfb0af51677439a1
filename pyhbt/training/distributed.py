"""Rows and sums over the ranks of ``torch.distributed``; without a process group, there is one rank.

``gather_rows`` gives every rank the rows of all, and gradients flow back to the rank that owns a row. So a rank's
queries meet all N passages of a batch over R ranks at O(N dim) memory; the N x N scores exist on no rank.
Cost: N dim numbers received each way.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Ranks of the default process group, 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process among the ranks, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def total(values: Tensor) -> Tensor:
    """Sums of ``values`` over the ranks, on every rank; no gradient."""
    summed = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(summed)
    return summed


def first_ranks(values: Tensor) -> Tensor:
    """``values`` of rank 0, on every rank; no gradient."""
    shared = values.detach().clone()
    if world_size() > 1:
        dist.broadcast(shared, 0)
    return shared


def leave() -> None:
    """Take down the default process group, if there is one, at the end of a process.

    Gloo's threads must end before the interpreter does, or now and then the process aborts when all is done. They end
    with the last reference to the process group, which a trainer and its wrapped model hold: let go of these before.
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all ranks, in the order of ranks, and where this rank's begin.

    Args:
        rows: (n, ...) on each rank; n may differ (and be 0), the rest may not.

    Returns:
        (N, ...), N the sum of all n; and this rank's offset. The gradient of a row is the sum of the gradients that it
        has on all ranks.
    """
    if world_size() == 1:
        return rows, 0
    counts = _counts(len(rows), rows.device)
    offset = sum(counts[: dist.get_rank()])
    gathered: Tensor = _GatherRows.apply(rows, counts)  # type: ignore[no-untyped-call]
    return gathered, offset


def _counts(count: int, device: torch.device) -> list[int]:
    mine = torch.tensor([count], dtype=torch.int64, device=device)
    found = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(found, mine)
    return torch.cat(found).tolist()


class _GatherRows(torch.autograd.Function):
    """All ranks' rows; backwards, each rank's share of the summed gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        longest = max(counts)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        mine = dist.get_rank()
        offset = sum(ctx.counts[:mine])
        return summed[offset : offset + ctx.counts[mine]], None
