"""The contrastive loss on CUDA tensors: panels of dot products from torch, what lies around them from our kernels.

The algorithm is that of :mod:`pyhbt.ops.panels`. A panel is read once for the logsumexp of its rows and columns and
once more to become its own gradient, in the dtype of the products that follow. 2 n m dim flops, and as many for
each gradient that is wanted (2 more when symmetric and the panels are not kept); extra memory one panel (see
:func:`panel_rows`), half as much again for half-precision embeddings, and, symmetric, up to 256 MiB that are kept.
Nothing waits for the device but a look at positives and at a temperature that lies there
(:mod:`pyhbt.ops.loss_checks`), so that a call can be captured into a CUDA graph.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from pyhbt.ops import panels
from pyhbt.ops.cuda.kernels import Kernels, Panel, multiply_into
from pyhbt.ops.cuda.loss_rows import LossRows
from pyhbt.ops.dtypes import DTYPES
from pyhbt.ops.loss_checks import check_refused, unread_temperature

PANEL_BYTES = 256 << 20
MOST_PANEL_BYTES = 1 << 30
PANEL_SHARE = 32
"""A panel beyond PANEL_BYTES takes at most this part of the device's memory."""
WANTED_PANEL_ROWS = 4096
"""Each panel reads and writes the passages' gradient: fewer panels, less of that."""
MOST_PANEL_ROWS = 1 << 18  # a grid has 65535 blocks in that direction, of 8 rows at least


def supports(queries: torch.Tensor, passages: torch.Tensor) -> bool:
    """Whether the kernels take these: not float64."""
    return queries.dtype in DTYPES and passages.dtype in DTYPES


