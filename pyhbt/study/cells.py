"""Cells of a study, an arm with a seed each, and the folders that hold the finished ones.

A finished cell is a folder below OUT/cells, written whole or not at all:

* ``cell.json``: which arm and seed it is of; the folder's name is for people and never read;
* ``rows.jsonl``: its measurements;
* ``scores.npz``: final scores by question, for paired tests;
* ``train.jsonl``: the training log;
* ``batches.json``: what the batches of the training held.

Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pyhbt.study.arms import Arm
from pyhbt.training.exposure import Exposure

_CELL = "cell.json"
_ROWS = "rows.jsonl"
_BATCHES = "batches.json"


class Cell(NamedTuple):
    """One training of a study."""

    arm: Arm
    seed: int

    @property
    def folder_name(self) -> str:
        """A name for people; a label that file systems dislike is written otherwise, with its digest."""
        name = re.sub(r"[^A-Za-z0-9.:@,=+-]", "_", self.arm.label)[:80]
        if name != self.arm.label:
            name += "~" + hashlib.blake2b(self.arm.label.encode(), digest_size=4).hexdigest()
        return f"arm={name},seed={self.seed}"

    def sign(self, folder: Path) -> None:
        """Say in a cell's folder which cell it is."""
        record = {"arm": self.arm.label, "seed": self.seed}
        (folder / _CELL).write_text(json.dumps(record) + "\n", encoding="utf-8")


def arm_of(record: dict[str, Any]) -> Arm:
    """The arm of a row or a cell; called ``ratio`` in files before 0.2.

    Raises:
        ValueError: there is none, or it is no arm.
    """
    spec = record.get("arm", record.get("ratio"))
    if spec is None or isinstance(spec, bool) or not isinstance(spec, (int, float, str)):
        raise ValueError(f"arm: found {spec!r}, expected a ratio in [0, 1] or an arm")
    return _arm(spec)


@cache
def _arm(spec: float | str) -> Arm:
    """Read once, however many rows name it."""
    return Arm.parse(spec)


def finished_cells(out: Path) -> dict[Cell, Path]:
    """The finished cells of a study's folder and where each lies, by what is inside; O(cells).

    Raises:
        ValueError: a folder that does not say which cell it is; names file and field.
    """
    folders = sorted(path.parent for path in (out / "cells").glob(f"*/{_ROWS}"))
    return {_read(folder): folder for folder in folders if not folder.name.startswith(".")}


def _read(folder: Path) -> Cell:
    """The cell of a folder: what it is signed as, or, in studies before 0.2, what its first row says."""
    path = folder / _CELL
    if not path.is_file():
        path = folder / _ROWS
    try:
        with path.open(encoding="utf-8") as lines:
            record = json.loads(next(lines))
        return Cell(arm_of(record), int(record["seed"]))
    except (StopIteration, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: arm, seed: found none that can be read ({error})") from None


def write_exposure(folder: Path, exposure: Exposure) -> None:
    """Write in a cell's folder what the batches of its training held."""
    (folder / _BATCHES).write_text(json.dumps(exposure.state()) + "\n", encoding="utf-8")


def exposures(out: Path) -> dict[Cell, Exposure]:
    """What the batches of the finished cells held; cells before 0.2 do not say.

    Raises:
        ValueError: a file cannot be read; names it.
    """
    found = {}
    for cell, folder in finished_cells(out).items():
        path = folder / _BATCHES
        if path.is_file():
            try:
                found[cell] = Exposure.restore(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}: found no counts of batches ({error!r})") from None
    return found
