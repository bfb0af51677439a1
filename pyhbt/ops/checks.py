"""Boundary checks that the operations share: arrays to tensors, and errors that show both values.

NumPy arrays and torch tensors are both accepted; a NumPy array is viewed, not copied, where its memory allows.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Array: TypeAlias = "torch.Tensor | npt.NDArray[Any]"

_ROWS_AT_ONCE = 16384


class _WritableView:
    """Makes torch accept a read-only array (a memory map, say) without a copy; the operations never write to it."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def as_tensor(value: Array, name: str) -> torch.Tensor:
    """``value`` as a tensor that shares its memory.

    Raises:
        TypeError: neither a tensor nor an array, or an array of a kind that torch lacks.
    """
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"{name}: found a tensor of layout {value.layout}, expected {torch.strided}")
        return value
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: found {type(value).__name__}, expected a torch tensor or a NumPy array")
    if value.dtype.kind not in "fiub" or not value.dtype.isnative:
        raise TypeError(f"{name}: found dtype {value.dtype}, expected native floating or integer numbers")
    array = np.require(value, requirements=["C", "A"])
    if array.strides != _dense_strides(array):  # of one row or none, where NumPy lets strides be anything
        array = array.copy()
    try:
        return torch.from_numpy(array if array.flags.writeable else np.asarray(_WritableView(array)))
    except TypeError:
        raise TypeError(f"{name}: found dtype {value.dtype}, expected one that torch has") from None


def _dense_strides(array: npt.NDArray[Any]) -> tuple[int, ...]:
    sizes = np.cumprod([array.itemsize, *array.shape[:0:-1]], dtype=np.int64)
    return tuple(int(size) for size in sizes[::-1])[-array.ndim :] if array.ndim else ()


def check_matrix(tensor: torch.Tensor, name: str) -> None:
    """Refuse what is no matrix.

    Raises:
        ValueError: the tensor is not two-dimensional or its rows are empty.
    """
    if tensor.ndim != 2:
        raise ValueError(f"{name}: found {tensor.ndim} dimensions, expected 2 (rows, dim)")
    if tensor.shape[1] == 0:
        raise ValueError(f"{name}: found dim 0, expected at least 1")


def check_same_dim(tensor: torch.Tensor, name: str, other: torch.Tensor, other_name: str) -> None:
    """Refuse two matrices whose rows differ in length.

    Raises:
        ValueError: they do.
    """
    if tensor.shape[1] != other.shape[1]:
        raise ValueError(
            f"{name}: found dim {tensor.shape[1]}, expected {other.shape[1]} (the dim of {other_name})"
        )


def check_integers(tensor: torch.Tensor, name: str) -> None:
    """Refuse other numbers than int64.

    Raises:
        TypeError: another dtype.
    """
    if tensor.dtype != torch.int64:
        raise TypeError(f"{name}: found dtype {tensor.dtype}, expected {torch.int64}")


def check_length(tensor: torch.Tensor, name: str, length: int, what: str) -> None:
    """Refuse what is not one number for each ``what``.

    Raises:
        ValueError: the tensor is not a vector of ``length`` entries.
    """
    if tensor.ndim != 1 or tensor.shape[0] != length:
        raise ValueError(
            f"{name}: found shape {tuple(tensor.shape)}, expected ({length},) (one for each {what})"
        )


def check_indices(tensor: torch.Tensor, name: str, count: int, what: str) -> None:
    """Entries must be -1 or an index below ``count``.

    Raises:
        ValueError: names the first bad row and its value.
    """
    bad = (tensor < -1) | (tensor >= count)
    if bool(bad.any()):
        row = int(bad.reshape(bad.shape[0], -1).any(dim=1).nonzero()[0, 0])
        value = int(tensor[row][bad[row]].reshape(-1)[0])
        raise ValueError(
            f"{name}: found {value} in row {row}, expected -1 or an index below {count} (the number of {what})"
        )


def check_finite(tensor: torch.Tensor, name: str) -> None:
    """Refuse a matrix with a NaN or an infinity.

    Raises:
        ValueError: there is one; names its row, the first.
    """
    for start in range(0, len(tensor), _ROWS_AT_ONCE):
        rows = tensor[start : start + _ROWS_AT_ONCE]
        finite = (
            (rows.float() if rows.element_size() == 1 else rows).isfinite().all(dim=1)
        )  # torch lacks float8's
        if not bool(finite.all()):
            row = start + int((~finite).nonzero()[0, 0])
            raise ValueError(f"{name}: row {row} holds a NaN or an infinity, expected finite numbers")


def check_finite_positive(value: float, name: str) -> None:
    """Refuse a number that is not finite or not above 0.

    Raises:
        ValueError: it is not.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: found {value}, expected a finite number above 0")
