"""Preference for the query's language: by hand, against plain loops, and what holds of any ranking."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.evaluation.preference import (
    first_places,
    first_relevant_in_own_language,
    language_graded_ndcg,
    rank_shift,
)
from tests.evaluation.test_metrics import ranking

RANKS = np.array([[3, 1, 7], [2, 5, 0], [4, 6, 0], [1, 0, 0], [2, 1, 3]])
LANGS = np.array([[0, 1, 2], [0, 1, 0], [1, 2, 0], [0, 0, 0], [0, 0, 1]])
OWN = np.array(
    [0, 0, 0, 0, -1]
)  # the third has no relevant passage in its language, the last no passage at all


def test_first_relevant_by_hand() -> None:
    found = first_relevant_in_own_language(RANKS, LANGS, OWN)
    np.testing.assert_array_equal(found, [0, 1, np.nan, np.nan, np.nan])


def test_rank_shift_by_hand() -> None:
    """Row 0: ranks 1 and 7 of others, best own 3: (0 + 4) / (0 + 6). Row 1: rank 5, own 2: 3 / 4."""
    found = rank_shift(RANKS, LANGS, OWN)
    np.testing.assert_allclose(found, [4 / 6, 3 / 4, np.nan, np.nan, np.nan])
    cannot_rise = rank_shift(np.array([[2, 1]]), np.array([[0, 1]]), np.array([0]))
    assert math.isnan(cannot_rise[0])


def test_language_graded_ndcg_by_hand() -> None:
    found = language_graded_ndcg(RANKS, np.ones(RANKS.shape), LANGS, OWN, 10)
    gained = 1 / math.log2(4) + 0.5 / math.log2(2) + 0.5 / math.log2(8)
    ideal = 1 + 0.5 / math.log2(3) + 0.5 / math.log2(4)
    np.testing.assert_allclose(found[0], gained / ideal)
    assert np.isnan(found[2:]).all()
    best = language_graded_ndcg(np.array([[1, 2]]), np.ones((1, 2)), np.array([[0, 1]]), np.array([0]), 10)
    assert best[0] == 1


def test_first_places_by_hand() -> None:
    first_langs = np.array([1, 0, 0, 0, 1])
    answerable = np.array([True, True, True, True, False])
    found = np.array(first_places(RANKS, first_langs, OWN, answerable))
    expected = np.array([[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found[:, :4], expected)
    assert np.isnan(found[:, 4]).all()


def plain(ranks: np.ndarray, langs: np.ndarray, own: int) -> tuple[float, float]:
    """First relevant and rank shift of one query (t,), passage by passage."""
    mine = [rank for rank, lang in zip(ranks, langs, strict=True) if rank > 0 and lang == own]
    others = [rank for rank, lang in zip(ranks, langs, strict=True) if rank > 0 and lang != own]
    if not mine or not others:
        return math.nan, math.nan
    possible = sum(rank - 1 for rank in others)
    gained = sum(max(rank - min(mine), 0) for rank in others)
    return float(min(mine) < min(others)), gained / possible if possible else math.nan


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 5]), st.sampled_from([5, 30]))
def test_measures_equal_plain_loops(seed: int, t: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    ranks, gains = ranking(rng, 6, m, t)
    langs, own = rng.integers(0, 3, (6, t)), rng.integers(-1, 3, 6)
    first, shift = first_relevant_in_own_language(ranks, langs, own), rank_shift(ranks, langs, own)
    for row in range(6):
        expected = plain(ranks[row], langs[row], own[row])
        np.testing.assert_allclose([first[row], shift[row]], expected)
    order = rng.permutation(t)
    shuffled = [ranks[:, order], langs[:, order], own]
    np.testing.assert_array_equal(first_relevant_in_own_language(*shuffled), first)
    np.testing.assert_allclose(rank_shift(*shuffled), shift)
    graded = language_graded_ndcg(ranks, gains, langs, own, 10)
    known = graded[~np.isnan(graded)]
    assert ((known >= 0) & (known <= 1 + 1e-12)).all()
    np.testing.assert_array_equal(np.isnan(graded), np.isnan(first))
    places = np.array(first_places(ranks, rng.integers(0, 3, 6), own, own >= 0))
    assert (places[:, own >= 0].sum(axis=0) == 1).all()


@pytest.mark.parametrize("shape", [(0, 0), (2, 0), (0, 3)])
def test_nothing_relevant_says_nothing(shape: tuple[int, int]) -> None:
    ranks, own = np.zeros(shape, dtype=np.int64), np.zeros(shape[0], dtype=np.int64)
    for measure in (first_relevant_in_own_language, rank_shift):
        assert np.isnan(measure(ranks, ranks, own)).all()
    assert np.isnan(language_graded_ndcg(ranks, ranks.astype(float), ranks, own, 10)).all()
