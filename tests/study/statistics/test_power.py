"""Power against simulated studies, and what it takes to reach it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyhbt.study.statistics.contrasts import contrast
from pyhbt.study.statistics.power import (
    Components,
    clusters_needed,
    components,
    power,
    seeds_needed,
    smallest_found,
)
from tests.study.statistics.worlds import World


def test_components_are_the_planted_ones() -> None:
    rng = np.random.default_rng(0)
    world = World([0, 0], seeds=6, clusters=300, seed=0.5, taste=0.4, chance=0.8)
    found = np.mean([components(world.endpoint(rng), [-1, 1])[:3] for _ in range(300)], axis=0)
    sizes = 1 + 1 / 4  # of gamma-distributed clusters: mean square over squared mean
    expected = np.array([2 * 0.5**2, 2 * 0.4**2 * sizes, 2 * 0.8**2 * sizes])
    np.testing.assert_allclose(found, expected, rtol=0.1)


@pytest.mark.parametrize(("seeds", "effect"), [(3, 0.06), (5, 0.03), (8, 0.02)])
def test_power_is_what_simulated_studies_have(seeds: int, effect: float) -> None:
    rng = np.random.default_rng(seeds)
    clusters = 80
    world = World([0.5, 0.5 + effect], seeds, clusters, seed=0.012)
    found = np.mean([contrast(world.endpoint(rng), [-1, 1]).p_value() < 0.05 for _ in range(1500)])
    sizes = 1 + 1 / 4
    truth = Components(2 * 0.012**2, 2 * 0.05**2 * sizes, 2 * 0.1**2 * sizes, seeds, clusters)
    assert power(truth, effect, seeds, clusters) == pytest.approx(found, abs=0.03)
    assert 0.2 < found < 0.98


def test_what_is_needed_reaches_the_power() -> None:
    found = Components(2e-4, 2e-3, 2e-2, 3, 100)
    seeds = seeds_needed(found, 0.02)
    assert seeds is not None
    assert power(found, 0.02, seeds, 100) >= 0.8 > power(found, 0.02, seeds - 1, 100)
    clusters = clusters_needed(found, 0.05)
    assert clusters is not None
    assert power(found, 0.05, 3, clusters) >= 0.8 > power(found, 0.05, 3, clusters - 1)
    assert seeds_needed(found, 1e-4) is None
    assert clusters_needed(found, 1e-3) is None
    smallest = smallest_found(found)
    assert power(found, smallest, 3, 100) == pytest.approx(0.8, abs=1e-6)


def test_awkward_studies() -> None:
    one = World([0, 0], seeds=1).endpoint(np.random.default_rng(0))
    found = components(one, [-1, 1])
    assert math.isnan(found.seed)
    assert math.isnan(power(found, 0.1, 3, 10))
    assert math.isnan(smallest_found(found))
    assert seeds_needed(found, 0.1) is None
    still = Components(0, 0, 0, 3, 10)
    assert power(still, 0.1, 3, 10) == 1
    assert power(still, 0.0, 3, 10) == 0
    assert math.isnan(power(still, 0.1, 1, 10))
