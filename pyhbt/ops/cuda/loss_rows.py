"""What a call of the contrastive loss on CUDA tensors keeps of each query (csrc/cuda/loss_rows.h), a launch a step."""

from __future__ import annotations

from typing import Any

import torch

from pyhbt.ops.codes import matrix
from pyhbt.ops.cuda.kernels import Gradient, Kernels, Struct, address


class LossRows:
    """Vectors of the rows, on their device.

    Args:
        queries: (n, dim) as they enter products.
        passages: (m, dim), of their dtype.
        positives: (n,) int64, -1 where the row takes no part.
        row_weights: (n,) float32.
        temperature: a number; or () float64 on the device, which nobody has looked at: a bad one makes all NaN.
        margin: in units of the similarity; infinite: none.
        share: of the query-to-passage direction in the loss: 1, or 0.5 where it is symmetric.
        groups: of queries and of passages.
        zeros: (2 + m,) int32, for :attr:`refused` and weights of columns.
    """

    def __init__(
        self,
        kernels: Kernels,
        queries: torch.Tensor,
        passages: torch.Tensor,
        positives: torch.Tensor,
        row_weights: torch.Tensor,
        temperature: float | torch.Tensor,
        *,
        margin: float,
        cosine: bool,
        share: float,
        groups: tuple[torch.Tensor, torch.Tensor] | None,
        zeros: torch.Tensor,
    ) -> None:
        n, device = len(queries), queries.device
        self._kernels, self._cosine = kernels, cosine
        self._kept = row_weights, temperature  # whose addresses are used
        self.refused, self._column_weight = zeros[:2], zeros[2:].view(torch.float32)
        self.positives = positives
        self.groups = groups
        scores, self.logsumexp, losses = torch.empty(3, n, dtype=torch.float64, device=device).unbind()
        self.row_factor, self.limit, *slopes = torch.empty(5, n, device=device).unbind()
        self._slopes = slopes
        self.column_factor = torch.empty(len(passages), device=device) if cosine else None
        if margin == torch.inf:
            self.limit = None
        known = not isinstance(temperature, torch.Tensor)
        self._struct: Struct = {
            "rows": n,
            "columns": len(passages),
            "positives": positives.data_ptr(),
            "query_groups": 0 if groups is None else groups[0].data_ptr(),
            "passage_groups": 0 if groups is None else groups[1].data_ptr(),
            "row_weights": row_weights.data_ptr(),
            "temperature": temperature if known else 0.0,
            "temperature_at": 0 if known else address(temperature),  # type: ignore[arg-type]
            "margin": margin,
            "share": share,
            "refused": self.refused.data_ptr(),
            "scores": scores.data_ptr(),
            "logsumexp": self.logsumexp.data_ptr(),
            "losses": losses.data_ptr(),
            "row_factor": self.row_factor.data_ptr(),
            "column_factor": address(self.column_factor),
            "limit": address(self.limit),
            "reference": slopes[0].data_ptr(),
            "weight": slopes[1].data_ptr(),
            "own": slopes[2].data_ptr(),
        }
        self._outputs = scores, losses
        self._launch("start_rows", queries=matrix(queries), passages=matrix(passages))

    refused: torch.Tensor
    """(2,) int32: whether a positive is bad, and whether the temperature is (:mod:`pyhbt.ops.loss_checks`)."""
    row_factor: torch.Tensor
    """(n,) float32: scores are dot products times this, and the factor of their column."""
    column_factor: torch.Tensor | None
    """(m,) float32, for cosine."""
    limit: torch.Tensor | None
    """(n,) float32: a higher score is no negative."""
    logsumexp: torch.Tensor
    """(n,) float64 of the negatives, for panels to fill in."""

    def _launch(self, name: str, **arguments: Any) -> None:
        self._kernels.launch(name, self.positives, rows=self._struct, **arguments)

    def solve(self, rows: slice) -> None:
        """Losses and slopes of rows whose logsumexp is known."""
        self._launch("solve_rows", first=rows.start, last=rows.stop)

    def solve_columns(self, base: torch.Tensor, *, distinct: bool) -> torch.Tensor:
        """Adds the passage-to-query direction, given the logsumexp (m,) float64 of the negatives of each column.

        Args:
            distinct: no two rows share a positive.

        Returns:
            (m,) float32: a negative of score s has the gradient weight exp(s - logsumexp) in its column.
        """
        order = None if distinct else self.positives.argsort(stable=True)
        self._launch(
            "solve_columns",
            base=base.data_ptr(),
            order=address(order),
            column_weight=self._column_weight.data_ptr(),
        )
        return self._column_weight

    def gain(self) -> torch.Tensor:
        """A power of two (1,) float32 that keeps gradients of dot products within float16."""
        gain = torch.empty(1, device=self.positives.device)
        self._launch("choose_gain", gain=gain.data_ptr())
        return gain

    def gradient(
        self,
        rows: slice,
        columns: tuple[torch.Tensor, torch.Tensor] | None,
        gain: torch.Tensor | None,
    ) -> Gradient:
        """What the gradients of a panel of these rows are made of; ``columns``: their logsumexp and weight."""
        reference, weight, own = (part[rows] for part in self._slopes)
        logsumexp, column_weight = columns or (None, None)
        return Gradient(reference, weight, own, logsumexp, column_weight, gain)

    def end_gradient(
        self, embeddings: torch.Tensor, gradient: torch.Tensor, gain: torch.Tensor | None, *, moments: bool
    ) -> torch.Tensor | None:
        """Finishes a gradient (rows, dim) float32 in place: without the gain, through the division by norms.

        Returns:
            (rows,) float64, each embedding times its gradient before that, where asked for.
        """
        device = gradient.device
        found = torch.empty(len(gradient), dtype=torch.float64, device=device) if moments else None
        if moments or self._cosine or gain is not None:
            self._kernels.launch(
                "end_gradient",
                gradient,
                embeddings=matrix(embeddings),
                cosine=self._cosine,
                gain=address(gain),
                gradient=gradient.data_ptr(),
                moments=address(found),
            )
        return found

    def totals(self, moments: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Losses (n,), their weighted sum () and, from ``moments``, the temperature's gradient () float64."""
        device = self.positives.device
        losses, loss = torch.empty(len(self.positives), device=device), torch.empty((), device=device)
        temperature = torch.empty((), dtype=torch.float64, device=device)
        self._launch(
            "total_rows",
            totals={
                "moments": address(moments),
                "loss_rows": losses.data_ptr(),
                "loss": loss.data_ptr(),
                "temperature": temperature.data_ptr(),
            },
        )
        return losses, loss, temperature
