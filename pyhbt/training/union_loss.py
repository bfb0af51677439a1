"""The contrastive loss of this rank's queries against the passages of all ranks.

Shapes: queries (n, dim), passages (m, dim) of this rank; M passages over all ranks. Time and memory: those of
:func:`pyhbt.ops.contrastive_loss` with M passages. Source: InfoNCE, arXiv 1807.03748, eq. 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyhbt.ops import contrastive_loss
from pyhbt.training.distributed import gather_rows, world_size


def union_loss(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    *,
    weights: Tensor,
    temperature: Tensor | float,
    similarity: str,
    symmetric: bool,
    query_groups: Tensor | None = None,
    passage_groups: Tensor | None = None,
    margin: float | None = None,
) -> Tensor:
    """This rank's queries (n, dim) against the passages (m, dim) of all ranks: the sum of weights times losses.

    Every rank must call it, with its own rows. The arguments not named here are those of ``contrastive_loss``, as are
    time and memory, with m the passages of all ranks. The symmetric direction is that of this rank's positives against
    the queries of all.

    Args:
        positives: (n,) int64 positions in this rank's ``passages``.
        weights: (n,) of the queries.
        margin: as for ``contrastive_loss``; not together with ``symmetric`` on several ranks.

    Returns:
        A scalar; gradients flow to the passages of every rank.

    Raises:
        ValueError: as ``contrastive_loss`` does, and a margin with ``symmetric`` on several ranks.
    """
    several = world_size() > 1
    if several and symmetric and margin is not None:
        raise ValueError(
            f"margin: found {margin}, expected None where symmetric scores are over several ranks"
        )
    all_passages, offset = gather_rows(passages)
    all_groups = None if passage_groups is None else gather_rows(passage_groups)[0]
    loss = contrastive_loss(
        queries,
        all_passages,
        positives + offset,
        weights=weights,
        temperature=temperature,
        similarity=similarity,
        symmetric=symmetric and not several,
        query_groups=query_groups,
        passage_groups=all_groups,
        margin=margin,
        reduction="sum",
    )
    if not (several and symmetric):
        return loss
    all_queries, first = gather_rows(queries)
    back = contrastive_loss(
        passages[positives],
        all_queries,
        torch.arange(len(queries), device=queries.device) + first,
        weights=weights,
        temperature=temperature,
        similarity=similarity,
        query_groups=None if passage_groups is None else passage_groups[positives],
        passage_groups=None if query_groups is None else gather_rows(query_groups)[0],
        reduction="sum",
    )
    return (loss + back) / 2
