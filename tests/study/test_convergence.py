"""Times to a common target over steps, examples and tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyhbt.study.arms import Arm
from pyhbt.study.convergence import AXES, convergence, dev_curves
from pyhbt.study.results import Results
from tests.study.synthetic_study import Study, rows

WHERE: dict[str, Any] = {"setting": "cross-lingual", "tier": "all", "metric": "recall@10"}
SHAPE = Study(ratios=(0, 0.5), seeds=(0, 1), languages=("en", "de"), steps=(0, 50, 100))
ZERO, HALF = map(Arm.parse, (0, 0.5))


def straight(levels: dict[tuple[str, int], float], per_step: dict[str, float] | None = None) -> Results:
    """Curves that rise straight to these values at step 100, and examples so many a step."""
    found = [
        {**row, "value": levels[row["arm"], row["seed"]] * row["step"] / 100}
        for row in rows(SHAPE)
        if row["split"] == "dev" and row["metric"] == "recall@10"
    ]
    for (arm, seed), step in ((key, step) for key in levels for step in (50, 100)):
        if per_step:
            found.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "step": step,
                    "split": "train",
                    "centring": "none",
                    "setting": "all",
                    "query_lang": "*",
                    "passage_lang": "*",
                    "tier": "all",
                    "metric": "exposure examples",
                    "value": per_step[arm] * step,
                }
            )
    return Results.from_rows(found)


LEVELS = {("0", 0): 0.4, ("0", 1): 0.6, ("0.5", 0): 1.0, ("0.5", 1): 0.8}


def test_the_target_is_common_and_seeds_are_censored() -> None:
    found = convergence(straight(LEVELS), **WHERE)
    assert found is not None
    assert found.target == pytest.approx(0.9 * 0.9)  # the means of final values are 0.5 and 0.9
    assert found.horizon == 100
    np.testing.assert_allclose(found.times[HALF].times, [81.0, 100.0])
    assert found.times[HALF].reached.tolist() == [True, False]
    assert found.times[ZERO].reached.tolist() == [False, False]
    np.testing.assert_allclose(found.areas[ZERO], np.array([0.2, 0.3]) / 0.9)


def test_other_axes() -> None:
    results = straight(LEVELS, {"0": 10.0, "0.5": 20.0})
    found = convergence(results, **WHERE, axis="examples")
    assert found is not None
    assert found.horizon == 1000  # of the arm that saw less
    np.testing.assert_allclose(found.times[HALF].times, [1000.0, 1000.0])  # 81 steps are 1,620 examples
    assert not found.times[HALF].reached.any()
    lower = convergence(results, **WHERE, axis="examples", share=0.4)
    assert lower is not None
    np.testing.assert_allclose(lower.times[HALF].times, [720.0, 900.0])
    assert dev_curves(results, ZERO, "tokens", **WHERE) == {}
    assert convergence(results, **WHERE, axis="tokens") is None
    assert AXES == ("steps", "examples", "tokens")


def test_without_curves_there_is_nothing() -> None:
    finals = Results.from_rows(row for row in rows(SHAPE) if row["split"] == "test")
    assert convergence(finals, **WHERE) is None
