"""How much every cluster of queries moved a study's final means, read back from its cells and checked.

``cells/*/measured/*/scores.npz`` hold them, by macro mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyhbt.reading import naming, read_arrays
from pyhbt.study.cells import Cell, measured_parts
from pyhbt.study.tuning import study_cells

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


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
    arrays = read_arrays(path)
    if "clusters" not in arrays or arrays["clusters"].ndim != 1:
        raise ValueError(f"{path}: clusters: missing, expected the names of clusters of queries")
    with naming(path, "names of clusters"):
        names = [str(name) for name in arrays.pop("clusters")]
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: clusters: found {len(names)} names, {len(set(names))} of them distinct")
    for name, scores in arrays.items():
        if scores.shape != (len(names),) or scores.dtype.kind != "f" or not np.isfinite(scores).all():
            found = f"{scores.dtype} {scores.shape}"
            raise ValueError(f"{path}: {name}: found {found}, expected finite float64 ({len(names)},)")
    return names, {name: scores.astype(np.float64) for name, scores in arrays.items()}
