"""The contrastive loss on CUDA tensors: panels of dot products from torch, their reductions and gradients from ours.

The algorithm is that of :mod:`pyhbt.ops.panels`. A panel is read once for the logsumexp of its rows and columns and
once more to become its own gradient, in the dtype of the products that follow. 2 n m dim flops, and as many for
each gradient that is wanted (2 more when symmetric and the panels are not kept); extra memory one panel of up to
256 MiB, half as much again for half-precision embeddings, and, symmetric, up to 256 MiB that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pyhbt.ops import checks, panels
from pyhbt.ops.cuda.kernels import Gradient, Kernels, Panel, wide_product
from pyhbt.ops.dtypes import DTYPES

PANEL_BYTES = 256 << 20
MOST_PANEL_ROWS = 1 << 18  # a grid has 65535 blocks in that direction, of 8 rows at least
_HALF_RANGE = 64.0
"""Gradients in float16 are scaled to at most about this; several rows may add up in one, and 65504 is the end."""


def supports(queries: torch.Tensor, passages: torch.Tensor) -> bool:
    """Whether the kernels take these: not float64."""
    return queries.dtype in DTYPES and passages.dtype in DTYPES


def contrastive_loss(
    kernels: Kernels,
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    row_weights: torch.Tensor,
    temperature: torch.Tensor,
    margin: float,
    cosine: bool,
    symmetric: bool,
    query_groups: torch.Tensor | None,
    passage_groups: torch.Tensor | None,
    query_gradient: bool,
    passage_gradient: bool,
) -> panels.Losses:
    """As :func:`pyhbt.ops.panels.contrastive_loss`."""
    if len(queries) == 0 or len(passages) == 0:
        return panels.contrastive_loss(
            *(queries, passages, positives, row_weights, temperature, margin, cosine, symmetric),
            *(query_groups, passage_groups, query_gradient, passage_gradient),
        )
    checks.check_indices(positives, "positives", len(passages), "passages")
    checks.check_finite_positive(float(temperature.detach()), "temperature")
    groups = None
    if query_groups is not None and passage_groups is not None:
        groups = query_groups.contiguous(), passage_groups.contiguous()
    with torch.autocast(queries.device.type, enabled=False), torch.no_grad():
        batch = _Batch(
            kernels, queries, passages, positives, row_weights, float(temperature), margin, cosine, groups
        )
        return batch.run(symmetric, panels.Wanted(query_gradient, passage_gradient))


@dataclass
class _Side:
    """One of the two matrices: as it enters products, and its norms where the similarity is cosine."""

    rows: torch.Tensor
    norms: torch.Tensor | None

    def gradient(self, raw: torch.Tensor) -> torch.Tensor:
        """With respect to the rows, given that with respect to dot products with them."""
        if self.norms is None:
            return raw
        return panels.through_normalize(self.rows.float(), raw * self.norms[:, None])

    def factor(self) -> torch.Tensor | None:
        return None if self.norms is None else 1 / self.norms


class _Batch:
    """One call."""

    def __init__(
        self,
        kernels: Kernels,
        queries: torch.Tensor,
        passages: torch.Tensor,
        positives: torch.Tensor,
        row_weights: torch.Tensor,
        temperature: float,
        margin: float,
        cosine: bool,
        groups: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> None:
        self.kernels = kernels
        self.dtype = queries.dtype if queries.dtype == passages.dtype else torch.float32
        # Rows without a positive take no part, whatever they hold.
        taking_part = queries.to(self.dtype).masked_fill((positives < 0)[:, None], 0.0)
        self.queries = _Side(taking_part, _norms(taking_part) if cosine else None)
        self.passages = _Side(passages.to(self.dtype).contiguous(), _norms(passages) if cosine else None)
        self.positives = positives.contiguous()
        self.temperature = temperature
        self.margin = margin / temperature
        rows = min(MOST_PANEL_ROWS, max(32, PANEL_BYTES // (4 * len(passages)) // 32 * 32))
        self.panels = [
            slice(start, min(start + rows, len(queries))) for start in range(0, len(queries), rows)
        ]
        factor = self.queries.factor()
        ones = torch.ones(len(queries), device=queries.device)
        self.row_factor = (ones if factor is None else factor) / temperature
        self.column_factor = self.passages.factor()
        self.rows = panels.Rows(positives, row_weights, self.positive_scores(), groups)

    def positive_scores(self) -> torch.Tensor:
        """(n,) float64, computed in it."""
        scores = torch.empty(len(self.positives), dtype=torch.float64, device=self.positives.device)
        for rows in self.panels:
            own = self.positives[rows].clamp(min=0)
            passages = self.passages.rows[own].double()
            dots = (self.queries.rows[rows].double() * passages).sum(dim=1)
            for norms, chosen in ((self.queries.norms, rows), (self.passages.norms, own)):
                if norms is not None:
                    dots /= norms[chosen].double()
            scores[rows] = dots / self.temperature
        return scores

    def run(self, symmetric: bool, wanted: panels.Wanted) -> panels.Losses:
        n, dim = self.queries.rows.shape
        m = len(self.passages.rows)
        device = self.queries.rows.device
        grad_queries = torch.zeros(n if wanted.queries else 0, dim, device=device)
        grad_passages = torch.zeros(m if wanted.passages else 0, dim, device=device)
        keep = symmetric and any(wanted) and 4 * n * m <= panels.RETAINED_BYTES
        kept: list[torch.Tensor] = []
        share = 0.5 if symmetric else 1.0
        base = torch.full((m,), -torch.inf, dtype=torch.float64, device=device) if symmetric else None
        gain = self.gain()
        for rows in self.panels:
            panel = self.panel(rows, self.dots(rows))
            self.rows.solve(rows, self.kernels.panel_logsumexp(panel, base), share)
            if keep:
                kept.append(panel.dots)
            elif base is None and any(wanted):
                self.propagate(panel, rows, share, None, gain, grad_queries, grad_passages)
        if base is not None:
            columns = self.rows.solve_columns(base)
            for number, rows in enumerate(self.panels if any(wanted) else []):
                panel = self.panel(rows, kept[number] if keep else self.dots(rows))
                self.propagate(panel, rows, share, columns, gain, grad_queries, grad_passages)
        if gain is not None:
            grad_queries /= gain
            grad_passages /= gain
        moment = torch.zeros((), dtype=torch.float64, device=device)
        for rows in self.panels if wanted.queries else []:
            moment += (self.queries.rows[rows].double() * grad_queries[rows].double()).sum()
        if wanted.queries:
            grad_queries = self.queries.gradient(grad_queries)
        if wanted.passages:
            grad_passages = self.passages.gradient(grad_passages)
        loss = (self.rows.losses * self.rows.weights).sum().float()
        return self.rows.losses.float(), loss, grad_queries, grad_passages, -moment / self.temperature

    def dots(self, rows: slice) -> torch.Tensor:
        return self.kernels.scores(self.queries.rows[rows], self.passages.rows)

    def panel(self, rows: slice, dots: torch.Tensor) -> Panel:
        groups = self.rows.groups
        limit = None
        if self.margin != torch.inf:
            limit = (self.rows.positive_scores[rows] + self.margin).float()
        return Panel(
            dots,
            self.row_factor[rows],
            self.column_factor,
            self.positives[rows],
            None if groups is None else groups[0][rows],
            None if groups is None else groups[1],
            limit,
        )

    def gain(self) -> torch.Tensor | None:
        """A power of two (1,) that keeps gradients of dot products within float16."""
        if self.dtype != torch.float16:
            return None
        largest = self.rows.weights.abs().max() * self.row_factor.max().double()
        if self.column_factor is not None:
            largest = largest * self.column_factor.max().double()
        gain = torch.exp2(torch.floor(torch.log2(_HALF_RANGE / largest))).float().reshape(1)
        return torch.where(gain.isfinite() & (gain > 0), gain, 1.0)

    def propagate(
        self,
        panel: Panel,
        rows: slice,
        share: float,
        columns: panels.Columns | None,
        gain: torch.Tensor | None,
        grad_queries: torch.Tensor,
        grad_passages: torch.Tensor,
    ) -> None:
        """Turns the panel into its gradient and adds the products that are wanted: those whose sums have rows."""
        reference, weight, own = (part.float() for part in self.rows.slopes(rows, share))
        column_reference, column_weight = (
            (None, None) if columns is None else (columns.logsumexp.float(), columns.weight.float())
        )
        parts = Gradient(reference, weight, own, column_reference, column_weight, gain)
        gradient = self.kernels.panel_gradient(panel, parts, self.dtype)
        if len(grad_queries):
            grad_queries[rows] = wide_product(gradient, self.passages.rows)
        if len(grad_passages):
            grad_passages += wide_product(gradient.T, self.queries.rows[rows])


def _norms(x: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.float32)
    return norms.clamp(min=1e-12)
