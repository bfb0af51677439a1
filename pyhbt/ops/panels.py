"""The contrastive loss and its gradients by panels of queries, in plain torch, for any device and dtype.

The same algorithm as the native kernel (csrc/cpu/contrastive.cpp): a panel of scores becomes its own gradient and
is used for both gradient products; the (n, m) score matrix is never stored. 2 n m dim flops, and as many for each
gradient that is wanted (2 more when symmetric and the scores are not kept); extra memory one panel of 1024 m
scores, 256 MiB more at most where a symmetric batch keeps its scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch.nn.functional import normalize

from pyhbt.ops import checks

_PANEL_QUERIES = 1024
RETAINED_BYTES = 256 << 20
"""A symmetric batch keeps scores of up to so many bytes between its two passes (the native kernel too)."""

Losses = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Of the rows, their weighted sum, and its gradients by queries, passages and temperature."""


class Wanted(NamedTuple):
    """Which gradients a call is to compute; that of the temperature comes with the queries'."""

    queries: bool
    passages: bool


NONE_WANTED: Final = Wanted(False, False)


@dataclass
class Columns:
    """The passage-to-query direction: by passage, the logsumexp of the scores of rows with other positives."""

    logsumexp: torch.Tensor
    weight: torch.Tensor
    """The gradient of a score s of such a row is weight * exp(s - logsumexp)."""


def contrastive_loss(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor | None,
    row_weights: torch.Tensor,
    temperature: torch.Tensor,
    margin: float,
    cosine: bool,
    symmetric: bool,
    query_groups: torch.Tensor | None,
    passage_groups: torch.Tensor | None,
    query_gradient: bool,
    passage_gradient: bool,
) -> Losses:
    """Losses (n,), their weighted sum (), and its gradients: queries (n, dim), passages (m, dim), temperature ().

    A gradient that is not wanted has no rows.
    """
    positives = positives_or_default(positives, queries)
    checks.check_indices(positives, "positives", passages.shape[0], "passages")
    checks.check_finite_positive(float(temperature.detach()), "temperature")
    if len(passages) == 0:  # no row has a positive
        losses = row_weights.new_zeros(len(queries), dtype=_dtype(queries, passages))
        grad_queries = torch.zeros_like(queries if query_gradient else queries[:0], dtype=losses.dtype)
        return (
            losses,
            losses.sum(),
            grad_queries,
            torch.zeros_like(passages, dtype=losses.dtype),
            losses.new_zeros((), dtype=torch.float64),
        )
    with torch.autocast(queries.device.type, enabled=False), torch.no_grad():
        groups = None if query_groups is None or passage_groups is None else (query_groups, passage_groups)
        batch = _Batch(queries, passages, positives, row_weights, float(temperature), margin, cosine, groups)
        return batch.run(symmetric, Wanted(query_gradient, passage_gradient))


def positives_or_default(positives: torch.Tensor | None, queries: torch.Tensor) -> torch.Tensor:
    """(n,) int64: as given, or 0, 1, ..., n - 1."""
    return torch.arange(len(queries), device=queries.device) if positives is None else positives


