"""Lasting crossings, restricted means with the Kaplan-Meier curve as oracle, areas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pyhbt.study.statistics.convergence import (
    compare_times,
    lasting_crossing,
    normalised_area,
    restricted_mean,
)


def test_lasting_crossings_by_hand() -> None:
    steps = [0, 10, 20, 40]
    assert lasting_crossing(steps, [0.5, 0.6, 0.7, 0.8], 0.5) == (0, True)
    assert lasting_crossing(steps, [0, 0.4, 0.6, 0.8], 0.5) == (15, True)
    assert lasting_crossing(steps, [0, 0.6, 0.4, 0.8], 0.5) == (25, True)  # not the first crossing, near 8
    assert lasting_crossing(steps, [0, 0.6, 0.9, 0.4], 0.5) == (40, False)
    assert lasting_crossing(steps, [0, 0.5, 0.5, 0.5], 0.5) == (10, True)
    assert lasting_crossing(steps, [0, np.nan, 1, 1], 0.5) == (10, True)
    assert lasting_crossing([7], [1], 0.5) == (7, True)
    for x, values, message in (
        ([], [], "found no evaluation"),
        ([1, 1], [0, 1], "expected ascending"),
        ([1, 2], [0], "found shape"),
    ):
        with pytest.raises(ValueError, match=message):
            lasting_crossing(x, values, 0.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_after_a_crossing_the_curve_stays(values: list[float], target: float) -> None:
    steps = np.arange(len(values)) ** 2
    crossing = lasting_crossing(steps, values, target)
    after = [value for step, value in zip(steps, values, strict=True) if step > crossing.time]
    assert crossing.reached == (values[-1] >= target)
    if crossing.reached:
        assert all(value >= target for value in after)


@given(st.lists(st.tuples(st.floats(1, 200), st.booleans()), min_size=1, max_size=15))
def test_the_restricted_mean_is_the_area_under_the_kaplan_meier_curve(
    seeds: list[tuple[float, bool]],
) -> None:
    horizon = 100.0
    times = np.array([min(time, horizon) if reached else horizon for time, reached in seeds])
    reached = np.array([reached and time <= horizon for time, reached in seeds])
    data = stats.CensoredData.right_censored(times, ~reached)
    curve = stats.ecdf(data).sf
    edges = np.unique(np.concatenate([[0.0], curve.quantiles, [horizon]]))
    area = np.sum(np.diff(edges) * curve.evaluate(edges[:-1]))
    assert restricted_mean(times, reached, horizon).mean == pytest.approx(area, rel=1e-9)


def test_censoring_biases_the_naive_mean_but_not_the_restricted_one() -> None:
    """Exponential times of mean 100 up to 120: E min(T, 120) = 100 (1 - exp(-1.2))."""
    rng = np.random.default_rng(0)
    restricted, naive = [], []
    for _ in range(2000):
        times = rng.exponential(100, 5)
        reached = times <= 120
        restricted.append(restricted_mean(np.minimum(times, 120), reached, 120).mean)
        naive.append(times[reached].mean() if reached.any() else np.nan)
    truth = 100 * (1 - np.exp(-1.2))
    assert np.mean(restricted) == pytest.approx(truth, abs=1.5)
    assert np.nanmean(naive) < truth - 10


def test_no_limits_where_no_seed_crossed() -> None:
    nothing = restricted_mean([120, 100, 100], [True, False, False], 100)
    assert nothing.mean == 100
    assert np.isnan(nothing.low)
    assert np.isnan(nothing.high)
    assert not np.isnan(restricted_mean([90, 100, 100], [True, False, False], 100).low)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("censored", [0.25, 0.6])
def test_most_intervals_hold_the_mean_in_spite_of_censoring(seeds: int, censored: float) -> None:
    rng = np.random.default_rng(0)
    law = stats.lognorm(0.3, scale=100)
    horizon = float(law.ppf(1 - censored))
    truth = law.expect(lambda time: min(time, horizon), ub=10 * horizon, points=[horizon])
    found = [
        restricted_mean(times, times <= horizon, horizon)
        for times in law.rvs((1000, seeds), random_state=rng)
    ]
    inside = [one.low <= truth <= one.high for one in found if not np.isnan(one.low)]
    assert 0.86 <= np.mean(inside) <= 0.97


def test_a_seed_censored_early_is_refused() -> None:
    with pytest.raises(
        ValueError, match="found a seed censored at 50, expected all trained to the horizon 100"
    ):
        restricted_mean([50, 20], [False, True], 100)
    with pytest.raises(ValueError, match="reached: found shape"):
        restricted_mean([50, 20], [True], 100)


def test_times_are_compared_in_pairs() -> None:
    first, second = np.array([30.0, 50, 40, 80]), np.array([20.0, 45, 30, 300])
    estimate = compare_times(first, second, 100)
    expected = stats.ttest_rel(np.minimum(second, 100), first)
    assert estimate.value == pytest.approx(-1.25)
    assert estimate.p_value() == pytest.approx(expected.pvalue)
    with pytest.raises(ValueError, match="second: found shape"):
        compare_times([1, 2], [1, 2, 3], 9)


def test_times_that_differ_alike_are_not_tested() -> None:
    """Crossings at the same two points of the curve in every seed: a p-value of 0 would be of the grid."""
    alike = compare_times([24, 24, 24], [16, 16, 16], 100)
    assert alike.value == -8
    assert math.isnan(alike.p_value())
    assert math.isnan(alike.interval().low)
    assert math.isnan(
        compare_times([0.3, 0.2, 0.1], [1.3, 1.2, 1.1], 100).p_value()
    )  # alike but for rounding
    assert compare_times([24, 16, 24], [24, 16, 24], 100).p_value() == 1


def test_normalised_area() -> None:
    assert normalised_area([0, 10], [0, 1], 1) == 0.5
    assert normalised_area([0, 2, 10], [0.5, 0.5, 0.5], 0.5) == 1
    assert np.isnan(normalised_area([0], [1], 1))
    assert np.isnan(normalised_area([0, 1], [1, 1], 0))
