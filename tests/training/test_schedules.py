from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.training.schedules import RatioSchedule

PROGRESS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (0.3, [0.3] * 5),
        ("0.3", [0.3] * 5),
        (1, [1.0] * 5),
        ("linear:0:1", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("linear:1:0.5", [1.0, 0.875, 0.75, 0.625, 0.5]),
        ("cosine:0:1", [0.0, 0.14644661, 0.5, 0.85355339, 1.0]),
        ("steps:0@0,0.5@0.5,1@0.75", [0.0, 0.0, 0.5, 1.0, 1.0]),
    ],
)
def test_values(spec: float | str, expected: list[float]) -> None:
    np.testing.assert_allclose(RatioSchedule.parse(spec).at(PROGRESS), expected, atol=1e-8)


def test_progress_is_clipped() -> None:
    np.testing.assert_array_equal(RatioSchedule.parse("linear:0:1").at(np.array([-1.0, 2.0])), [0.0, 1.0])


@pytest.mark.parametrize("spec", ["0.25", "linear:0:1", "cosine:1:0.5", "steps:0@0,0.5@0.3,1@0.6"])
def test_label_reads_back(spec: str) -> None:
    schedule = RatioSchedule.parse(spec)
    assert RatioSchedule.parse(schedule.label) == schedule
    assert RatioSchedule.parse(schedule) is schedule


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["linear", "cosine"]), st.floats(0, 1))
def test_stays_within_bounds(start: float, end: float, kind: str, progress: float) -> None:
    schedule = RatioSchedule.parse(f"{kind}:{start}:{end}")
    low, high = schedule.bounds
    value = schedule.at(np.array([progress]))[0]
    assert low - 1e-12 <= value <= high + 1e-12


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (1.5, "ratio: found 1.5, expected a number in"),
        (-0.1, "ratio: found -0.1"),
        (float("nan"), "ratio: found nan"),
        ("half", "ratio: found 'half', expected a number"),
        ("linear:0", "ratio: found 'linear:0'"),
        ("steps:0.5@0.2", "schedule points at .0.2., expected an ascending list from 0"),
        ("steps:0@0,1@2", "schedule point at progress 2.0"),
        ("steps:0@0,1@0.5,0@0.2", "expected an ascending list"),
    ],
)
def test_errors(spec: float | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RatioSchedule.parse(spec)
