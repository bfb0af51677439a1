"""The door to the CUDA module: tensors in, launches on torch's current stream out.

The module has no libtorch, so that one build serves every torch: it takes addresses. Loading it touches no device.
"""

from __future__ import annotations

import importlib
import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from pyhbt.ops._native import build_info
from pyhbt.ops.codes import matrix
from pyhbt.ops.dtypes import DTYPES
from pyhbt.ops.filters import CheckedFilter

_OUT_DTYPE = hasattr(torch.ops.aten.mm, "dtype_out") and hasattr(torch.ops.aten.addmm, "dtype_out")
Status = dict[str, Any]
Struct = dict[str, Any]
"""Of csrc/cuda/*.h, by the names of its members."""


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

    def native(self) -> Struct:
        """As the module takes it."""
        rows, columns = self.dots.shape
        return {"rows": rows, "columns": columns, **_addresses(self)}


class Gradient(NamedTuple):
    """What the gradients of a panel are made of."""

    row_reference: torch.Tensor
    row_weight: torch.Tensor
    own: torch.Tensor
    column_logsumexp: torch.Tensor | None
    """(columns,) float64."""
    column_weight: torch.Tensor | None
    gain: torch.Tensor | None

    def native(self, out: torch.Tensor) -> Struct:
        """As the module takes it, to be written to ``out``."""
        return {"out": out.data_ptr(), "dtype": DTYPES[out.dtype], **_addresses(self)}


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

    def native(self) -> Struct:
        """As the module takes it."""
        queries, columns = self.scores.shape
        return {"queries": queries, "first": self.first, "columns": columns, **_addresses(self)}


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

    def native(self) -> Struct:
        """As the module takes it."""
        queries, capacity = self.passages.shape
        return {"queries": queries, "capacity": capacity, **_addresses(self)}


class Targets(NamedTuple):
    """Targets of each query in rising order of results."""

    scores: torch.Tensor
    passages: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    beaten: torch.Tensor

    def native(self) -> Struct:
        """As the module takes it."""
        return {"count": self.scores.shape[1], **_addresses(self)}


class Kernels:
    """The launchers of a module; arguments as in csrc/cuda/*.h, tensors contiguous and on one device."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.most_selected: int = module.MOST_SELECTED

    def launch(self, name: str, at: torch.Tensor, **arguments: Any) -> None:
        """One kernel where ``at`` lies, on torch's current stream there; nothing waits.

        torch makes the device current meanwhile: it alone goes back without making a context on the former one.
        """
        run = getattr(self.module, name)
        if not at.is_cuda:  # emulated
            run(where={"device": 0, "stream": 0}, **arguments)
            return
        with torch.cuda.device(at.device):
            stream = torch.cuda.current_stream(at.device).cuda_stream
            run(where={"device": at.device.index, "stream": stream}, **arguments)

    def scores(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """left right^T in float32: never in TF32, whose rounding exp() would multiply."""
        if left.dtype != torch.float32:
            return wide_product(left, right.T)
        return self.multiply_rows(left, right) if _takes_tf32(left) else left @ right.T

    def multiply_rows(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """left right^T by our own kernel, in float32 multiply-adds."""
        left, right = left.contiguous(), right.contiguous()
        out = left.new_empty(len(left), len(right))
        self.launch(
            "multiply_rows",
            left,
            left=left.data_ptr(),
            rows=len(left),
            right=right.data_ptr(),
            columns=len(right),
            dim=left.shape[1],
            out=out.data_ptr(),
        )
        return out

    def ticket_count(self, rows: int) -> int:
        """Of what :meth:`panel_logsumexp` needs for panels of up to so many rows."""
        return -(-rows // int(self.module.PANEL_TILE_ROWS))

    def panel_logsumexp(
        self,
        panel: Panel,
        rows_out: torch.Tensor,
        columns: torch.Tensor | None,
        tickets: torch.Tensor,
        *,
        first: bool,
    ) -> None:
        """Over the negatives of each row into ``rows_out`` (rows,) float64; by column merged into ``columns``, which
        are not read where this is the first panel.

        ``tickets`` int32 are zero before and after (:meth:`ticket_count`).
        """
        rows, width = panel.dots.shape
        device = panel.dots.device
        row_tiles = self.ticket_count(rows)
        column_tiles = -(-width // self.module.PANEL_TILE_COLUMNS)
        row_partials = torch.empty(column_tiles, rows, 2, device=device)
        column_partials = None if columns is None else torch.empty(row_tiles, width, 2, device=device)
        sums = {
            "row_partials": row_partials.data_ptr(),
            "row_tickets": tickets.data_ptr(),
            "row_logsumexp": rows_out.data_ptr(),
            "column_partials": address(column_partials),
        }
        self.launch("panel_logsumexp", panel.dots, panel=panel.native(), out=sums)
        if columns is not None:
            self.launch(
                "merge_columns",
                panel.dots,
                partials=address(column_partials),
                row_tiles=row_tiles,
                columns=width,
                first=first,
                logsumexp=columns.data_ptr(),
            )

    def panel_gradient(self, panel: Panel, gradient: Gradient, dtype: torch.dtype) -> torch.Tensor:
        """The gradient of the dots, in place for float32."""
        out = panel.dots if dtype == torch.float32 else torch.empty_like(panel.dots, dtype=dtype)
        self.launch(
            "panel_gradient",
            panel.dots,
            panel=panel.native(),
            gradient=gradient.native(out),
        )
        return out

    def exact_norms(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) float64, in the order of summation of scores."""
        norms = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
        if len(rows):
            self.launch("exact_norms", rows, rows=matrix(rows), norms=norms.data_ptr())
        return norms

    def append_open(
        self, tile: ScoreTile, threshold: torch.Tensor, filter: CheckedFilter, lists: Lists
    ) -> None:
        """Appends to the lists the passages of the tile that may reach the thresholds."""
        self.launch(
            "append_open",
            threshold,
            tile=tile.native(),
            threshold=threshold.data_ptr(),
            filter=filter.native(),
            lists=lists.native(),
        )

    def score_lists(
        self, queries: torch.Tensor, corpus: torch.Tensor, norms: torch.Tensor | None, lists: Lists
    ) -> None:
        """Scores the entries of the lists that have no score yet."""
        self.launch(
            "score_lists",
            queries,
            queries=matrix(queries),
            corpus=matrix(corpus),
            norms=address(norms),
            lists=lists.native(),
        )

    def select_best(
        self, lists: Lists, k: int, scale: torch.Tensor, threshold: torch.Tensor, *, sorted: bool
    ) -> None:
        """Leaves the best k in each list and sets the thresholds."""
        self.launch(
            "select_best",
            scale,
            lists=lists.native(),
            k=k,
            scale=scale.data_ptr(),
            sorted=sorted,
            threshold=threshold.data_ptr(),
        )

    def count_beaten(self, tile: ScoreTile, targets: Targets, filter: CheckedFilter, lists: Lists) -> None:
        """Counts what certainly beats targets; what is undecided goes to the lists."""
        self.launch(
            "count_beaten",
            tile.scores,
            tile=tile.native(),
            targets=targets.native(),
            filter=filter.native(),
            lists=lists.native(),
        )

    def settle_beaten(self, targets: Targets, lists: Lists) -> None:
        """Counts the scored entries of the lists, and empties these."""
        self.launch(
            "settle_beaten",
            targets.scores,
            targets=targets.native(),
            lists=lists.native(),
        )


