"""Losses shown to be smaller than a margin."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyhbt.study.statistics.contrasts import contrast
from pyhbt.study.statistics.noninferiority import equivalent, non_inferior
from tests.study.statistics.worlds import World


def test_the_limit_and_the_test_agree() -> None:
    rng = np.random.default_rng(0)
    for loss in (0.0, 0.01, 0.03):
        estimate = contrast(World([0.5, 0.5 - loss], seeds=5).endpoint(rng), [-1, 1])
        for margin in (0.005, 0.02, 0.05, 0.2):
            found = non_inferior(estimate, margin)
            assert found.shown == (found.lower > -margin) == (found.p < 0.05)
            assert equivalent(estimate, margin) >= found.p
    with pytest.raises(ValueError, match="margin: found 0, expected a number above 0"):
        non_inferior(estimate, 0)


def test_one_seed_shows_nothing() -> None:
    found = non_inferior(contrast(World([0, 0], seeds=1).endpoint(np.random.default_rng(0)), [-1, 1]), 0.5)
    assert math.isnan(found.p)
    assert not found.shown


def test_a_loss_of_the_margin_is_shown_to_be_smaller_in_five_per_cent() -> None:
    rng = np.random.default_rng(1)
    world = World([0.5, 0.48], seeds=4, clusters=100)
    shown = [non_inferior(contrast(world.endpoint(rng), [-1, 1]), 0.02).shown for _ in range(2000)]
    assert 0.035 <= np.mean(shown) <= 0.065
