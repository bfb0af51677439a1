"""How much every cluster of queries moved a study's final means, read back from its cells and checked.

``cells/*/measured/*/scores.npz`` hold them, by macro mean.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyhbt.study.cells import Cell, measured_parts
from pyhbt.study.tuning import study_cells

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


_MOST_PACKED = 1032  # times that deflate makes data smaller
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    MemoryError,
    NotImplementedError,
    KeyError,
    SyntaxError,
    OverflowError,
    RuntimeError,
    struct.error,
    AttributeError,
    TypeError,
    UnicodeError,
)


@dataclass(frozen=True)
class Influences:
    """How much every cluster of queries moved the final macro means, by cell, on one test set.

    ``cells[cell][name]`` is float64 (c,), in the order of ``clusters``, and sums to 0; it lies beside the macro mean of
    the same name. Names are ``centring/setting/tier/metric``.
    """

    clusters: tuple[str, ...]
    cells: Mapping[Cell, Mapping[str, NDArray[np.float64]]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that any cell has, sorted."""
        return tuple(sorted({name for scores in self.cells.values() for name in scores}))


def load_influences(out: Path, split: str = "test") -> Influences:
    """Read the influences of every cell that was measured on a test set, aligned by cluster.

    Raises:
        ValueError: a file is malformed or damaged; names it.
    """
    raw: dict[Cell, tuple[list[str], dict[str, NDArray[np.float64]]]] = {}
    for cell, folder in study_cells(out).items():
        part = measured_parts(folder).get(split)
        if part is not None:
            raw[cell] = _read_scores(part / "scores.npz")
    clusters = sorted({name for names, _ in raw.values() for name in names})
    position = {name: place for place, name in enumerate(clusters)}
    cells = {}
    for cell, (names, columns) in raw.items():
        index = [position[name] for name in names]
        cells[cell] = {name: _spread(scores, index, len(clusters)) for name, scores in columns.items()}
    return Influences(tuple(clusters), cells)


def _spread(scores: NDArray[np.float64], index: list[int], size: int) -> NDArray[np.float64]:
    """``scores`` at ``index`` of an array (size,) that is 0 elsewhere."""
    aligned = np.zeros(size)
    aligned[index] = scores
    return aligned


def _read_scores(path: Path) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """Clusters and columns of one scores.npz."""
    try:
        _check_sizes(path)
        return _columns(path)
    except _UNREADABLE as error:
        raise ValueError(f"{path}: damaged, expected arrays of numpy ({error!r})") from None


def _check_sizes(path: Path) -> None:
    """Refuse an archive whose arrays are said to be larger than their bytes, before any is made room for.

    Raises:
        ValueError: one is; names the file.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(stream)
                said = math.prod(shape) * dtype.itemsize + stream.tell()
            if dtype.hasobject or min(shape, default=0) < 0 or said != member.file_size:
                raise ValueError(
                    f"{path}: {member.filename}: found {dtype} {shape} in {member.file_size} bytes"
                )
            if member.file_size > _MOST_PACKED * (path.stat().st_size + 1):
                raise ValueError(
                    f"{path}: {member.filename}: found {member.file_size} bytes, more than it can hold"
                )


def _columns(path: Path) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    with np.load(path, allow_pickle=False) as arrays:
        if "clusters" not in arrays:
            raise ValueError(f"{path}: clusters: missing, expected the names of clusters of queries")
        names = [str(name) for name in arrays["clusters"]]
        if len(set(names)) != len(names):
            raise ValueError(
                f"{path}: clusters: found {len(names)} names, {len(set(names))} of them distinct"
            )
        columns = {}
        for name in arrays.files:
            if name == "clusters":
                continue
            scores = arrays[name]
            if scores.shape != (len(names),) or scores.dtype.kind != "f" or not np.isfinite(scores).all():
                found = f"{scores.dtype} {scores.shape}"
                raise ValueError(f"{path}: {name}: found {found}, expected finite float64 ({len(names)},)")
            columns[name] = scores.astype(np.float64)
    return names, columns
