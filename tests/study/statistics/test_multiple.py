"""Holm's correction, and the set of arms that are not worse than the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.study.statistics.contrasts import Endpoint, contrast
from pyhbt.study.statistics.multiple import holm, not_worse
from tests.study.statistics.worlds import World


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_array_equal(holm([]), [])
    np.testing.assert_array_equal(holm([0.4, 0.9]), [0.8, 0.9])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.02]), [0.04, np.nan, 0.04])
    for wrong, message in (([[0.1]], "2 dimensions"), ([1.5], "found 1.5"), ([-0.1], "found -0.1")):
        with pytest.raises(ValueError, match=message):
            holm(wrong)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_rejects_what_its_definition_does(p_values: list[float]) -> None:
    """Step down from the smallest: reject while p <= level / (hypotheses left)."""
    for level in (0.01, 0.05, 0.5):
        rejected = set()
        for left, place in zip(range(len(p_values), 0, -1), np.argsort(p_values, kind="stable"), strict=True):
            if not p_values[place] * left <= level:
                break
            rejected.add(int(place))
        assert set(np.flatnonzero(holm(p_values) <= level)) == rejected


def test_the_set_and_the_runner_up() -> None:
    rng = np.random.default_rng(0)
    endpoint = World([0.2, 0.5, 0.49, 0.1], seeds=5).endpoint(rng)
    found = not_worse(endpoint, range(4))
    assert {found.best, found.runner_up} == {1, 2}
    assert found.members == (1, 2)
    assert found.estimate == contrast(endpoint, np.eye(4)[found.best] - np.eye(4)[found.runner_up])
    assert found.adjusted > 0.05
    lowest = not_worse(endpoint, range(4), higher_is_better=False)
    assert (lowest.best, lowest.members) == (3, (3,))
    assert lowest.adjusted < 0.05
    assert not_worse(endpoint, [0, 3]).best == 0


def test_the_best_is_that_of_the_seeds_that_all_have() -> None:
    """An arm that lacks the seeds that are hard for all does not come first by that."""
    rng = np.random.default_rng(1)
    endpoint = World([0.4, 0.5], seeds=6).endpoint(rng)
    means = endpoint.means + np.array([0, 0, 0, 0, -0.4, -0.4])
    means[0, 4:] = np.nan
    influences = endpoint.influences.copy()
    influences[0, 4:] = np.nan
    assert np.nanmean(means[0]) > np.nanmean(means[1])
    assert not_worse(endpoint._replace(means=means, influences=influences), [0, 1]).best == 1


def test_fewer_than_three_seeds_are_not_tested() -> None:
    endpoint = World([0.2, 0.5], seeds=2).endpoint(np.random.default_rng(0))
    found = not_worse(endpoint, [0, 1])
    assert (found.best, found.runner_up, found.members) == (1, 0, None)
    assert np.isnan(found.adjusted)
    with pytest.raises(ValueError, match="found 1 arms with scores, expected two or more"):
        not_worse(Endpoint(np.array([[np.nan] * 3, [1] * 3]), np.zeros((2, 3, 2))), [0, 1])


def test_the_truly_best_arm_is_in_the_set() -> None:
    rng = np.random.default_rng(1)
    for truth, best in (([0.5, 0.51, 0.5, 0.49], 1), ([0.5] * 4, 0), ([0.5] * 4 + [0.3] * 3, 0)):
        world = World(truth, seeds=4)
        inside = [best in (not_worse(world.endpoint(rng), range(4)).members or ()) for _ in range(500)]
        assert np.mean(inside) >= 0.95
