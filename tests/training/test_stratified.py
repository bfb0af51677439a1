"""Stratified draws: bounds in every window, chances over phases, prefixes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.training.stratified import stratified_events, stratified_uniforms

RATIOS = st.one_of(
    st.sampled_from((0.0, 1.0, 0.5, 0.25, 0.1, 1 / 3, 2 / 3, 0.999999)), st.floats(0, 1, width=32)
)
PHASES = st.integers(0, 10**6).map(lambda seed: float(np.random.default_rng(seed).random()))


@given(RATIOS, PHASES, st.integers(1, 3000), st.integers(1, 40), st.floats(0, 1000))
def test_every_window_of_a_constant(
    ratio: float, phase: float, steps: int, width: int, before: float
) -> None:
    happens = stratified_events(np.full(steps, ratio), phase, before)
    counts = np.convolve(happens, np.ones(min(width, steps)), mode="valid")
    asked = float(Fraction(ratio) * min(width, steps))
    assert np.abs(counts - asked).max() < 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), PHASES, st.floats(0, 50))
def test_every_window_of_a_schedule(ratios: list[float], phase: float, before: float) -> None:
    happens = stratified_events(np.array(ratios), phase, before)
    counts = np.concatenate([[0], np.cumsum(happens)])
    asked = np.concatenate([[0], np.cumsum(ratios)])
    difference = counts - asked
    assert difference.max() - difference.min() < 1 + 1e-9


def test_a_long_training() -> None:
    happens = stratified_events(np.full(1_000_000, 0.1), 0.37)
    assert happens.sum() == 100_000
    assert (np.convolve(happens, np.ones(20), mode="valid") == 2).all()


def test_never_and_always() -> None:
    assert not stratified_events(np.zeros(1000), 0.999999999).any()
    assert stratified_events(np.ones(1000), 0.999999999).all()
    assert stratified_events(np.empty(0), 0.5).shape == (0,)


def test_chances_are_the_probabilities() -> None:
    ratios = np.array([0.1, 0.9, 0.5, 0.0, 1.0, 0.3])
    phases = (np.arange(10_000) + 0.5) / 10_000
    chances = np.mean([stratified_events(ratios, phase) for phase in phases], axis=0)
    np.testing.assert_allclose(chances, ratios, atol=2e-4)


@given(st.integers(0, 2**32), st.integers(0, 200), st.integers(1, 30), st.floats(0, 1), st.floats(0, 1))
def test_every_interval_gets_its_share(seed: int, count: int, strata: int, one: float, other: float) -> None:
    draws = stratified_uniforms(np.random.default_rng(seed), count, strata)
    assert draws.shape == (count,)
    low, high = min(one, other), max(one, other)
    for start in range(0, count - strata + 1, strata):
        part = draws[start : start + strata]
        assert sorted((part * strata).astype(int)) == list(range(strata))
        inside = ((part >= low) & (part < high)).sum()
        assert abs(inside - strata * (high - low)) < 1 + 1e-9


def test_longer_sequences_begin_alike() -> None:
    long = stratified_uniforms(np.random.default_rng(3), 1000, 7)
    np.testing.assert_array_equal(stratified_uniforms(np.random.default_rng(3), 40, 7), long[:40])


def test_orders_and_places_are_random() -> None:
    draws = np.stack([stratified_uniforms(np.random.default_rng(seed), 4, 4) for seed in range(4000)])
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.02
    # parts are drawn without replacement, -1/3 of 15/16 of the variance; the place in them is common
    assert np.abs(np.corrcoef(draws.T)[0, 1:] + 0.25).max() < 0.06
    assert len({tuple(np.argsort(row)) for row in draws}) == 24


@pytest.mark.parametrize("strata", [1, 2, 46])
def test_very_many(strata: int) -> None:
    draws = stratified_uniforms(np.random.default_rng(0), 1_000_000, strata)
    counts = np.bincount((draws * strata).astype(int), minlength=strata)
    assert np.abs(counts - 1_000_000 / strata).max() <= 1 + 1_000_000 % strata
