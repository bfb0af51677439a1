"""The door to the CUDA module: tensors in, launches on torch's current stream out.

The module has no libtorch, so that one build serves every torch: it takes addresses. Loading it touches no device.
"""

from __future__ import annotations

import importlib
import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from pyhbt.ops.codes import matrix

ROW_TYPES = (torch.float32, torch.float16, torch.bfloat16)  # as csrc/embeddings.h numbers them
_OUT_DTYPE = hasattr(torch.ops.aten.mm, "dtype")
Status = dict[str, Any]


class Panel(NamedTuple):
    """Dot products of some queries with all passages, and which of them are negatives (csrc/cuda/contrastive.h)."""

    dots: torch.Tensor
    """(rows, columns) float32."""
    row_factor: torch.Tensor
    column_factor: torch.Tensor | None
    positives: torch.Tensor
    query_groups: torch.Tensor | None
    passage_groups: torch.Tensor | None
    limit: torch.Tensor | None

    def parts(self) -> tuple[int, ...]:
        """As the module takes it."""
        return self.dots.data_ptr(), *self.dots.shape, *(address(part) for part in self[1:])


class Gradient(NamedTuple):
    """What the gradients of a panel are made of."""

    row_reference: torch.Tensor
    row_weight: torch.Tensor
    own: torch.Tensor
    column_reference: torch.Tensor | None
    column_weight: torch.Tensor | None
    gain: torch.Tensor | None


class ScoreTile(NamedTuple):
    """Screening scores of queries against passages from ``first`` on, with what bounds their error."""

    scores: torch.Tensor
    """(queries, columns) float32."""
    first: int
    code_error: torch.Tensor
    query_size: torch.Tensor
    passage_size: torch.Tensor
    passage_error: torch.Tensor
    passage_scale: torch.Tensor

    def parts(self) -> tuple[int, ...]:
        """As the module takes it."""
        queries, columns = self.scores.shape
        return self.scores.data_ptr(), queries, self.first, columns, *(address(part) for part in self[2:])


class Lists(NamedTuple):
    """A list of passages for each query (csrc/cuda/search.h)."""

    passages: torch.Tensor
    """(queries, capacity) int32."""
    scores: torch.Tensor
    """(queries, capacity) float64."""
    counts: torch.Tensor
    scored: torch.Tensor
    lost: torch.Tensor

    @classmethod
    def empty(cls, queries: int, capacity: int, device: torch.device) -> Lists:
        """Lists without entries."""
        counts = torch.zeros(3, queries, dtype=torch.int32, device=device)
        return cls(
            torch.empty(queries, capacity, dtype=torch.int32, device=device),
            torch.empty(queries, capacity, dtype=torch.float64, device=device),
            *counts.unbind(),
        )

    def parts(self) -> tuple[int, ...]:
        """As the module takes it."""
        return *(part.data_ptr() for part in self), *self.passages.shape


class Targets(NamedTuple):
    """Targets of each query in rising order of results."""

    scores: torch.Tensor
    passages: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    beaten: torch.Tensor

    def parts(self) -> tuple[int, ...]:
        """As the module takes it."""
        scores, passages, low, high, beaten = (part.data_ptr() for part in self)
        return scores, passages, low, high, self.scores.shape[1], beaten


