"""Contrasts over seeds and clusters: hand-made cases, an analysis of variance as oracle, and the level of the test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pyhbt.study.statistics.contrasts import (
    Endpoint,
    Estimate,
    contrast,
    contrasts,
    estimates_of,
    seed_interval,
)
from tests.study.statistics.worlds import World, differences_over_pairs


def old_randomisation_test(differences: np.ndarray, rng: np.random.Generator) -> float:
    """The paired sign-flip test over queries with seeds averaged, that studies before 0.2 used."""
    signs = rng.integers(0, 2, (999, len(differences))) * 2 - 1
    return float((np.sum(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12) + 1) / 1000)


def difference(endpoint: Endpoint) -> float:
    return contrast(endpoint, [-1, 1]).p_value()


def rejected(estimates: list[Estimate]) -> float:
    """Share of them whose 95 % interval leaves 0 out."""
    return float(np.mean([abs(one.value) > one.critical() * one.standard_error for one in estimates]))


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 2, 1), (3, 1, 4), (2, 3, 2), (5, 4, 7)])
def test_the_tested_difference_is_the_printed_one(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    means = rng.random(shape[:2])
    endpoint = Endpoint(means, rng.normal(size=shape))
    weights = np.eye(shape[0])[-1] - np.eye(shape[0])[0]
    estimate = contrast(endpoint, weights)
    assert estimate.value == pytest.approx(means[-1].mean() - means[0].mean(), abs=1e-15)
    assert (estimate.seeds, estimate.clusters) == shape[1:]
    if shape[1] == 1:
        assert math.isnan(estimate.p_value())
        assert math.isnan(estimate.interval().low)


def test_variances_are_those_of_a_two_way_analysis_of_variance() -> None:
    """Balanced data with equal clusters: mean squares of the crossed random model, by their textbook sums."""
    rng = np.random.default_rng(1)
    seeds, clusters = 4, 9
    scores = rng.normal(size=(seeds, clusters)) + rng.normal(size=(seeds, 1)) + rng.normal(size=clusters)
    means = scores.mean(axis=1)
    endpoint = Endpoint(means[None], ((scores - means[:, None]) / clusters)[None])
    estimate = contrast(endpoint, [1])
    grand, by_cluster = scores.mean(), scores.mean(axis=0)
    ms_seed = clusters * ((means - grand) ** 2).sum() / (seeds - 1)
    ms_cluster = seeds * ((by_cluster - grand) ** 2).sum() / (clusters - 1)
    rest = scores - means[:, None] - by_cluster + grand
    ms_both = (rest**2).sum() / ((seeds - 1) * (clusters - 1))
    size = seeds * clusters
    assert estimate.cluster_variance == pytest.approx(ms_cluster / size, rel=1e-12)
    assert estimate.seed_variance == pytest.approx(max(ms_seed - ms_both, 0) / size, rel=1e-9)


def test_one_level_alone_is_student() -> None:
    values = np.array([0.1, 0.3, 0.25, 0.2])
    estimate = contrast(Endpoint(values[None], np.empty((1, 4, 0))), [1])
    expected = stats.ttest_1samp(values, 0.05)
    assert estimate.p_value(0.05) == pytest.approx(expected.pvalue, rel=1e-9)
    low, high = expected.confidence_interval()
    shifted = estimate.interval()
    assert (shifted.low, shifted.high) == pytest.approx((low, high), rel=1e-12)
    assert seed_interval(values) == pytest.approx(shifted)


def test_interval_and_test_agree() -> None:
    rng = np.random.default_rng(2)
    estimate = contrast(World([0, 0.03]).endpoint(rng), [-1, 1])
    for level in (0.8, 0.95, 0.999):
        low, high = estimate.interval(level)[1:]
        for limit in (low, high):
            assert estimate.p_value(limit) == pytest.approx(1 - level, rel=1e-6)
    assert estimate.p_above(0.01) + estimate.p_below(0.01) == pytest.approx(1)
    assert estimate.p_above(-9) < 1e-3 < 1 - 1e-3 < estimate.p_above(9)


def test_no_spread_is_defined() -> None:
    same = Endpoint(np.full((2, 3), 0.5), np.zeros((2, 3, 4)))
    assert contrast(same, [-1, 1]).p_value() == 1
    assert contrast(same, [-1, 1]).interval() == (0, 0, 0)
    apart = Endpoint(np.array([[0.5] * 3, [0.75] * 3]), np.zeros((2, 3, 4)))
    estimate = contrast(apart, [-1, 1])
    assert estimate.p_value() == 0
    assert estimate.interval() == (0.25, 0.25, 0.25)
    assert estimate.p_below() == 1


def test_missing_cells_leave_the_seeds_that_are_shared() -> None:
    rng = np.random.default_rng(3)
    endpoint = World([0, 0.1, 0.2], seeds=4).endpoint(rng)
    endpoint.means[0, 1] = np.nan
    assert contrast(endpoint, [0, -1, 1]).seeds == 4
    assert contrast(endpoint, [-1, 1, 0]).seeds == 3
    expected = np.delete(endpoint.means[1] - endpoint.means[0], 1).mean()
    assert contrast(endpoint, [-1, 1, 0]).value == pytest.approx(expected)
    endpoint.means[:2] = np.nan
    nothing = contrast(endpoint, [-1, 1, 0])
    assert nothing.seeds == 0
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.p_value())


def test_wrong_shapes_are_refused() -> None:
    endpoint = World([0, 0.1]).endpoint(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"weights: found shape \(3,\)"):
        contrast(endpoint, [1, 2, 3])
    with pytest.raises(ValueError, match="found zeros alone"):
        contrast(endpoint, [0, 0])
    with pytest.raises(ValueError, match="level: found 95"):
        contrast(endpoint, [-1, 1]).interval(95)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_a_change_of_unit_changes_no_test(seed: int, scale: float) -> None:
    endpoint = World([0, 0.02], seeds=4, clusters=8).endpoint(np.random.default_rng(seed))
    scaled = Endpoint(endpoint.means * scale, endpoint.influences * scale)
    assert difference(scaled) == pytest.approx(difference(endpoint), rel=1e-6)
    assert contrast(scaled, [1, -1]).p_value() == pytest.approx(difference(endpoint), rel=1e-6)
    several = contrasts(endpoint, np.array([[-1.0, 1.0], [1.0, -1.0]]))
    assert several[0].p_value() == pytest.approx(several[1].p_value(), rel=1e-9)


@pytest.mark.parametrize("seeds", [3, 5])
def test_two_thousand_null_studies(seeds: int) -> None:
    """5 % of them are called significant, and some 20 % by the test over queries that studies before 0.2 used."""
    rng = np.random.default_rng(seeds)
    world = World([0.5, 0.5], seeds, clusters=200, seed=0.012)
    found, formerly = [], []
    for _ in range(2000):
        scores, weights = world.scores(rng)
        means = scores @ weights
        found.append(contrast(Endpoint(means, (scores - means[..., None]) * weights), [-1, 1]))
        if len(formerly) < 500:
            formerly.append(old_randomisation_test((scores[1] - scores[0]).mean(axis=0), rng))
    assert 0.035 <= rejected(found) <= 0.065
    assert np.mean(np.array(formerly) < 0.05) == pytest.approx({3: 0.22, 5: 0.18}[seeds], abs=0.05)


@pytest.mark.parametrize("seeds", [3, 5])
def test_null_studies_of_macro_means_over_pairs(seeds: int) -> None:
    """Queries of a cluster in some pairs only, clusters of unequal size, scores of 0 and 1.

    Both levels vary about equally here, where the test is conservative.
    """
    rng = np.random.default_rng(seeds)
    estimates = []
    for _ in range(8):
        values, influences = differences_over_pairs(rng, 250, seeds, clusters=60)
        np.testing.assert_allclose(influences.sum(axis=2), 0, atol=1e-12)
        estimates += estimates_of(values, influences)
    assert 0.02 <= rejected(estimates) <= 0.065
    true = np.var([one.value for one in estimates])
    assert np.mean([one.variance for one in estimates]) == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("seeds", [3, 4, 8])
@pytest.mark.parametrize(
    "shares", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (5, 0, 1), (0, 1, 1), (1, 1, 1), (1, 2, 0)]
)
def test_the_level_over_mixtures_of_variances(seeds: int, shares: tuple[int, int, int]) -> None:
    """Shares of seeds, clusters and both in the variance of the mean: 2 to 6.5 %, and 1 % for 2,000 studies' luck."""
    rng = np.random.default_rng((seeds, *shares))
    studies, clusters = 2000, 12
    by_seed, by_cluster, both = np.sqrt(np.array(shares) * [seeds, clusters, seeds * clusters])
    scores = rng.normal(0, by_seed, (studies, seeds, 1)) + rng.normal(0, by_cluster, (studies, 1, clusters))
    scores = scores + rng.normal(0, both, (studies, seeds, clusters))
    means = scores.mean(axis=2)
    level = rejected(estimates_of(means, (scores - means[..., None]) / clusters))
    assert 0.01 <= level <= 0.075
    if shares in ((1, 0, 0), (0, 1, 0)):
        assert level == pytest.approx(0.05, abs=0.015)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 4, 8])
@pytest.mark.parametrize("clusters", [30, 100])
def test_the_level_holds_whatever_the_noise_is_of(seeds: int, clusters: int) -> None:
    rng = np.random.default_rng(0)
    for seed, taste, chance in ((0, 1, 0), (0, 1, 3), (0.2, 1, 1), (0.5, 1, 1), (1, 1, 1), (3, 1, 1)):
        world = World([0, 0], seeds, clusters, seed, 1.0, taste, chance)
        level = np.mean([difference(world.endpoint(rng)) < 0.05 for _ in range(2000)])
        assert 0.015 <= level <= 0.07, (seed, taste, chance, level)
