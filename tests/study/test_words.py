"""Figures in print."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.evaluation.names import MAX_RANK, RANK_CORRELATION
from pyhbt.study.words import interval, listed, number, p_text, percent, sentence, signed


def test_measurements() -> None:
    assert number(-0.0004, RANK_CORRELATION) == "0.000"
    assert number(-0.64, RANK_CORRELATION) == "−0.640"
    assert number(1220.43, MAX_RANK) == "1,220.4"
    assert number(math.nan, MAX_RANK) == number(math.nan) == signed(math.nan) == "–"


def test_differences() -> None:
    found = [signed(value) for value in (0.0123, -0.0126, 0.0004, -0.0004, 1)]
    assert found == ["+0.012", "−0.013", "0.000", "0.000", "+1.000"]
    assert signed(-1220.46, MAX_RANK) == "−1,220.5"
    assert signed(0.01, MAX_RANK) == "0.0"
    assert interval(-0.01, 0.02) == "−0.010 to +0.020"


def test_p_values_at_their_floor_are_at_most() -> None:
    printed = [p_text(p).replace("\N{NO-BREAK SPACE}", " ") for p in (0, 1e-4, 2e-4, 0.001, 0.05, 1)]
    assert printed == ["p ≤ 0.0001", "p ≤ 0.0001", "p = 0.0002", "p = 0.001", "p = 0.050", "p = 1.000"]
    assert p_text(math.nan) == "–"


@given(st.floats(-100, 100))
def test_figures_are_the_nearest_of_three_decimals(value: float) -> None:
    for printed in (number(value), signed(value)):
        assert float(printed.replace("−", "-")) == pytest.approx(value, abs=0.0005 + 1e-9)
        assert printed.lstrip("+−") != "0.000" or printed == "0.000"  # nothing has no sign
        assert "-" not in printed


def test_lists_and_sentences() -> None:
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcd"), most=2) == "a, b and 2 more"
    assert sentence("ratio 0 is") == "Ratio 0 is"
    assert sentence("") == ""
    assert percent(0.95).replace("\N{NO-BREAK SPACE}", " ") == "95 %"
