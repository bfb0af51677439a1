"""Rows of a study: measurements as JSON objects, one a line; what each must hold, and all cells' in one file.

Imports nothing heavy.
"""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any, Final

from pyhbt.evaluation.names import (
    ALL_SETTINGS,
    ALL_TIERS,
    CENTRINGS,
    MAX_RANK,
    RANK_CORRELATION,
    RANK_DISTANCE,
)
from pyhbt.files import write_atomically
from pyhbt.study.cells import ROWS, arm_of, measured_parts
from pyhbt.study.tuning import choices, study_cells

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "centring": CENTRINGS,
    "setting": (*ALL_SETTINGS, "all"),
    "tier": ALL_TIERS,
}
_SPLITS: Final = ("train", "dev", "test")  # and "test:NAME" of further test sets
TEXT_KEYS: Final = ("split", "centring", "setting", "query_lang", "passage_lang", "tier", "metric")
CODED_KEYS: Final = ("arm", "seed", "step", *TEXT_KEYS)
_RANGES: Final = {
    RANK_DISTANCE: (0.0, math.inf),
    MAX_RANK: (1.0, math.inf),
    RANK_CORRELATION: (-1.0, 1.0),
}  # of the other metrics: 0 to 1
_EXPOSURE: Final = "exposure "  # before the names of what a training saw
_ROUNDING: Final = 1e-9  # by which a mean may pass the top of its range


def known_split(name: str) -> bool:
    """Whether rows may be of that split."""
    return name in _SPLITS or name.startswith("test:")


def value_range(metric: str, rounding: float = _ROUNDING) -> tuple[float, float]:
    """Least and greatest value of a metric."""
    counted = (0.0, math.inf) if metric.startswith(_EXPOSURE) else (0.0, 1.0)
    low, high = _RANGES.get(metric, counted)
    return low, high + rounding


def parsed(line: str, where: str) -> Any:
    """One line of JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: line: not JSON ({error}), expected an object") from None


def checked(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of one row, with their types checked and the arm read."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: line: found {row!r}, expected an object")
    missing = [key for key in (*CODED_KEYS[1:], "value") if key not in row]
    if missing:
        raise ValueError(f"{where}: {missing[0]}: missing, expected in every row")
    value = row["value"]
    try:
        arm = arm_of(row)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for key in ("seed", "step"):
        if type(row[key]) is not int or row[key] < 0:
            raise ValueError(f"{where}: {key}: found {row[key]!r}, expected an integer >= 0")
    for key in TEXT_KEYS:
        if not isinstance(row[key], str) or not row[key]:
            raise ValueError(f"{where}: {key}: found {row[key]!r}, expected text")
        if key == "split" and not known_split(row[key]):
            raise ValueError(
                f"{where}: split: found {row[key]!r}, expected one of {', '.join(_SPLITS)} or test:NAME"
            )
        if key in CHOICES and row[key] not in CHOICES[key]:
            raise ValueError(f"{where}: {key}: found {row[key]!r}, expected one of {', '.join(CHOICES[key])}")
    low, high = value_range(row["metric"])
    if type(value) not in (int, float) or not low <= value <= high or math.isinf(value):
        low, high = value_range(row["metric"], rounding=0)
        expected = f"a finite number >= {low:g}" if high == math.inf else f"a number in [{low:g}, {high:g}]"
        raise ValueError(f"{where}: value: found {value!r}, expected {expected}")
    return {"arm": arm, **{key: row[key] for key in CODED_KEYS[1:]}, "value": float(value)}


def collect(out: Path) -> Path:
    """All cells' rows as OUT/results.jsonl, by seed and arm; a tuned arm's under the name of the arm. O(rows)."""
    path = out / "results.jsonl"
    tuned = choices(out)
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as target:
        cells = sorted(study_cells(out).items(), key=lambda item: (item[0].seed, item[0].arm))
        for cell, folder in cells:
            for part in (folder, *measured_parts(folder).values()):
                with (part / ROWS).open(encoding="utf-8") as lines:
                    if cell.arm in tuned:
                        target.writelines(_renamed(line, cell.arm.label) for line in lines)
                    else:
                        shutil.copyfileobj(lines, target)
    return path


def _renamed(line: str, label: str) -> str:
    """A row under the arm's label."""
    return json.dumps({**json.loads(line), "arm": label}, ensure_ascii=False) + "\n"