def panel_rows(num_passages: int, memory: int) -> int:
    """Queries of a panel of scores: those of 256 MiB, or 4096 where these fit in 1 GiB and in 1/32 of the memory."""
    row = 4 * num_passages
    most = max(PANEL_BYTES, min(MOST_PANEL_BYTES, memory // PANEL_SHARE))
    rows = max(PANEL_BYTES // row, min(WANTED_PANEL_ROWS, most // row))
    return min(MOST_PANEL_ROWS, max(32, rows // 32 * 32))


@lru_cache(maxsize=16)
def _memory(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else 0


def contrastive_loss(
    kernels: Kernels,
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
) -> panels.Losses:
    """As :func:`pyhbt.ops.panels.contrastive_loss`; while a CUDA graph is captured, nothing is refused by its value."""
    if len(queries) == 0 or len(passages) == 0:
        return panels.contrastive_loss(
            *(queries, passages, positives, row_weights, temperature, margin, cosine, symmetric),
            *(query_groups, passage_groups, query_gradient, passage_gradient),
        )
    value = unread_temperature(temperature)
    groups = None
    if query_groups is not None and passage_groups is not None:
        groups = query_groups.contiguous(), passage_groups.contiguous()
    with torch.autocast(queries.device.type, enabled=False), torch.no_grad():
        batch = _Batch(
            kernels, queries, passages, positives, row_weights, value, margin, cosine, symmetric, groups
        )
        check_refused(batch.rows.refused, positives, temperature, len(passages))
        return batch.run(panels.Wanted(query_gradient, passage_gradient))


class _Batch:
    """One call."""

    def __init__(
        self,
        kernels: Kernels,
        queries: torch.Tensor,
        passages: torch.Tensor,
        positives: torch.Tensor | None,
        row_weights: torch.Tensor,
        temperature: float | torch.Tensor,
        margin: float,
        cosine: bool,
        symmetric: bool,
        groups: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> None:
        n, device = len(queries), queries.device
        self.kernels = kernels
        self.symmetric, self.distinct = symmetric, positives is None
        self.dtype = queries.dtype if queries.dtype == passages.dtype else torch.float32
        own = queries.to(self.dtype)
        if positives is None:
            positives = torch.arange(n, device=device)
        else:  # rows without a positive take no part, whatever they hold
            positives = positives.contiguous()
            own = own.masked_fill((positives < 0)[:, None], 0.0)
        self.queries = own.contiguous()
        self.passages = passages.to(self.dtype).contiguous()
        rows = panel_rows(len(passages), _memory(device))
        self.panels = [slice(start, min(start + rows, n)) for start in range(0, n, rows)]
        tickets = kernels.ticket_count(self.panels[0].stop)
        zeros = torch.zeros(tickets + 2 + len(passages), dtype=torch.int32, device=device)
        self.tickets = zeros[:tickets]
        self.rows = LossRows(
            kernels,
            self.queries,
            self.passages,
            positives,
            row_weights.float().contiguous(),
            temperature,
            margin=margin,
            cosine=cosine,
            share=0.5 if symmetric else 1.0,
            groups=groups,
            zeros=zeros[tickets:],
        )

    def run(self, wanted: panels.Wanted) -> panels.Losses:
        n, dim = self.queries.shape
        m, device = len(self.passages), self.queries.device
        grad_queries = torch.empty(n if wanted.queries else 0, dim, device=device)
        grad_passages = torch.empty(m if wanted.passages else 0, dim, device=device)
        gain = self.rows.gain() if self.dtype == torch.float16 and any(wanted) else None
        keep = self.symmetric and any(wanted) and 4 * n * m <= panels.RETAINED_BYTES
        kept: list[torch.Tensor] = []
        base = torch.empty(m, dtype=torch.float64, device=device) if self.symmetric else None
        for rows in self.panels:
            panel = self.panel(rows, self.dots(rows))
            self.kernels.panel_logsumexp(
                panel, self.rows.logsumexp[rows], base, self.tickets, first=rows.start == 0
            )
            if base is None:
                self.rows.solve(rows)
                if any(wanted):
                    self.propagate(panel, rows, None, gain, grad_queries, grad_passages)
            elif keep:
                kept.append(panel.dots)
        if base is not None:
            self.rows.solve(slice(0, n))
            columns = base, self.rows.solve_columns(base, distinct=self.distinct)
            for number, rows in enumerate(self.panels if any(wanted) else []):
                panel = self.panel(rows, kept[number] if keep else self.dots(rows))
                self.propagate(panel, rows, columns, gain, grad_queries, grad_passages)
        moments = None
        if wanted.queries:
            moments = self.rows.end_gradient(self.queries, grad_queries, gain, moments=True)
        if wanted.passages:
            self.rows.end_gradient(self.passages, grad_passages, gain, moments=False)
        losses, loss, grad_temperature = self.rows.totals(moments)
        return losses, loss, grad_queries, grad_passages, grad_temperature

    def dots(self, rows: slice) -> torch.Tensor:
        return self.kernels.scores(self.queries[rows], self.passages)

    def panel(self, rows: slice, dots: torch.Tensor) -> Panel:
        groups, limit = self.rows.groups, self.rows.limit
        return Panel(
            dots,
            self.rows.row_factor[rows],
            self.rows.column_factor,
            self.rows.positives[rows],
            None if groups is None else groups[0][rows],
            None if groups is None else groups[1],
            None if limit is None else limit[rows],
        )

    def propagate(
        self,
        panel: Panel,
        rows: slice,
        columns: tuple[torch.Tensor, torch.Tensor] | None,
        gain: torch.Tensor | None,
        grad_queries: torch.Tensor,
        grad_passages: torch.Tensor,
    ) -> None:
        """Turns the panel into its gradient and adds the products that are wanted: those whose sums have rows."""
        parts = self.rows.gradient(rows, columns, gain)
        gradient = self.kernels.panel_gradient(panel, parts, self.dtype)
        if len(grad_queries):
            multiply_into(grad_queries[rows], gradient, self.passages, add=False)
        if len(grad_passages):
            multiply_into(grad_passages, gradient.T, self.queries[rows], add=rows.start > 0)
