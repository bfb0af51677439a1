"""What an index can be built from, as blocks of rows: arrays, columns of ``datasets``, iterators of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from pyhbt.ops import checks
from pyhbt.ops.checks import Array
from pyhbt.ops.exact import with_dense_rows
from pyhbt.ops.search_checks import check_vectors

Source: TypeAlias = "Array | Sequence[Any] | Iterable[Array]"

BLOCK_ROWS = 16384


def as_matrix(value: Any, name: str) -> torch.Tensor:
    """``value`` as a checked matrix; an array or tensor on the CPU is viewed, a list of rows becomes float32.

    Raises:
        TypeError: as for the corpus of :func:`pyhbt.search`.
        ValueError: likewise.
    """
    if not isinstance(value, (torch.Tensor, np.ndarray)):
        try:
            value = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: found {type(value).__name__}, expected rows of numbers") from None
    tensor = checks.as_tensor(value, name).detach()
    check_vectors(tensor, name)
    return with_dense_rows(tensor.cpu())


def is_matrix(source: Source) -> bool:
    """Whether the source is one array or tensor, which an index refers to instead of copying it."""
    return isinstance(source, (torch.Tensor, np.ndarray))


def read_only(source: Source) -> bool:
    """Whether it is an array that must not be written to."""
    return isinstance(source, np.ndarray) and not source.flags.writeable


def as_read_only(vectors: torch.Tensor) -> Array:
    """An array over the memory of vectors that must not be written to; a copy of a dtype that NumPy lacks."""
    if vectors.dtype.is_floating_point and vectors.dtype not in (torch.float32, torch.float16):
        return vectors.clone()
    array = vectors.numpy()
    array.flags.writeable = False
    return array


def blocks(source: Source) -> Iterator[torch.Tensor]:
    """The rows of any source in blocks.

    Raises:
        TypeError: a source of another kind; and as :func:`as_matrix` does, by the number of the block.
    """
    if isinstance(source, (torch.Tensor, np.ndarray)):
        matrix = as_matrix(source, "corpus")
        for start in range(0, max(1, len(matrix)), BLOCK_ROWS):  # a block even of none, for its dim
            yield matrix[start : start + BLOCK_ROWS]
    elif isinstance(source, Sequence) and not isinstance(source, (str, bytes)) and not _holds_blocks(source):
        for start in range(0, len(source), BLOCK_ROWS):  # a column of datasets, or a list of rows
            yield as_matrix(source[start : start + BLOCK_ROWS], f"corpus: rows from {start}")
    elif isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        for number, block in enumerate(source):
            name = f"corpus: block {number}"
            yield as_matrix(np.copy(block) if read_only(block) else block, name)
    else:
        raise TypeError(
            f"corpus: found {type(source).__name__}, expected an array, a tensor, a column of a dataset or an "
            "iterable of blocks (rows, dim)"
        )


def _holds_blocks(source: Sequence[Any]) -> bool:
    return len(source) > 0 and getattr(source[0], "ndim", 0) == 2