class Kernels:
    """The launchers of a module; arguments as in csrc/cuda/*.h, tensors contiguous and on one device."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.most_selected: int = module.MOST_SELECTED

    def where(self, tensor: torch.Tensor) -> tuple[int, int]:
        """Device and stream."""
        if not tensor.is_cuda:  # emulated
            return 0, 0
        return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream

    def scores(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """left right^T in float32: never in TF32, whose rounding exp() would multiply."""
        if left.dtype != torch.float32:
            return wide_product(left, right.T)
        return self.multiply_rows(left, right) if _takes_tf32(left) else left @ right.T

    def multiply_rows(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """left right^T by our own kernel, in float32 multiply-adds."""
        left, right = left.contiguous(), right.contiguous()
        out = left.new_empty(len(left), len(right))
        self.module.multiply_rows(
            self.where(left),
            *(left.data_ptr(), len(left), right.data_ptr(), len(right), left.shape[1], out.data_ptr()),
        )
        return out

    def panel_logsumexp(self, panel: Panel, columns: torch.Tensor | None) -> torch.Tensor:
        """(rows,) float64 over the negatives of each row; the same by column is merged into ``columns``."""
        rows, width = panel.dots.shape
        device = panel.dots.device
        row_tiles = -(-rows // self.module.PANEL_TILE_ROWS)
        column_tiles = -(-width // self.module.PANEL_TILE_COLUMNS)
        row_partials = torch.empty(column_tiles, rows, 2, device=device)
        column_partials = None if columns is None else torch.empty(row_tiles, width, 2, device=device)
        tickets = torch.zeros(row_tiles, dtype=torch.int32, device=device)
        result = torch.empty(rows, dtype=torch.float64, device=device)
        where = self.where(panel.dots)
        self.module.panel_logsumexp(
            where,
            panel.parts(),
            *(row_partials.data_ptr(), tickets.data_ptr(), result.data_ptr(), address(column_partials)),
        )
        if columns is not None:
            self.module.merge_columns(where, address(column_partials), row_tiles, width, columns.data_ptr())
        return result

    def panel_gradient(self, panel: Panel, gradient: Gradient, dtype: torch.dtype) -> torch.Tensor:
        """The gradient of the dots, in place for float32."""
        out = panel.dots if dtype == torch.float32 else torch.empty_like(panel.dots, dtype=dtype)
        parts = (*(address(part) for part in gradient), out.data_ptr(), ROW_TYPES.index(dtype))
        self.module.panel_gradient(self.where(panel.dots), panel.parts(), parts)
        return out

    def exact_norms(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) float64, in the order of summation of scores."""
        norms = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        if len(rows):
            self.module.exact_norms(self.where(rows), matrix(rows), norms.data_ptr())
        return norms

    def append_open(
        self, tile: ScoreTile, threshold: torch.Tensor, filter: tuple[int, ...], lists: Lists
    ) -> None:
        """Appends to the lists the passages of the tile that may reach the thresholds."""
        where = self.where(threshold)
        self.module.append_open(where, tile.parts(), threshold.data_ptr(), filter, lists.parts())

    def score_lists(
        self, queries: torch.Tensor, corpus: torch.Tensor, norms: torch.Tensor | None, lists: Lists
    ) -> None:
        """Scores the entries of the lists that have no score yet."""
        parts = matrix(queries), matrix(corpus), address(norms), lists.parts()
        self.module.score_lists(self.where(queries), *parts)

    def select_best(
        self, lists: Lists, k: int, scale: torch.Tensor, threshold: torch.Tensor, *, sorted: bool
    ) -> None:
        """Leaves the best k in each list and sets the thresholds."""
        where = self.where(scale)
        self.module.select_best(where, lists.parts(), k, scale.data_ptr(), sorted, threshold.data_ptr())

    def count_beaten(self, tile: ScoreTile, targets: Targets, filter: tuple[int, ...], lists: Lists) -> None:
        """Counts what certainly beats targets; what is undecided goes to the lists."""
        where = self.where(tile.scores)
        self.module.count_beaten(where, tile.parts(), targets.parts(), filter, lists.parts())

    def settle_beaten(self, targets: Targets, lists: Lists) -> None:
        """Counts the scored entries of the lists, and empties these."""
        self.module.settle_beaten(self.where(targets.scores), targets.parts(), lists.parts())


def address(tensor: torch.Tensor | None) -> int:
    """Of the first number; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def wide_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left right, summed and returned in float32; half-precision numbers are multiplied as they are."""
    if left.dtype == torch.float32:
        return left @ right
    if (
        left.is_cuda
        and _OUT_DTYPE
        and not getattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", False)
    ):
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()  # exact products in TF32 too, which has the bits of both halves


def _takes_tf32(tensor: torch.Tensor) -> bool:
    """Whether torch multiplies float32 matrices in TF32 where this one lies."""
    settings = torch.backends.cuda.matmul
    if not tensor.is_cuda:
        return False
    if hasattr(settings, "fp32_precision"):  # allow_tf32 cannot be read once this has been set
        return bool(settings.fp32_precision == "tf32")
    return bool(settings.allow_tf32)


@lru_cache(maxsize=1)
def _module() -> tuple[Any, str]:
    try:
        return importlib.import_module("pyhbt._cuda"), ""
    except ImportError as error:
        return None, f"not built into this installation ({error})"


def status() -> Status:
    """Of the CUDA module: devices, versions of driver and runtime (0: none), and the reason why it cannot be used."""
    module, reason = _module()
    if module is None:
        return {"devices": 0, "driver": 0, "runtime": 0, "reason": reason}
    found: Status = module.status()
    return found


@lru_cache(maxsize=1)
def kernels() -> Kernels | None:
    """The kernels, or None, with one warning, where CUDA tensors must take torch's own operations."""
    found = status()
    if found["devices"] > 0:
        return Kernels(_module()[0])
    warnings.warn(
        f"pyhbt's CUDA kernels are not available, {found['reason']}: CUDA tensors take slower torch code",
        RuntimeWarning,
        stacklevel=3,
    )
    return None
