"""The float16 form of embeddings, by which exact search on a GPU screens, and what bounds its error.

Row x is stored as the float16 numbers nearest to y = 2^unit x (similarity "cosine": of x divided by its norm), with the
power of two that brings its largest number to 512 .. 1024. docs/how-it-works/numerics.md has the proof.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_ROWS_AT_ONCE = 1 << 14
_TOP = 10  # largest numbers lie below 2^10: products of up to 2^40 numbers stay within float32
_MOST_UNIT = 100
_SLACK = 1 + 2.0**-20  # more than the rounding of sizes and errors, which are rounded up by it


@dataclass(frozen=True)
class HalfRows:
    """Rows whose largest number is not in 2^-91 .. 2^110 have halves of zero and an infinite size: all is open."""

    halves: torch.Tensor
    """(n, dim) float16."""
    size: torch.Tensor
    """(n,) float32: no less than the norms of y and of its halves."""
    error: torch.Tensor
    """(n,) float32: no less than the norm of their difference."""
    scale: torch.Tensor
    """(n,) float32: 2^unit."""


def accumulation_error(dim: int) -> float:
    """Of a product of float16 rows summed in float32, times the product of their sizes.

    Each of dim additions, in whatever order, may err by 2^-22 of the largest partial sum. Tensor cores align a few
    products at a time and cut off bits; 2^-22 is four times the rounding of a float32 addition.
    """
    return (dim + 16) * 2.0**-22


def halve(rows: torch.Tensor, norms: torch.Tensor | None) -> HalfRows:
    """``norms`` (n,) float64: the rows are divided by them (0: left as they are)."""
    n, dim = rows.shape
    halves = torch.empty(n, dim, dtype=torch.float16, device=rows.device)
    size, error, scale = (torch.empty(n, device=rows.device) for _ in range(3))
    for start in range(0, n, _ROWS_AT_ONCE):
        chosen = slice(start, min(n, start + _ROWS_AT_ONCE))
        wide = rows[chosen].double()
        if norms is not None:
            wide = wide / torch.where(norms[chosen] > 0, norms[chosen], 1.0)[:, None]
        largest = wide.abs().amax(dim=1)
        unit = _TOP - torch.frexp(largest).exponent.double()
        served = (largest == 0) | (largest.isfinite() & (unit.abs() <= _MOST_UNIT))
        unit = torch.where(served & (largest > 0), unit, 0.0)
        power = torch.exp2(unit)
        scale[chosen] = power.float()
        wide = torch.where(served[:, None], wide * power[:, None], 0.0)
        halves[chosen] = wide.half()
        rounded = halves[chosen].double()
        sizes = torch.maximum(wide.norm(dim=1), rounded.norm(dim=1)) * _SLACK
        size[chosen] = torch.where(served, sizes, torch.inf).float()
        error[chosen] = ((wide - rounded).norm(dim=1) * _SLACK).float()
    return HalfRows(halves, size, error, scale)
