"""Grids of ratios and changes among arms."""

from __future__ import annotations

from pyhbt.study.arms import Arm
from pyhbt.study.factorial import factor_grid


def arms(*specs: float | str) -> list[Arm]:
    return sorted(map(Arm.parse, specs))


def test_a_full_grid_is_found() -> None:
    found = arms(0, 1, "0+negatives=mixed", "1+negatives=mixed", "linear:0:1", 0.5)
    grid = factor_grid(found)
    assert grid is not None
    assert (grid.ratios, grid.changes) == ((0, 1), ("", "negatives=mixed"))
    assert [[arm.label for arm in row] for row in grid.arms] == [
        ["0", "0+negatives=mixed"],
        ["1", "1+negatives=mixed"],
    ]
    places = grid.places(found)
    assert [[found[place] for place in row] for row in places] == [list(row) for row in grid.arms]


def test_the_larger_grid_is_taken() -> None:
    found = arms(0, 0.5, 1, "0+js=1", "0.5+js=1", "1+js=1", "0+symmetric", "1+symmetric")
    grid = factor_grid(found)
    assert grid is not None
    assert (grid.ratios, grid.changes) == ((0, 0.5, 1), ("", "js=1"))


def test_no_grid() -> None:
    assert factor_grid([]) is None
    assert factor_grid(arms(0, 0.5, 1)) is None
    assert factor_grid(arms(0, 1, "0+js=1")) is None
    assert factor_grid(arms("linear:0:1", "linear:0:1+js=1")) is None
