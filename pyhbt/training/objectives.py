"""The training objective: in-batch contrastive loss, terms against language bias, and a teacher's scores.

With n queries over all ranks, every term is a mean over the union batch. Each rank computes the share of its own
queries (or translations), times the number of ranks, so that the mean over ranks, which DDP takes of gradients, is the
loss and gradient of one process with the union batch. Time and memory: those of ``contrastive_loss`` of the rank's
queries against all passages, for each Matryoshka dimension; the Jensen-Shannon term stores scores of 256 rows at
a time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pyhbt.arguments import check_choice
from pyhbt.options import documented, option
from pyhbt.training.batches import Batch
from pyhbt.training.distillation import Distillation, kl_divergence, margin_mse
from pyhbt.training.distributed import gather_rows, total, world_size
from pyhbt.training.guide import Guidance, MarginKind, guided_loss
from pyhbt.training.union_loss import union_loss

MIN_TEMPERATURE = 0.01  # of a learnt one
_ROWS = 256
_WEIGHTS = ("contrastive_weight", "alignment_weight", "js_weight", "distil_weight")


@documented
@dataclass(frozen=True)
class Objective:
    """What a training minimises; by default plain InfoNCE (arXiv 1807.03748, eq. 4) and nothing else.

    Raises:
        ValueError: a number out of range, or nothing to minimise.
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
    guide: str | None = option(
        "Encoder, a name or folder, that judges negatives: passages that it finds more similar to a query than the "
        "query's positive are left out of that query's contrastive loss (arXiv 2402.16829).",
        None,
    )
    guide_margin: float = option("Leave out what the guide scores so far below the positive, too.", 0.0)
    guide_margin_kind: MarginKind = option(
        "The margin is a difference of similarities (absolute), or a share of the positive's (relative).",
        "absolute",
    )
    contrastive_weight: float = option("Weight of the contrastive loss; 0 leaves it out.", 1.0)
    distil: Distillation | None = option(
        "Follow the scores of a teacher (teacher_scores): the differences between a query's positive and its other "
        "candidates (margin-mse, arXiv 2010.02666), or softmax over its candidates (kl, arXiv 1503.02531). Student "
        "scores are cosines over the temperature.",
        None,
    )
    distil_weight: float = option("Weight of that term.", 1.0)
    distil_temperature: float = option(
        "Divides the scores of student and teacher once more before the softmax of kl.", 1.0
    )

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature: found {self.temperature}, expected a number above 0")
        if self.learn_temperature and self.temperature < MIN_TEMPERATURE:
            raise ValueError(
                f"temperature: found {self.temperature}, expected at least {MIN_TEMPERATURE} where it is learnt"
            )
        for name in ("parallel_passages", *_WEIGHTS):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number of at least 0")
        self._check_guide_and_teacher()
        object.__setattr__(self, "matryoshka_dims", tuple(self.matryoshka_dims))
        if any(dim < 1 for dim in self.matryoshka_dims):
            raise ValueError(
                f"matryoshka_dims: found {list(self.matryoshka_dims)}, expected numbers of at least 1"
            )

    def _check_guide_and_teacher(self) -> None:
        if not math.isfinite(self.guide_margin):
            raise ValueError(f"guide_margin: found {self.guide_margin}, expected a finite number")
        check_choice("guide_margin_kind", self.guide_margin_kind, get_args(MarginKind))
        if self.distil is not None:
            check_choice("distil", self.distil, get_args(Distillation))
        if not 0 < self.distil_temperature < float("inf"):
            raise ValueError(
                f"distil_temperature: found {self.distil_temperature}, expected a number above 0"
            )
        if self.contrastive_weight > 0:
            return
        distilled = self.distil is not None and self.distil_weight > 0
        if not (distilled or self.alignment_weight or self.js_weight):
            raise ValueError("contrastive_weight: found 0, expected more where no other term has a weight")
        if self.learn_temperature and not distilled:
            raise ValueError("learn_temperature: found True, expected False: no term of a weight trains it")
        if self.guide is not None:
            raise ValueError(f"guide: found {self.guide!r}, expected None where contrastive_weight is 0")

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

    def loss(
        self,
        embeddings: Tensor,
        batch: Batch,
        temperature: Tensor | float,
        guide_vectors: Tensor | None = None,
    ) -> Loss:
        """The loss of a batch, from the unit vectors (t, dim) of its texts in the batch's order.

        ``guide_vectors``: the guide's (n + m, its dim) of queries and passages, where there is one.

        Raises:
            ValueError: a Matryoshka dimension above dim; no vectors of the guide or scores of the teacher, though
                there is one.
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
        terms: dict[str, Tensor] = {}
        if self.contrastive_weight > 0:
            guidance = self._guidance(guide_vectors, batch)
            terms["contrastive"] = self._contrastive(
                queries, passages, batch, temperature, shares[0], guidance
            )
        if self.alignment_weight > 0:
            parallel_of = batch["query_of"][num_queries:]
            own = passages[batch["positives"][parallel_of]]
            distance = (queries[batch["translated"]] - translations).square().sum()
            distance = distance + (own - passages[batch["positives"][num_queries:]]).square().sum()
            terms["alignment"] = (distance * shares[2]).to(dtype)
        if self.js_weight > 0:
            constant = temperature.detach() if isinstance(temperature, Tensor) else temperature
            divergence = _js_divergence(
                queries[batch["translated"]], translations, gather_rows(passages)[0], constant
            )
            terms["js"] = (divergence * shares[1]).to(dtype)
        if self.distil is not None:
            terms["distil"] = self._distillation(queries, passages, batch, temperature).to(dtype)
        weighted = (getattr(self, f"{name}_weight") * term for name, term in terms.items())
        value = functools.reduce(torch.add, weighted)
        return Loss(value, {name: term.detach() for name, term in terms.items()} if len(terms) > 1 else {})

    def _contrastive(
        self,
        queries: Tensor,
        passages: Tensor,
        batch: Batch,
        temperature: Tensor | float,
        share: Tensor,
        guidance: Guidance | None,
    ) -> Tensor:
        query_of, positives = batch["query_of"], batch["positives"]
        if len(positives) > len(queries):
            queries = queries[query_of]
        positives_of_query = torch.bincount(query_of, minlength=batch["num_queries"])
        options: dict[str, Any] = {
            "weights": share / positives_of_query[query_of],
            "temperature": temperature,
            "symmetric": self.symmetric,
            "query_groups": batch["query_groups"][query_of],
            "passage_groups": batch["passage_groups"],
        }
        losses = []
        for dim in self.matryoshka_dims or (None,):
            cut, others = queries[:, :dim], passages[:, :dim]
            if guidance is None:
                similarity = "dot" if dim is None else "cosine"
                losses.append(union_loss(cut, others, positives, similarity=similarity, **options))
            else:
                losses.append(
                    guided_loss(cut, others, positives, guidance, cosine=dim is not None, **options)
                )
        return torch.stack(losses).mean()

    def _guidance(self, guide_vectors: Tensor | None, batch: Batch) -> Guidance | None:
        if self.guide is None:
            return None
        if guide_vectors is None:
            raise ValueError(f"guide_vectors: found None, expected those of the guide {self.guide!r}")
        queries, passages = torch.tensor_split(guide_vectors, (batch["num_queries"],))
        return Guidance(queries[batch["query_of"]], passages, self.guide_margin, self.guide_margin_kind)

    def _distillation(
        self, queries: Tensor, passages: Tensor, batch: Batch, temperature: Tensor | float
    ) -> Tensor:
        if "teacher_scores" not in batch:
            raise ValueError(f"batch: found no scores of a teacher, expected some: distil is {self.distil!r}")
        query_of, candidates = batch["teacher_queries"], batch["teacher_passages"]
        student = (queries[query_of] * passages[candidates]).sum(dim=1) / temperature
        teacher = batch["teacher_scores"].to(student.dtype)
        if self.distil == "margin-mse":
            positive = candidates == batch["positives"][query_of]
            value, count = margin_mse(student, teacher, query_of, positive, batch["num_queries"])
        else:
            value, count = kl_divergence(
                student, teacher, query_of, batch["num_queries"], self.distil_temperature
            )
        return value * (world_size() / total(count).clamp(min=1).to(value.dtype))


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
