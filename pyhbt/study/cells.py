"""Cells of a study, an arm with a seed each, and the folders that hold them.

A cell is a folder below OUT/cells that says itself what it is; the folder's name is for people and never read:

* ``cell.json``: arm, seed, steps, and what else decides the training (:mod:`pyhbt.study.description`);
* ``rows.jsonl``: the learning curve, and what the training saw;
* ``exposure.json``: what the training saw, in full;
* ``train.jsonl``: the training log;
* ``encoder/``: the trained encoder, where it is kept;
* ``measured/NAME/``: one test set each: ``measured.json`` (what was measured), ``rows.jsonl``, ``scores.npz``.

The folder and each of ``measured/NAME`` are written whole or not at all, and sealed (:mod:`pyhbt.seals`): one that was
damaged later counts as not there. Cells of 0.1 have their test rows in
``rows.jsonl``, and scores by question instead of influences. Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pyhbt.seals import MANIFEST, fault, seal
from pyhbt.study.arms import Arm
from pyhbt.training.exposure import Exposure

CELL = "cell.json"
ROWS = "rows.jsonl"
ENCODER = "encoder"
MEASURED = "measured"
EXPOSURE = "exposure.json"


class Cell(NamedTuple):
    """One training of a study."""

    arm: Arm
    seed: int

    @property
    def folder_name(self) -> str:
        """A name for people."""
        return f"arm={_readable(self.arm.label)},seed={self.seed}"

    @property
    def called(self) -> str:
        """The cell in a sentence."""
        return f"{self.arm.called} seed {self.seed}"

    def sign(self, folder: Path, **described: Any) -> None:
        """Say in a cell's folder which cell it is, and what else is ``described``."""
        record = {"arm": self.arm.label, "seed": self.seed, **described}
        (folder / CELL).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _readable(label: str) -> str:
    """A name of a folder; a label that file systems dislike is written otherwise, with its digest."""
    name = re.sub(r"[^A-Za-z0-9.:@,=+-]", "_", label)[:80]
    if name != label:
        name += "~" + hashlib.blake2b(label.encode(), digest_size=4).hexdigest()
    return name


def part_folder(folder: Path, split: str) -> Path:
    """Where what was measured on a test set lies in a cell's folder; the name is for people."""
    return folder / MEASURED / _readable(split)


def arm_of(record: dict[str, Any]) -> Arm:
    """The arm of a row or a cell; called ``ratio`` in files of 0.1.

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
    """The whole cells of a study's folder and where each lies, by what is inside; reads their files.

    Raises:
        ValueError: a folder that does not say which cell it is, or two of the same; names files and field.
    """
    found: dict[Cell, Path] = {}
    for folder in _folders(out):
        if (folder / ROWS).is_file() and _fault(folder) is None:
            cell = _read(folder)
            if cell in found:
                raise ValueError(f"{folder}: {cell.called}: found in {found[cell]} too, expected it once")
            found[cell] = folder
    return found


def seal_cell(folder: Path) -> None:
    """Seal a cell that is written: its own files, the kept encoder, each part."""
    for part in (folder / ENCODER, *(folder / MEASURED).glob("*")):
        if part.is_dir():
            seal(part)
    seal(folder, below=False)


def whole_encoder(folder: Path) -> bool:
    """Whether a cell has its encoder, undamaged; what is wrong is said where a cell is looked through."""
    return (folder / ENCODER).is_dir() and _fault(folder / ENCODER, folder) is None


def damaged(out: Path) -> dict[Path, str]:
    """What does not count of a study's cells, and why: cells, their parts and encoders that were damaged."""
    found = {}
    for folder in _folders(out):
        wrong = _fault(folder)
        if wrong is not None:
            found[folder] = wrong
            continue
        for part in (folder / ENCODER, *sorted((folder / MEASURED).glob("*"))):
            if part.is_dir() and not part.name.startswith("."):
                wrong = _fault(part, folder)
                if wrong is not None:
                    found[part] = wrong
    return found


def _folders(out: Path) -> list[Path]:
    return sorted(
        path for path in (out / "cells").glob("*") if path.is_dir() and not path.name.startswith(".")
    )


def _fault(folder: Path, cell: Path | None = None) -> str | None:
    """What is wrong with a cell, or a part of one; None of what earlier versions wrote, which sealed nothing."""
    if (folder / MANIFEST).is_file():
        return fault(folder)
    if cell is not None:
        return fault(folder) if (cell / MANIFEST).is_file() else None
    try:
        record = json.loads((folder / CELL).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return fault(folder) if isinstance(record, dict) and record.get("sealed") is True else None


def described(folder: Path) -> dict[str, Any]:
    """All that a cell says of itself; {} of cells of 0.1."""
    path = folder / CELL
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    return record if isinstance(record, dict) else {}


def measured_parts(folder: Path) -> dict[str, Path]:
    """The test sets that a cell was measured on, by split (``test``, ``test:NAME``), and where each lies; whole ones.

    Raises:
        ValueError: a part does not say of what it is; names the file.
    """
    parts = {}
    for path in sorted((folder / MEASURED).glob("*/measured.json")):
        if path.parent.name.startswith(".") or _fault(path.parent, folder) is not None:
            continue
        try:
            parts[str(json.loads(path.read_text(encoding="utf-8"))["split"])] = path.parent
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: split: found none that can be read ({error!r})") from None
    return parts


def _read(folder: Path) -> Cell:
    """The cell of a folder: what it is signed as, or, in studies of 0.1, what its first row says."""
    path = folder / CELL
    try:
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
        else:
            path = folder / ROWS
            with path.open(encoding="utf-8") as lines:
                record = json.loads(next(lines))
        if type(record["seed"]) is not int:
            raise ValueError(f"seed {record['seed']!r}")
        return Cell(arm_of(record), record["seed"])
    except (StopIteration, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: arm, seed: found none that can be read ({error})") from None


def write_exposure(folder: Path, exposure: Exposure) -> None:
    """Write in a cell's folder what its training saw."""
    (folder / EXPOSURE).write_text(json.dumps(exposure.state()) + "\n", encoding="utf-8")


def read_exposure(folder: Path) -> Exposure | None:
    """What the training of a cell saw; None of cells of 0.1, which do not say.

    Raises:
        ValueError: the file cannot be read; names it.
    """
    path = folder / EXPOSURE
    if not path.is_file():
        return None
    try:
        return Exposure.restore(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: found no counts of batches ({error!r})") from None
