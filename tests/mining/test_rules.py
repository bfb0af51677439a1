"""Rules of mining: thresholds against the positive's score, and settings that do not go together."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.mining.rules import MiningRules
from pyhbt.options import options_of, read_values


def test_threshold_of_positives_below_zero() -> None:
    rules = MiningRules(share=0.9, margin=0.5)
    positive = np.array([2.0, 0.0, -2.0, 100.0], np.float32)
    np.testing.assert_allclose(rules.limits(positive), [1.5, -0.5, -2.5, 90.0])
    np.testing.assert_allclose(replace(rules, margin=None).limits(positive), [1.8, 0.0, -2.2, 90.0])
    assert (replace(rules, margin=None, share=None).limits(positive) == np.inf).all()


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("num_negatives: found 0, expected at least 1", {"num_negatives": 0}),
        ("skip_top: found -1, expected at least 0", {"skip_top": -1}),
        ("depth: found 6, expected at least 7 ", {"depth": 6}),
        ("depth: found 20, expected at least 22 .skip_top 15 and num", {"depth": 20, "skip_top": 15}),
        ("share: found 0, expected a finite number above 0", {"share": 0}),
        ("share: found nan", {"share": float("nan")}),
        ("margin: found inf, expected a finite number", {"margin": float("inf")}),
        ("pool: found 'own', expected one of passage, query, other, any", {"pool": "own"}),
        ("draw: found 'best', expected one of top, random", {"draw": "best"}),
        ("existing: found 'drop', expected one of keep, replace", {"existing": "drop"}),
        ("seed: found -1, expected at least 0", {"seed": -1}),
    ],
)
def test_wrong_rules(match: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=match):
        MiningRules(**options)


SCORES = st.floats(-1e3, 1e3, width=32)
SHARES = st.one_of(st.none(), st.floats(0.01, 5))
MARGINS = st.one_of(st.none(), st.floats(-10, 10))


@given(st.lists(SCORES, max_size=6), SHARES, MARGINS)
def test_limits_one_by_one(scores: list[float], share: float | None, margin: float | None) -> None:
    """Plain arithmetic in float64: where both bounds are given the lower one holds."""
    found = MiningRules(share=share, margin=margin).limits(np.array(scores, np.float32))
    assert (found.shape, found.dtype) == ((len(scores),), np.float64)
    for score, limit in zip(scores, found, strict=True):
        bounds = [math.inf]
        if share is not None:
            bounds.append(score - (1 - share) * abs(score))
        if margin is not None:
            bounds.append(score - margin)
        assert limit == min(bounds)


@given(SCORES, st.floats(0.01, 1), st.floats(0, 10))
def test_limits_never_pass_the_positive(score: float, share: float, margin: float) -> None:
    positive = np.array([score], np.float32)
    assert MiningRules(share=share, margin=margin).limits(positive)[0] <= score
    assert MiningRules(share=1.0).limits(positive)[0] == score


def test_a_window_holds_the_negatives_asked_for() -> None:
    assert MiningRules(num_negatives=1, depth=1).depth == 1
    assert MiningRules(num_negatives=3, skip_top=4, depth=7).skip_top == 4
    with pytest.raises(ValueError, match="depth: found 0, expected at least 1"):
        MiningRules(num_negatives=1, depth=0)
    with pytest.raises(
        ValueError, match=r"depth: found 6, expected at least 7 \(skip_top 4 and num_negatives 3"
    ):
        MiningRules(num_negatives=3, skip_top=4, depth=6)


def test_rules_are_settings() -> None:
    defaults = {item.name: item.default_in_words for item in options_of(MiningRules)}
    assert defaults == {
        "num_negatives": "7",
        "skip_top": "0",
        "depth": "100",
        "pool": "passage",
        "share": "0.95",
        "margin": "none",
        "draw": "top",
        "seed": "0",
        "existing": "keep",
    }
    given = {"num-negatives": "3", "share": "none", "pool": "any"}
    with pytest.raises(ValueError, match="file: share: found 'none', expected a number"):
        read_values(MiningRules, given, "file")
    given["share"] = None  # type: ignore[assignment]
    assert MiningRules(**read_values(MiningRules, given, "file")) == MiningRules(
        num_negatives=3, share=None, pool="any"
    )
    with pytest.raises(TypeError, match="positional"):
        MiningRules(3)  # type: ignore[call-arg]
