"""Ranks in a corpus and in groups of its passages, from one pass."""

from __future__ import annotations

import torch

from pyhbt.ops.exact import codes_for, native_ranks
from pyhbt.ops.search_checks import check_embeddings, check_targets


def grouped_ranks(
    queries: torch.Tensor, corpus: torch.Tensor, targets: torch.Tensor, group_ends: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The 1-based ranks of each query's targets in the corpus, and in the target's own group.

    Equal to :func:`pyhbt.ops.ranks` on the corpus and on each group alone, by dot product. 2 nq n dim operations, and
    up to O(nq n t) comparisons.

    Args:
        queries: (nq, dim) float32, float16 or bfloat16, finite, on the CPU.
        corpus: (n, dim) likewise, the passages of a group side by side.
        targets: (nq, t) int64, passages of the corpus; -1: absent.
        group_ends: (groups,) int64, one past the last passage of each group, rising to n.

    Returns:
        Two int64 (nq, t); 0 where the target is -1.

    Raises:
        ValueError: a shape, target or a non-finite value (named with its row); ends that do not rise to n.
        TypeError: another dtype.
    """
    check_embeddings(queries, corpus)
    check_targets(targets, queries)
    queries, corpus, group_ends = queries.detach(), corpus.detach(), group_ends.contiguous()
    within = torch.zeros(targets.shape, dtype=torch.int64)
    with codes_for(queries, corpus, cosine=False) as codes:
        found = native_ranks(queries, corpus, codes, targets, cosine=False, groups=(group_ends, within))
    return found, within
