"""Two factors: what each does on its own, and whether one's effect depends on the other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyhbt.study.statistics.contrasts import Endpoint, Estimate, contrast


class Factorial(NamedTuple):
    """Effects of two factors, as contrasts of arms.

    ``first[i]`` is level i + 1 of the first factor minus its level 0, averaged over the levels of the second;
    ``second`` likewise. ``interaction`` is the effect of the first factor's last level against its first at the
    second's last level, minus the same at the second's first.
    """

    first: tuple[Estimate, ...]
    second: tuple[Estimate, ...]
    interaction: Estimate


def two_factors(endpoint: Endpoint, grid: NDArray[np.int64]) -> Factorial:
    """Effects over a full grid of arms; ``grid`` int64 (i, j) holds the arm of each pair of levels.

    Raises:
        ValueError: fewer than two levels of a factor.
    """
    rows, columns = grid.shape
    if rows < 2 or columns < 2:
        raise ValueError(f"grid: found {rows} x {columns} levels, expected two of each factor at least")
    arms = len(endpoint.means)

    def effect(plus: NDArray[np.int64], minus: NDArray[np.int64]) -> NDArray[np.float64]:
        weights = np.zeros(arms)
        np.add.at(weights, plus.reshape(-1), 1 / plus.size)
        np.add.at(weights, minus.reshape(-1), -1 / minus.size)
        return weights

    last = effect(grid[-1, -1:], grid[0, -1:])
    return Factorial(
        tuple(contrast(endpoint, effect(grid[row], grid[0])) for row in range(1, rows)),
        tuple(contrast(endpoint, effect(grid[:, column], grid[:, 0])) for column in range(1, columns)),
        contrast(endpoint, last - effect(grid[-1, :1], grid[0, :1])),
    )