def address(tensor: torch.Tensor | None) -> int:
    """Of the first number; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def _addresses(parts: NamedTuple) -> dict[str, int]:
    """Of the tensors, by their names, which are those of the struct in csrc/cuda."""
    named = parts._asdict().items()
    return {name: address(part) for name, part in named if part is None or isinstance(part, torch.Tensor)}


def _multiplies_wide(left: torch.Tensor) -> bool:
    """Whether torch multiplies these half-precision numbers into float32, summed there."""
    settings = torch.backends.cuda.matmul
    return left.is_cuda and _OUT_DTYPE and not getattr(settings, "allow_fp16_accumulation", False)


def wide_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left right, summed and returned in float32; half-precision numbers are multiplied as they are."""
    if left.dtype == torch.float32:
        return left @ right
    if _multiplies_wide(left):
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()  # exact products in TF32 too, which has the bits of both halves


def multiply_into(out: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, add: bool) -> None:
    """As :func:`wide_product`, written or added to ``out``, which is read once where it is added to."""
    if left.dtype != torch.float32 and _multiplies_wide(left):
        if add:
            torch.addmm(out, left, right, out_dtype=torch.float32, out=out)
        else:
            torch.mm(left, right, out_dtype=torch.float32, out=out)
    elif add:
        out.addmm_(left.float(), right.float())
    else:
        torch.mm(left.float(), right.float(), out=out)


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


def runs_on(architectures: str, capability: tuple[int, int]) -> bool:
    """Whether code built for ``architectures`` ("80 86-real") runs on a device of this compute capability.

    Machine code ("-real") runs on its own generation from its own number on; PTX, which a plain number and "-virtual"
    hold, is compiled for every later device.
    """
    for name in architectures.split():
        number, _, kind = name.partition("-")
        built = divmod(int(number.rstrip("af")), 10)
        if built <= capability and (kind != "real" or built[0] == capability[0]):
            return True
    return False


@lru_cache(maxsize=1)
def _module_kernels() -> Kernels:
    return Kernels(_module()[0])


@lru_cache(maxsize=16)
def kernels(device: torch.device) -> Kernels | None:
    """The kernels for tensors of ``device``, or None, with one warning, where they must take torch's own operations."""
    found = status()
    reason = found["reason"]
    if found["devices"] > 0:
        architectures = build_info()["cuda"].partition(", sm ")[2]
        capability = torch.cuda.get_device_capability(device)
        if runs_on(architectures, capability):
            return _module_kernels()
        reason = f"{device} has compute capability {capability[0]}.{capability[1]}, built for {architectures}"
    warnings.warn(
        f"pyhbt's CUDA kernels are not available, {reason}: CUDA tensors take slower torch code",
        RuntimeWarning,
        stacklevel=3,
    )
    return None
