"""The learning rate of each arm, chosen on the dev set: candidates, the choice, and cells by the arm they stand for.

With ``learning_rates`` every arm is trained at each of them with the study's first seed, and goes on with the one whose
last point of the learning curve is best in the primary endpoint; no test set is read for it. OUT/tuning.json holds the
scores and the choices. Imports nothing heavy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyhbt.evaluation.names import LOWER_IS_BETTER
from pyhbt.files import write_atomically
from pyhbt.study.arms import Arm
from pyhbt.study.cells import ROWS, Cell, finished_cells

if TYPE_CHECKING:
    from pyhbt.study.config import StudyConfig
    from pyhbt.study.endpoints import EndpointName

_FILE = "tuning.json"


class Tuned(NamedTuple):
    """The learning rate chosen for an arm, and the dev score of each that was tried."""

    chosen: float
    scores: dict[float, float]


def candidates(config: StudyConfig) -> list[Cell]:
    """The cells that learning rates are chosen by."""
    return [
        Cell(arm.with_learning_rate(rate), config.seeds[0])
        for arm in config.arms
        if config.is_tuned(arm)
        for rate in config.learning_rates or ()
    ]


def choose(config: StudyConfig, out: Path) -> None:
    """Choose the learning rate of each arm that is tuned, from the candidates' dev scores, and write it down."""
    cells = finished_cells(out)
    found = {arm.label: _plain(tuned) for arm, tuned in choices(out).items()}
    for arm in config.arms:
        if config.is_tuned(arm):
            scores = {
                rate: _final_score(
                    cells[Cell(arm.with_learning_rate(rate), config.seeds[0])], config.endpoint
                )
                for rate in config.learning_rates or ()
            }
            sign = -1.0 if config.endpoint.metric in LOWER_IS_BETTER else 1.0
            known = {rate: sign * score for rate, score in scores.items() if not math.isnan(score)}
            if not known:
                raise ValueError(
                    f"learning_rates: found no {config.endpoint.text} on the dev set at {arm.called}, expected scores "
                    "to choose by: name another --primary"
                )
            found[arm.label] = _plain(Tuned(max(known, key=known.__getitem__), scores))
    with write_atomically(out / _FILE) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _plain(tuned: Tuned) -> dict[str, object]:
    scores = [[rate, None if math.isnan(score) else score] for rate, score in tuned.scores.items()]
    return {"chosen": tuned.chosen, "scores": scores}


def choices(out: Path) -> dict[Arm, Tuned]:
    """The learning rates chosen so far, by arm.

    Raises:
        ValueError: OUT/tuning.json cannot be read.
    """
    path = out / _FILE
    if not path.is_file():
        return {}
    try:
        return {
            Arm.parse(label): Tuned(
                float(part["chosen"]),
                {float(rate): math.nan if score is None else float(score) for rate, score in part["scores"]},
            )
            for label, part in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: found no choices of learning rates ({error!r})") from None


def chosen_cells(out: Path, cells: Iterable[Cell]) -> list[Cell]:
    """Each cell as it is trained: of an arm that was tuned, at the learning rate chosen."""
    tuned = choices(out)
    return [
        Cell(arm.with_learning_rate(tuned[arm].chosen), seed) if arm in tuned else Cell(arm, seed)
        for arm, seed in cells
    ]


def study_cells(out: Path) -> dict[Cell, Path]:
    """The cells that count, by the arm they stand for: of a tuned arm those at the learning rate chosen. O(cells)."""
    tuned = choices(out)
    at_rate = {
        arm.with_learning_rate(rate): (arm, rate) for arm, part in tuned.items() for rate in part.scores
    }
    found = {}
    for cell, folder in finished_cells(out).items():
        arm, rate = at_rate.get(cell.arm, (cell.arm, None))
        if arm in tuned and rate != tuned[arm].chosen:
            continue
        found[Cell(arm, cell.seed)] = folder
    return found


def _final_score(folder: Path, endpoint: EndpointName) -> float:
    """The last point of a cell's learning curve."""
    last, score = -1, math.nan
    wanted = {
        "split": "dev",
        "centring": endpoint.centring,
        "setting": endpoint.setting,
        "tier": endpoint.tier,
        "metric": endpoint.metric,
    }
    with (folder / ROWS).open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["step"] > last and all(row[name] == value for name, value in wanted.items()):
                last, score = row["step"], row["value"]
    return score
