"""The training objective: in-batch contrastive loss, and the terms against language bias that may join it.

With n queries over all ranks, every term is a mean over the union batch. Each rank computes the share of its own
queries (or translations), times the number of ranks, so that the mean over ranks, which DDP takes of gradients, is the
loss and gradient of one process with the union batch. Time and memory: those of ``contrastive_loss`` of the rank's
queries against all passages, for each Matryoshka dimension; the Jensen-Shannon term stores scores of 256 rows at
a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pyhbt.ops import contrastive_loss
from pyhbt.options import documented, option
from pyhbt.training.batches import Batch
from pyhbt.training.distributed import gather_rows, total, world_size

MIN_TEMPERATURE = 0.01  # of a learnt one
_ROWS = 256


@documented
@dataclass(frozen=True)
class Objective:
    """What a training minimises. All weights are 0 by default: plain InfoNCE (arXiv 1807.03748, eq. 4).

    Raises:
        ValueError: a number out of range.
    """

    temperature: float = option("The loss divides scores by it.", 0.05)
    learn_temperature: bool = option(
        "Train the temperature, from the value given, as the logarithm of one parameter, never below 0.01 "
        "(arXiv 2103.00020, section 2.3).",
        False,
    )
    symmetric: bool = option("Add the passage-to-query direction of the loss.", False)
    matryoshka_dims: tuple[int, ...] = option(
        "Dims, comma-separated: the contrastive loss is the mean over vectors cut to the first d components for each d "
        "and made unit again (arXiv 2205.13147, eq. 1, which sums).",
        (),
    )
    parallel_passages: int = option(
        "So many translations of a query's passage are positives too: each is contrasted with all passages but the "
        "query's other positives, a query's loss is the mean over its positives (arXiv 2004.11362, eq. 2).",
        0,
    )
    alignment_weight: float = option(
        "Weight of the mean squared distance between a text and its translation (arXiv 2005.10242, section 4.1.2): of "
        "queries, and of passages where parallel passages are wanted.",
        0.0,
    )
    js_weight: float = option(
        "Weight of the mean Jensen-Shannon divergence (natural logarithm) between softmax of a query's scores and of "
        "its translation's, without gradient to the temperature (after arXiv 2604.05684).",
        0.0,
    )

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature: found {self.temperature}, expected a number above 0")
        if self.learn_temperature and self.temperature < MIN_TEMPERATURE:
            raise ValueError(
                f"temperature: found {self.temperature}, expected at least {MIN_TEMPERATURE} where it is learnt"
            )
        for name in ("parallel_passages", "alignment_weight", "js_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number of at least 0")
        object.__setattr__(self, "matryoshka_dims", tuple(self.matryoshka_dims))
        if any(dim < 1 for dim in self.matryoshka_dims):
            raise ValueError(
                f"matryoshka_dims: found {list(self.matryoshka_dims)}, expected numbers of at least 1"
            )

    @property
    def wants_parallel_queries(self) -> bool:
        """Whether a term needs translations of the queries."""
        return self.alignment_weight > 0 or self.js_weight > 0

    def check_dim(self, dim: int) -> None:
        """Refuse a Matryoshka dimension that the encoder does not have.

        Raises:
            ValueError: one is above ``dim``.
        """
        if max(self.matryoshka_dims, default=0) > dim:
            raise ValueError(f"matryoshka_dims: found {max(self.matryoshka_dims)}, expected at most {dim}")

    def loss(self, embeddings: Tensor, batch: Batch, temperature: Tensor | float) -> Loss:
        """The loss of a batch, from the unit vectors (t, dim) of its texts in the batch's order.

        Raises:
            ValueError: a Matryoshka dimension above dim.
        """
        self.check_dim(embeddings.shape[1])
        num_queries, num_translations = batch["num_queries"], len(batch["translated"])
        queries, translations, passages = torch.tensor_split(
            embeddings, (num_queries, num_queries + num_translations)
        )
        num_parallel = len(batch["positives"]) - num_queries  # the last of them
        counts = torch.tensor(
            [num_queries, num_translations, num_translations + num_parallel], device=embeddings.device
        )
        dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
        shares = world_size() / total(counts).clamp(min=1).to(dtype)
        terms = {"contrastive": self._contrastive(queries, passages, batch, temperature, shares[0])}
        value = terms["contrastive"]
        if self.alignment_weight > 0:
            parallel_of = batch["query_of"][num_queries:]
            own = passages[batch["positives"][parallel_of]]
            distance = (queries[batch["translated"]] - translations).square().sum()
            distance = distance + (own - passages[batch["positives"][num_queries:]]).square().sum()
            terms["alignment"] = (distance * shares[2]).to(value.dtype)
            value = value + self.alignment_weight * terms["alignment"]
        if self.js_weight > 0:
            constant = temperature.detach() if isinstance(temperature, Tensor) else temperature
            divergence = _js_divergence(
                queries[batch["translated"]], translations, gather_rows(passages)[0], constant
            )
            terms["js"] = (divergence * shares[1]).to(value.dtype)
            value = value + self.js_weight * terms["js"]
        return Loss(value, {name: term.detach() for name, term in terms.items()} if len(terms) > 1 else {})

    def _contrastive(
        self,
        queries: Tensor,
        passages: Tensor,
        batch: Batch,
        temperature: Tensor | float,
        share: Tensor,
    ) -> Tensor:
        query_of, positives = batch["query_of"], batch["positives"]
        if len(positives) > len(queries):
            queries = queries[query_of]
        positives_of_query = torch.bincount(query_of, minlength=batch["num_queries"])
        losses = [
            union_loss(
                queries[:, :dim],
                passages[:, :dim],
                positives,
                weights=share / positives_of_query[query_of],
                temperature=temperature,
                similarity="dot" if dim is None else "cosine",
                symmetric=self.symmetric,
                query_groups=batch["query_groups"][query_of],
                passage_groups=batch["passage_groups"],
            )
            for dim in self.matryoshka_dims or (None,)
        ]
        return torch.stack(losses).mean()


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


@dataclass(frozen=True)
class Loss:
    """``value``, a scalar with graph: the rank's share, whose mean over ranks is the loss. ``terms``: its parts before
    weighting, detached, where there are several."""

    value: Tensor
    terms: Mapping[str, Tensor]


def _js_divergence(queries: Tensor, others: Tensor, passages: Tensor, temperature: Tensor | float) -> Tensor:
    """Sum over the rows of JS(softmax(q P / t), softmax(o P / t)), float32; scores are made again on the way back."""

    def part(first: Tensor, second: Tensor, passages: Tensor) -> Tensor:
        p = F.log_softmax(first @ passages.T / temperature, dim=1)
        q = F.log_softmax(second @ passages.T / temperature, dim=1)
        mean = torch.logaddexp(p, q) - math.log(2.0)
        divergence: Tensor = ((p.exp() * (p - mean)).sum() + (q.exp() * (q - mean)).sum()) / 2
        return divergence

    parts = [
        checkpoint(
            part,
            queries[start : start + _ROWS],
            others[start : start + _ROWS],
            passages,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for start in range(0, max(1, len(queries)), _ROWS)
    ]
    return torch.stack(parts).sum()
