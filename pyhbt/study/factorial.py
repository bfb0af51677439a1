"""Two factors among a study's arms: the ratio, and what arms of every ratio do otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyhbt.study.arms import Arm


@dataclass(frozen=True)
class Grid:
    """Arms of ``ratios`` x ``changes``; ``arms[i][j]`` has ratio i and change j, the first of which may be none."""

    ratios: tuple[float, ...]
    changes: tuple[str, ...]
    arms: tuple[tuple[Arm, ...], ...]

    def places(self, arms: Sequence[Arm]) -> NDArray[np.int64]:
        """Where each stands among ``arms``, int64 (ratios, changes)."""
        return np.array([[arms.index(arm) for arm in row] for row in self.arms], dtype=np.int64)


def factor_grid(arms: Sequence[Arm]) -> Grid | None:
    """A full grid of constant ratios and changes, the larger one of two; None where there is no 2 x 2.

    Ratios are those of one change, or those that all changes have.
    """
    found: dict[str, dict[float, Arm]] = {}
    for arm in arms:
        if arm.ratio.kind == "constant" and arm.parents is None:
            change = arm.label.partition("+")[2]
            found.setdefault(change, {})[arm.ratio.bounds[0]] = arm
    grids = [grid for base in found.values() if (grid := _over(tuple(sorted(base)), found)) is not None]
    shared = tuple(sorted(set.intersection(*(set(by_ratio) for by_ratio in found.values())))) if found else ()
    if (grid := _over(shared, found)) is not None:
        grids.append(grid)
    return max(grids, key=_size, default=None)


def _over(ratios: tuple[float, ...], found: dict[str, dict[float, Arm]]) -> Grid | None:
    """The grid of these ratios and of all changes that have each of them."""
    changes = tuple(sorted(change for change, by_ratio in found.items() if set(ratios) <= by_ratio.keys()))
    if len(ratios) < 2 or len(changes) < 2:
        return None
    return Grid(ratios, changes, tuple(tuple(found[change][ratio] for change in changes) for ratio in ratios))


def _size(grid: Grid) -> int:
    return len(grid.ratios) * len(grid.changes)
