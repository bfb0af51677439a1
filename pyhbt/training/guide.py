"""A guide: a second encoder, frozen, that tells which passages of a batch are false negatives.

A passage that the guide finds more similar to a query than the query's positive (less a margin) is left out of that
query's softmax. Source: GISTEmbed, arXiv 2402.16829, section 3.

Shapes: r rows of the loss, M passages over all ranks; the guide's vectors have a dim of their own. Time: that of
``contrastive_loss`` in torch, and the product of the guide's vectors beside that of the student's; 256 rows of scores
are stored at a time, and made again on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pyhbt.encoders import Encoder, load_encoder
from pyhbt.encoders.base import Features
from pyhbt.training.distributed import gather_rows

MarginKind: TypeAlias = Literal["absolute", "relative"]

_ROWS = 256
_ROUNDINGS = 16
"""Units of the dtype's rounding within which a similarity counts as that of the positive."""


def load_guide(spec: str, device: torch.device) -> Encoder:
    """The encoder of a name or folder on ``device``, without dropout or gradients.

    Raises:
        FileNotFoundError: a path that is no folder, or a name that is nowhere.
        ValueError: a folder that cannot be read, or a model that cannot be served.
    """
    try:
        guide = load_encoder(spec)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(
            f"guide: found {spec!r}, expected the name or folder of an encoder ({error})"
        ) from error
    return guide.to(device).eval().requires_grad_(False)


def guide_features(
    guide: Encoder, queries: Sequence[str], passages: Sequence[str], mini_batch_size: int | None = None
) -> tuple[list[Features], Tensor]:
    """Mini-batches of the guide's tokens, and where each text's vector is among theirs: queries, then passages."""
    return guide.pack(
        guide.token_ids(queries, "query") + guide.token_ids(passages, "passage"), mini_batch_size
    )


def guide_vectors(guide: Encoder, texts: Sequence[Features], order: Tensor) -> Tensor:
    """The guide's unit vectors, (t, its dim), of what :func:`guide_features` gave; at least float32, no graph."""
    with torch.no_grad():
        vectors: Tensor = guide(texts)
    return (vectors if vectors.dtype == torch.float64 else vectors.float())[order]


@dataclass(frozen=True)
class Guidance:
    """What a guide says of a batch: its unit vectors of the queries, one a row of the loss, and of the passages.

    ``queries`` (r, dim), ``passages`` (m, dim) of this rank. With ``margin`` d and s the similarity of the positive, a
    passage is left out whose similarity is above s - d ("absolute") or s - |s| d ("relative").
    """

    queries: Tensor
    passages: Tensor
    margin: float
    kind: MarginKind

    def limits(self, positives: Tensor) -> Tensor:
        """The highest similarity (r,) that a negative may have, of rows with these ``positives`` (r,)."""
        own = (self.queries * self.passages[positives]).sum(dim=1)
        distance = self.margin * (own.abs() if self.kind == "relative" else 1.0)
        return own - distance + _ROUNDINGS * torch.finfo(own.dtype).eps


def guided_loss(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    guidance: Guidance,
    *,
    weights: Tensor,
    temperature: Tensor | float,
    cosine: bool,
    symmetric: bool,
    query_groups: Tensor,
    passage_groups: Tensor,
) -> Tensor:
    """As :func:`pyhbt.training.union_loss.union_loss`, without the passages that ``guidance`` leaves out.

    A row's own positive is never left out; false negatives by group ids are, besides. A pair that is left out of the
    one direction is left out of the symmetric one too. Every rank must call it.

    Args:
        queries: (r, dim).
        passages: (m, dim) of this rank.
        positives: (r,) int64 positions in ``passages``.
        guidance: of the same rows and passages.
        weights: (r,) of the rows.
        temperature: divides scores; a tensor gets its gradient.
        cosine: make the vectors unit first.
        symmetric: the mean with the loss of the positives against the queries of all ranks.
        query_groups, passage_groups: (r,), (m,) int64; a negative id belongs to no group.

    Returns:
        A scalar, the sum of weights times losses; gradients flow to the passages of every rank.
    """
    if cosine:
        queries, passages = F.normalize(queries, dim=1), F.normalize(passages, dim=1)
    all_passages, offset = gather_rows(passages)
    all_guide_passages, all_passage_groups = (
        gather_rows(rows)[0] for rows in (guidance.passages, passage_groups)
    )
    own = positives + offset
    limits = guidance.limits(positives)

    def negatives(rows: slice) -> Tensor:
        similar = guidance.queries[rows] @ all_guide_passages.T > limits[rows, None]
        return ~(similar | _same(query_groups[rows], all_passage_groups))

    loss = _sum_of_losses(queries, all_passages, own, negatives, weights, temperature)
    if not symmetric:
        return loss
    all_queries, first = gather_rows(queries)
    all_guide_queries, all_limits, all_own, all_query_groups = (
        gather_rows(rows)[0] for rows in (guidance.queries, limits, own, query_groups)
    )

    def negatives_back(rows: slice) -> Tensor:
        similar = guidance.passages[positives[rows]] @ all_guide_queries.T > all_limits
        similar = similar & (own[rows, None] != all_own)
        return ~(similar | _same(passage_groups[positives[rows]], all_query_groups))

    places = torch.arange(len(queries), device=queries.device) + first
    back = _sum_of_losses(passages[positives], all_queries, places, negatives_back, weights, temperature)
    return (loss + back) / 2


def _same(groups: Tensor, others: Tensor) -> Tensor:
    return (groups[:, None] == others) & (others >= 0)


def _sum_of_losses(
    rows: Tensor,
    columns: Tensor,
    own: Tensor,
    negatives: Callable[[slice], Tensor],
    weights: Tensor,
    temperature: Tensor | float,
) -> Tensor:
    """Sum of weights times losses of ``rows`` against their ``own`` of the ``columns`` and their negatives."""

    def part(rows: Tensor, columns: Tensor, here: slice) -> Tensor:
        scores = rows @ columns.T / temperature
        mine = own[here, None]
        kept = negatives(here).scatter(1, mine, True)
        above = (scores - scores.gather(1, mine)).masked_fill(~kept, -torch.inf)
        total: Tensor = (above.logsumexp(dim=1) * weights[here]).sum()
        return total

    parts = [
        checkpoint(
            part,
            rows[start : start + _ROWS],
            columns,
            slice(start, start + _ROWS),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for start in range(0, max(1, len(rows)), _ROWS)
    ]
    return torch.stack(parts).sum()