class Rows:
    """What one call keeps of each query; vectors of rows are float64 where the device has it.

    Args:
        positives: (n,) as given.
        row_weights: (n,).
        positive_scores: (n,) in the widest type; of rows without a positive, anything.
    """

    def __init__(
        self,
        positives: torch.Tensor,
        row_weights: torch.Tensor,
        positive_scores: torch.Tensor,
        groups: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> None:
        self.positives, self.present = positives.clamp(min=0), positives >= 0
        self.groups = groups
        self.weights = row_weights.to(positive_scores.dtype) * self.present
        self.positive_scores = positive_scores
        self.losses = torch.zeros_like(positive_scores)
        self.positive_gradients = torch.zeros_like(positive_scores)
        self.others = torch.full_like(positive_scores, -torch.inf)
        """The logsumexp of each row's negatives."""

    def solve(self, rows: slice, others: torch.Tensor, share: float) -> None:
        """Losses and positive gradients of some rows, from the logsumexp of their negatives."""
        self.others[rows] = others
        delta = self.delta(rows)
        self.losses[rows] = torch.where(self.present[rows], share * _log1p_exp(delta), 0.0)
        self.positive_gradients[rows] = -share * self.weights[rows] * delta.sigmoid()

    def delta(self, rows: slice) -> torch.Tensor:
        """By how much the negatives outweigh the positive; NaN for an infinite one, as in torch's cross-entropy."""
        positive = self.positive_scores[rows]
        return torch.where(positive == torch.inf, torch.nan, self.others[rows] - positive)

    def solve_columns(self, base: torch.Tensor) -> Columns:
        """Adds the column direction to losses and positive gradients.

        ``base`` (m,) is the logsumexp of each column's scores. Rows that share a positive are candidates of one
        another, unless that pair is left out by group. "All but row i" is a difference in float64; a row that shares
        its positive with none is no difference at all.
        """
        rows = self.present.nonzero()[:, 0]
        columns = self.positives[rows]
        score, half = self.positive_scores[rows], 0.5 * self.weights[rows]
        candidate = torch.ones_like(score)
        if self.groups is not None:
            queries, passages = self.groups[0][rows], self.groups[1][columns]
            candidate = torch.where((queries == passages) & (passages >= 0), 0.0, 1.0)
        top = base.scatter_reduce(0, columns, score, "amax")[columns]

        def by_column(values: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(base).index_add_(0, columns, values)[columns]

        shared = by_column(torch.ones_like(score)) > 1
        own = candidate * (score - top).exp()
        others = (base[columns] - top).exp() + torch.where(shared, (by_column(own) - own).clamp(min=0), 0.0)
        delta = others.log() + top - score
        loss = _log1p_exp(delta)
        self.losses[rows] += 0.5 * loss
        pull = half * (top - score - loss).exp()  # gradient of a candidate of score s: pull * exp(s - top)
        extra = torch.where(shared, own * (by_column(pull) - pull), 0.0)
        self.positive_gradients[rows] += extra - half * delta.sigmoid()
        weight = torch.zeros_like(base).index_add_(0, columns, pull * (base[columns] - top).exp())
        return Columns(base.nan_to_num(neginf=0.0), weight)

    def slopes(self, rows: slice, share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(reference, weight, own): a negative's score s has the gradient weight * exp(s - reference)."""
        others = self.others[rows]
        weight = share * self.weights[rows] * self.delta(rows).sigmoid()
        reference = torch.where(others == -torch.inf, 0.0, others)
        return reference, weight, torch.where(self.present[rows], self.positive_gradients[rows], 0.0)


class _Batch:
    """One call."""

    def __init__(
        self,
        queries: torch.Tensor,
        passages: torch.Tensor,
        positives: torch.Tensor,
        row_weights: torch.Tensor,
        temperature: float,
        margin: float,
        cosine: bool,
        groups: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> None:
        self.dtype = _dtype(queries, passages)
        # Rows without a positive take no part, whatever they hold.
        taking_part = queries.to(self.dtype).masked_fill((positives < 0)[:, None], 0.0)
        self.inputs = taking_part, passages.to(self.dtype)
        self.cosine = cosine
        self.queries, self.passages = (normalize(x, dim=1) for x in self.inputs) if cosine else self.inputs
        self.wide = torch.float32 if queries.device.type == "mps" else torch.float64
        self.temperature = temperature
        self.margin = margin / self.temperature
        own = (self.queries.to(self.wide) * self.passages[positives.clamp(min=0)].to(self.wide)).sum(dim=1)
        self.rows = Rows(positives, row_weights, own / self.temperature, groups)

    def run(self, symmetric: bool, wanted: Wanted) -> Losses:
        n = len(self.queries)
        panels = [slice(start, min(n, start + _PANEL_QUERIES)) for start in range(0, n, _PANEL_QUERIES)]
        grad_queries = torch.zeros_like(self.queries if wanted.queries else self.queries[:0])
        grad_passages = torch.zeros_like(self.passages if wanted.passages else self.passages[:0])
        keep = (
            symmetric
            and any(wanted)
            and n * len(self.passages) * self.queries.element_size() <= RETAINED_BYTES
        )
        kept: list[torch.Tensor] = []
        share = 0.5 if symmetric else 1.0
        base = torch.full((len(self.passages),), -torch.inf, dtype=self.wide, device=self.queries.device)
        for rows in panels:
            scores = self.scores(rows)
            self.rows.solve(rows, scores.logsumexp(dim=1).to(self.wide), share)
            if symmetric:
                base = torch.logaddexp(base, scores.logsumexp(dim=0).to(self.wide))
                if keep:
                    kept.append(scores)
            elif any(wanted):
                self.propagate(rows, scores, share, None, grad_queries, grad_passages)
        if symmetric:
            columns = self.rows.solve_columns(base)
            for number, rows in enumerate(panels if any(wanted) else []):
                scores = kept[number] if keep else self.scores(rows)
                self.propagate(rows, scores, share, columns, grad_queries, grad_passages)
        moment = (self.queries[: len(grad_queries)].to(self.wide) * grad_queries.to(self.wide)).sum()
        if self.cosine and wanted.queries:
            grad_queries = through_normalize(self.inputs[0], grad_queries)
        if self.cosine and wanted.passages:
            grad_passages = through_normalize(self.inputs[1], grad_passages)
        loss = (self.rows.losses * self.rows.weights).sum().to(self.dtype)
        grad_temperature = -moment.double() / self.temperature
        return self.rows.losses.to(self.dtype), loss, grad_queries, grad_passages, grad_temperature

    def scores(self, rows: slice) -> torch.Tensor:
        """(rows, m); minus infinity where a pair is no negative."""
        scores = (self.queries[rows] @ self.passages.T).div_(self.temperature)
        left_out = ~self.rows.present[rows, None]
        if self.rows.groups is not None:
            queries, passages = self.rows.groups[0][rows, None], self.rows.groups[1]
            left_out = left_out | ((queries == passages) & (passages >= 0))
        if self.margin != torch.inf:
            limits = (self.rows.positive_scores[rows] + self.margin).to(self.dtype)
            left_out = left_out | (scores > limits[:, None])
        own = self.rows.positives[rows, None]
        return scores.masked_fill_(left_out, -torch.inf).scatter_(1, own, -torch.inf)

    def propagate(
        self,
        rows: slice,
        scores: torch.Tensor,
        share: float,
        columns: Columns | None,
        grad_queries: torch.Tensor,
        grad_passages: torch.Tensor,
    ) -> None:
        """Turns the panel into its gradient and adds the products that are wanted: those whose sums have rows."""
        reference, weight, own = (part.to(self.dtype) for part in self.rows.slopes(rows, share))
        down = None
        if columns is not None:
            down = (scores - columns.logsumexp.to(self.dtype)).exp_().mul_(columns.weight.to(self.dtype))
        gradient = scores.sub_(reference[:, None]).exp_().mul_(weight[:, None])
        if down is not None:
            gradient += down
        gradient.scatter_add_(1, self.rows.positives[rows, None], own[:, None])
        gradient.div_(self.temperature)
        if len(grad_queries):
            grad_queries[rows] = gradient @ self.passages
        if len(grad_passages):
            grad_passages.addmm_(gradient.T, self.queries[rows])


def _dtype(queries: torch.Tensor, passages: torch.Tensor) -> torch.dtype:
    return torch.float64 if torch.float64 in (queries.dtype, passages.dtype) else torch.float32


def _log1p_exp(x: torch.Tensor) -> torch.Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def through_normalize(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient with respect to x, given that with respect to x / max(|x|, 1e-12)."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    unit = x / norm.clamp(min=1e-12)
    along = torch.where(norm < 1e-12, 0.0, (unit * gradient).sum(dim=1, keepdim=True))
    projected: torch.Tensor = (gradient - unit * along) / norm.clamp(min=1e-12)
    return projected
