"""Statistics against scipy, hand-worked examples and their own laws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pyhbt.study.statistics import (
    holm,
    normalised_area,
    randomisation_test,
    randomisation_tests,
    seed_interval,
    steps_to_reach,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def scipy_p(first: NDArray[np.float64], second: NDArray[np.float64], resamples: int) -> float:
    result = stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(3),
    )
    return float(result.pvalue)


@pytest.mark.parametrize("n", [2, 3, 7, 8, 9, 13])
def test_small_samples_are_exact(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.random(n), rng.random(n) + 0.2
    assert randomisation_test(first, second) == pytest.approx(scipy_p(first, second, 2**n), abs=1e-12)


def test_one_unit_says_nothing() -> None:
    assert randomisation_test([0.9], [0.1]) == 1.0


@pytest.mark.parametrize("n", [14, 31, 129])
def test_large_samples_agree_with_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    first = rng.random(n)
    second = first + rng.normal(0.02, 0.1, n)
    expected = scipy_p(first, second, 20_000)
    found = randomisation_test(first, second, resamples=20_000)
    # Two independent Monte Carlo estimates: five standard errors of their difference, and one resample of each.
    floor = 2 / 20_000
    assert abs(found - expected) <= 5 * math.sqrt(2 * expected * (1 - expected) / 20_000) + floor


def test_p_is_never_zero() -> None:
    assert randomisation_test(np.ones(500), np.zeros(500), resamples=999) == 1 / 1000


def test_equal_scores_give_one() -> None:
    assert randomisation_test(np.ones(40), np.ones(40)) == 1.0


def test_nan_units_are_left_out() -> None:
    first, second = [0.1, 0.5, math.nan, 0.7], [0.4, math.nan, 0.2, 0.1]
    assert randomisation_test(first, second) == randomisation_test([0.1, 0.7], [0.4, 0.1])
    assert math.isnan(randomisation_test([math.nan], [0.5]))
    assert math.isnan(randomisation_test([], []))


def test_columns_do_not_influence_each_other() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((60, 5)), rng.random((60, 5))
    first[3, 1] = math.nan
    first[:, 2] = second[:, 2]
    first[5:, 3] = math.nan
    together = randomisation_tests(first, second)
    alone = [randomisation_test(first[:, i], second[:, i]) for i in range(5)]
    np.testing.assert_array_equal(together, alone)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_test_is_symmetric_and_in_range(pairs: list[tuple[float, float]], seed: int) -> None:
    first, second = np.array(pairs).T
    p = randomisation_test(first, second, resamples=500, seed=seed)
    assert 0 < p <= 1
    assert p == randomisation_test(second, first, resamples=500, seed=seed)


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ValueError, match=r"second: found shape \(2,\), expected .*\(3,\)"):
        randomisation_test([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="first: found an infinite score"):
        randomisation_test([math.inf], [1.0])
    with pytest.raises(ValueError, match="resamples: found 0, expected at least 1"):
        randomisation_test([1.0], [0.5], resamples=0)
    with pytest.raises(ValueError, match="first: found 2 dimensions, expected 1"):
        randomisation_test([[1.0]], [[0.5]])
    with pytest.raises(ValueError, match="first: found 1 dimensions, expected 2"):
        randomisation_tests([1.0], [0.5])


def test_holm_by_hand() -> None:
    # 0.01 * 4, then max(0.03 * 3, ...), 0.04 * 2 raised to the 0.09 before it, 0.05 likewise
    np.testing.assert_allclose(holm([0.04, 0.01, 0.05, 0.03]), [0.09, 0.04, 0.09, 0.09], rtol=1e-12)


def test_holm_leaves_nan_out() -> None:
    np.testing.assert_allclose(holm([0.02, math.nan, 0.8]), [0.04, math.nan, 0.8])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    raw, adjusted = np.array(p_values), holm(p_values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(raw * len(raw), 1)).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_holm_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match=r"p_values: found 1\.5, expected values in \[0, 1\]"):
        holm([0.5, 1.5])


def test_interval_is_students() -> None:
    values = [0.61, 0.64, 0.6]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    interval = seed_interval([*values, math.nan])
    np.testing.assert_allclose(interval, [np.mean(values), low, high], rtol=1e-12)
    assert interval.half_width == pytest.approx((high - low) / 2)


def test_interval_of_one_or_no_seed() -> None:
    one = seed_interval([0.5])
    assert one.mean == 0.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert all(map(math.isnan, seed_interval([])))
    with pytest.raises(ValueError, match="level: found 95, expected"):
        seed_interval([0.5], level=95)


def test_steps_to_reach() -> None:
    steps, values = [0, 100, 200, 300], [0.1, 0.3, 0.2, 0.6]
    assert steps_to_reach(steps, values, 0.1) == 0.0
    assert steps_to_reach(steps, values, 0.2) == pytest.approx(50)
    assert steps_to_reach(steps, values, 0.3) == pytest.approx(100)
    assert steps_to_reach(steps, values, 0.5) == pytest.approx(275)
    assert steps_to_reach(steps, values, 0.61) is None
    assert steps_to_reach(steps, values, math.nan) is None
    assert steps_to_reach([], [], 0.5) is None
    assert steps_to_reach([0, 100, 200], [0.0, math.nan, 1.0], 0.5) == pytest.approx(100)
    with pytest.raises(ValueError, match=r"steps: found .* expected ascending"):
        steps_to_reach([0, 5, 5], [0, 1, 2], 1)


def test_area() -> None:
    assert normalised_area([0, 10, 40], [0.0, 0.5, 0.5], 0.5) == pytest.approx((2.5 + 15) / 40 / 0.5)
    assert normalised_area([0, 1], [0.8, 0.8], 0.8) == pytest.approx(1)
    assert math.isnan(normalised_area([0], [0.5], 0.5))
    assert math.isnan(normalised_area([0, 1], [0.5, 0.5], 0.0))
    with pytest.raises(ValueError, match=r"values: found shape \(1,\), expected .*\(2,\)"):
        normalised_area([0, 1], [0.5], 1.0)
