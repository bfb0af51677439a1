"""Terms that let a student follow a teacher's scores of a query's candidates.

Shapes: s scored candidates of n queries, sparse: ``queries`` int64 (s,) says which query, those of one query in a row;
scores of student and teacher are (s,). Cost: O(s), for KL O(n c) with c the most candidates of a query.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Distillation: TypeAlias = Literal["margin-mse", "kl"]


def margin_mse(
    student: Tensor, teacher: Tensor, queries: Tensor, positive: Tensor, num_queries: int
) -> tuple[Tensor, Tensor]:
    """Squared differences of margins: the score of a query's positive less that of another candidate.

    Source: arXiv 2010.02666, section 3: MSE(M_s(Q, P+) - M_s(Q, P-), M_t(Q, P+) - M_t(Q, P-)).

    Args:
        student, teacher: scores (s,).
        queries: (s,) int64, below ``num_queries``.
        positive: (s,) bool, at most one a query; a query whose positive is not scored takes no part.
        num_queries: n.

    Returns:
        The sum over the other candidates, and how many these are, int64.
    """
    place = torch.full((num_queries,), -1, dtype=torch.int64, device=queries.device)
    place[queries[positive]] = positive.nonzero()[:, 0]
    positive_of = place[queries]
    others = (~positive & (positive_of >= 0)).nonzero()[:, 0]
    best = positive_of[others]
    differences = (student[best] - student[others]) - (teacher[best] - teacher[others])
    return differences.square().sum(), _count(others, len(others))


def kl_divergence(
    student: Tensor, teacher: Tensor, queries: Tensor, num_queries: int, softness: float = 1.0
) -> tuple[Tensor, Tensor]:
    """KL(softmax(teacher / T), softmax(student / T)) T^2 over each query's candidates, natural logarithm.

    Source: arXiv 1503.02531, section 2: T^2 keeps the size of gradients.

    Args:
        student, teacher: scores (s,).
        queries: (s,) int64, below ``num_queries``, those of one query in a row.
        num_queries: n.
        softness: T.

    Returns:
        The sum over the queries with two candidates or more, and how many these are, int64.
    """
    counts = torch.bincount(queries, minlength=num_queries)
    begins = counts.cumsum(0) - counts
    slots = torch.arange(len(queries), device=queries.device) - begins[queries]
    width = int(counts.max()) if len(queries) else 0

    def log_shares(scores: Tensor) -> Tensor:
        table = scores.new_full((num_queries, width), -torch.inf)
        table = table.index_put((queries, slots), scores / softness)
        return table.log_softmax(dim=1)[queries, slots]

    wanted, found = log_shares(teacher), log_shares(student)
    divergence = (wanted.exp() * (wanted - found)).sum() * softness**2
    return divergence, _count(queries, (counts > 1).sum())


def _count(like: Tensor, value: Tensor | int) -> Tensor:
    return torch.as_tensor(value, dtype=torch.int64, device=like.device)
