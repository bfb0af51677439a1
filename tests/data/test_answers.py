"""Joined rows against a plain closure."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.data.answers import joined

ROWS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[st.integers(-2, 9)] * (width + 1)), max_size=12)
)


def closure(rows: list[tuple[int, ...]]) -> list[int]:
    """Least first values, spread over agreeing rows until nothing moves."""
    found = [row[0] for row in rows]
    while True:
        before = list(found)
        for i, one in enumerate(rows):
            for j, other in enumerate(rows):
                if any(a == b for a, b in zip(one, other, strict=True)):
                    found[i] = min(found[i], found[j])
        if found == before:
            return found


@given(ROWS)
def test_rows_that_agree_are_joined(rows: list[tuple[int, ...]]) -> None:
    if rows:
        columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]
        found = joined(columns)
        assert found.dtype == np.int64
        assert found.tolist() == closure(rows)


def test_nothing_and_a_long_chain() -> None:
    nothing = np.empty(0, dtype=np.int64)
    assert joined((nothing, nothing)).shape == (0,)
    rows = np.arange(50_000)
    assert (joined((rows // 2, (rows + 1) // 2)) == 0).all()
    assert joined((rows, rows)).tolist() == rows.tolist()
