"""Influences of clusters, read back from cells and checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell, part_folder
from pyhbt.study.influences import load_influences

if TYPE_CHECKING:
    from pathlib import Path


def save_scores(folder: Path, cell: Cell, arrays: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").touch()
    cell.sign(folder)
    part = part_folder(folder, "test")
    part.mkdir(parents=True)
    (part / "measured.json").write_text('{"split": "test"}')
    np.savez(part / "scores.npz", **arrays)


def test_influences_are_aligned(tmp_path: Path) -> None:
    third = Arm.parse(1 / 3)
    for cell, clusters, moved in (
        (Cell(Arm.parse(0), 0), ["a", "b"], [0.1, -0.1]),
        (Cell(Arm.parse(0), 1), ["b", "a"], [0.4, -0.4]),
        (Cell(third, 1), ["c", "b"], [0.5, -0.5]),
    ):
        arrays = {"clusters": np.array(clusters), "none/x": np.array(moved)}
        save_scores(tmp_path / "cells" / f"any name {cell.arm} {cell.seed}", cell, arrays)
    found = load_influences(tmp_path)
    assert found.clusters == ("a", "b", "c")
    assert found.names == ("none/x",)
    np.testing.assert_array_equal(found.cells[Cell(Arm.parse(0), 1)]["none/x"], [-0.4, 0.4, 0])
    np.testing.assert_array_equal(found.cells[Cell(third, 1)]["none/x"], [0, -0.5, 0.5])
    assert load_influences(tmp_path, "test:other").cells == {}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": [0.1]}, "clusters: missing"),
        ({"clusters": ["a", "a"]}, "clusters: found 2 names, 1 of them distinct"),
        (
            {"clusters": ["a"], "x": [0.1, 0.2]},
            r"x: found float64 \(2,\), expected finite float64 \(1,\)",
        ),
        ({"clusters": ["a"], "x": [math.nan]}, r"x: found float64 \(1,\), expected finite"),
    ],
)
def test_bad_influences_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    save_scores(tmp_path / "cells/one", Cell(Arm.parse(0), 0), arrays)
    with pytest.raises(ValueError, match=rf"scores\.npz: {message}"):
        load_influences(tmp_path)
