"""The int8 form of a corpus that exact search screens by: one byte a number, five numbers and the norm a passage.

An index keeps half a byte a number more, which few queries read first.

Passage c is x = c - m (cosine: c / |c| - m) with the mean m, I x = k + r with codes k. Every choice of m and of the
direction taken out of both sides is right; a good one makes narrow bounds (docs/how-it-works/numerics.md).
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, cast

import torch

from pyhbt.ops._native import core, threads
from pyhbt.ops.dtypes import VECTOR_DTYPES

if TYPE_CHECKING:
    from pyhbt import _core

CENTRE_SAMPLE = 4096
"""Passages that the mean is taken of."""


@dataclass(frozen=True)
class Codes:
    """Codes of ``n`` passages. Tensors on the CPU, contiguous; docs in csrc/codes.h."""

    codes: torch.Tensor
    """(n, code_stride(dim)) int8"""
    inverse_scale: torch.Tensor
    """(n,) float32"""
    along: torch.Tensor
    """(n,) float32"""
    code_norm: torch.Tensor
    """(n,) float32"""
    residual_norm: torch.Tensor
    """(n,) float32"""
    code_sum: torch.Tensor
    """(n,) int32"""
    norm: torch.Tensor
    """(n,) float64, of the passages themselves"""
    centre: torch.Tensor
    """(dim,) float32"""
    direction: torch.Tensor
    """(dim,) float32, of length 1 or 0"""
    nibbles: torch.Tensor
    """(n, nibble_stride(dim)) uint8, or (n, 0): there are none"""
    nibble_residual: torch.Tensor
    """(n, 1) float32, or (n, 0) likewise"""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(tensor.nbytes for tensor in vars(self).values())

    def native(self) -> _core.Codes:
        """As the native module reads them."""
        return cast("_core.Codes", self._addresses(_ALL))

    def native_out(self) -> _core.CodesOut:
        """As the native module writes them."""
        return cast("_core.CodesOut", self._addresses(PER_PASSAGE))

    @property
    def has_nibbles(self) -> bool:
        """Whether there is a coarse form, for few queries to read first."""
        return self.nibbles.shape[1] > 0

    def _addresses(self, names: tuple[str, ...]) -> dict[str, int]:
        return {name: getattr(self, name).data_ptr() for name in names}

    def rows(self, start: int, stop: int) -> Codes:
        """A view of some passages."""
        parts = {name: getattr(self, name)[start:stop] for name in PER_PASSAGE}
        return replace(self, **parts)


_ALL = tuple(field.name for field in fields(Codes))
PER_PASSAGE = tuple(name for name in _ALL if name not in ("centre", "direction"))
NIBBLES = ("nibbles", "nibble_residual")


def allocate(
    n: int, centre: torch.Tensor, memory: torch.Tensor | None = None, *, nibbles: bool = True
) -> Codes:
    """Room for the codes of ``n`` passages around ``centre``, not initialised; in ``memory``, if given.

    Without ``nibbles``, or where the dim is small, they have none.
    """
    dim = len(centre)
    coarse = core.nibble_stride(dim) if nibbles else 0
    size = n * core.code_stride(dim)
    memory = _bytes(size) if memory is None else memory[:size]
    length = centre.double().norm()
    direction = (centre.double() / length).float() if 0 < length < float("inf") else torch.zeros(dim)
    return Codes(
        codes=memory.view(n, core.code_stride(dim)),
        inverse_scale=torch.empty(n),
        along=torch.empty(n),
        code_norm=torch.empty(n),
        residual_norm=torch.empty(n),
        code_sum=torch.empty(n, dtype=torch.int32),
        norm=torch.empty(n, dtype=torch.float64),
        centre=centre,
        direction=direction,
        nibbles=_bytes(n * coarse).view(torch.uint8).view(n, coarse),
        nibble_residual=torch.empty(n, min(1, coarse)),
    )


def _bytes(size: int) -> torch.Tensor:
    """(size,) int8, not initialised; large ones in huge pages, since page faults cost as much as encoding does."""
    if size < 4 << 20 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(size, dtype=torch.int8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has none
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.int8)


def mean_of_sample(corpus: torch.Tensor, *, cosine: bool) -> torch.Tensor:
    """The mean (dim,) float32 of passages drawn evenly; zeros where a sum overflows or a passage is not finite."""
    step = max(1, len(corpus) // CENTRE_SAMPLE)
    sample = corpus[::step].double()
    if cosine:
        sample = torch.nn.functional.normalize(sample, eps=1e-300)
    mean = sample.sum(dim=0).div(max(1, len(sample))).float()
    return mean if bool(mean.isfinite().all()) else torch.zeros_like(mean)


def encode_into(out: Codes, corpus: torch.Tensor, *, cosine: bool, first_row: int = 0) -> None:
    """Codes of ``corpus`` (n, dim), of any dtype that search takes.

    Raises:
        ValueError: a passage that is not finite; its row is counted from ``first_row``.
    """
    core.encode(
        rows=matrix(corpus),
        cosine=cosine,
        centre=out.centre.data_ptr(),
        direction=out.direction.data_ptr(),
        out=out.native_out(),
        first_row=first_row,
        threads=threads(),
    )


def encode(corpus: torch.Tensor, *, cosine: bool) -> Codes:
    """Codes of a whole corpus around its mean."""
    out = allocate(len(corpus), mean_of_sample(corpus, cosine=cosine))
    encode_into(out, corpus, cosine=cosine)
    return out


_MOST_KEPT = 64 << 20
_kept_lock = threading.Lock()
_kept = torch.empty(0, dtype=torch.int8)


@contextmanager
def encoded(corpus: torch.Tensor, *, cosine: bool) -> Iterator[Codes]:
    """Codes for one search. Their memory, up to 64 MiB, is kept for the next: fresh pages cost more than encoding."""
    global _kept
    size = len(corpus) * core.code_stride(corpus.shape[1])
    with _kept_lock:
        memory, _kept = _kept, _kept.new_empty(0)
    if len(memory) < size:
        memory = _bytes(size)
    codes = allocate(len(corpus), mean_of_sample(corpus, cosine=cosine), memory, nibbles=False)
    encode_into(codes, corpus, cosine=cosine)
    yield codes
    if len(memory) <= _MOST_KEPT:
        with _kept_lock:
            _kept = max(_kept, memory, key=len)


def matrix(tensor: torch.Tensor) -> _core.Matrix:
    """A matrix with contiguous rows, as native modules take it."""
    rows, dim = tensor.shape
    return {
        "address": tensor.data_ptr(),
        "dtype": VECTOR_DTYPES[tensor.dtype],
        "rows": rows,
        "dim": dim,
        "stride": tensor.stride(0) if rows > 1 else dim,
    }
