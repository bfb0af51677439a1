"""Mini-batches of similar length: partitions, least cost against brute force, budgets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.encoders.packing import MiniBatch, mini_batches_of_least_cost, mini_batches_within_budget

LENGTHS = st.lists(st.integers(0, 40), max_size=60)


def cost(mini_batches: list[MiniBatch], lengths: list[int], overhead: int) -> int:
    return sum(
        len(mini_batch) * max(lengths[row] for row in mini_batch) + overhead for mini_batch in mini_batches
    )


@given(LENGTHS, st.integers(0, 200), st.one_of(st.none(), st.integers(1, 20)))
def test_every_text_is_in_one_group(lengths: list[int], overhead: int, max_rows: int | None) -> None:
    mini_batches = mini_batches_of_least_cost(lengths, overhead, max_rows)
    assert sorted(np.concatenate([*mini_batches, np.empty(0, int)]).tolist()) == list(range(len(lengths)))
    assert all(len(mini_batch) for mini_batch in mini_batches)
    if max_rows is not None:
        assert all(len(mini_batch) <= max_rows for mini_batch in mini_batches)
    for mini_batch in mini_batches_of_least_cost(lengths, overhead, max_rows, 50):
        assert len(mini_batch) == 1 or len(mini_batch) * max(lengths[row] for row in mini_batch) <= 50


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(0, 30))
def test_cost_is_the_least(lengths: list[int], overhead: int) -> None:
    """Against every way to cut the sorted lengths; cutting a sorted list is enough, since swaps never help."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    best = min(
        cost(
            [np.array(order[a:b]) for a, b in zip((0, *cuts), (*cuts, len(order)), strict=True)],
            lengths,
            overhead,
        )
        for number in range(len(order))
        for cuts in combinations(range(1, len(order)), number)
    )
    assert cost(mini_batches_of_least_cost(lengths, overhead), lengths, overhead) == best


def test_no_overhead_parts_every_length() -> None:
    mini_batches = mini_batches_of_least_cost([3, 1, 3, 2], 0)
    assert [mini_batch.tolist() for mini_batch in mini_batches] == [[0, 2], [3], [1]]


def test_a_dear_group_joins_all() -> None:
    assert [mini_batch.tolist() for mini_batch in mini_batches_of_least_cost([3, 1, 3, 2], 10_000)] == [
        [0, 1, 2, 3]
    ]


@given(LENGTHS, st.integers(1, 200))
def test_budget(lengths: list[int], max_tokens: int) -> None:
    mini_batches = mini_batches_within_budget(lengths, max_tokens)
    assert sorted(np.concatenate([*mini_batches, np.empty(0, int)]).tolist()) == list(range(len(lengths)))
    for mini_batch in mini_batches:
        longest = max(lengths[row] for row in mini_batch)
        assert len(mini_batch) == 1 or len(mini_batch) * longest <= max_tokens
    in_order = [lengths[row] for mini_batch in mini_batches for row in mini_batch]
    assert in_order == sorted(lengths, reverse=True)


def test_errors() -> None:
    with pytest.raises(ValueError, match="overhead: found -1, expected at least 0"):
        mini_batches_of_least_cost([1], -1)
    with pytest.raises(ValueError, match="max_rows: found 0, expected at least 1"):
        mini_batches_of_least_cost([1], 1, 0)
    with pytest.raises(ValueError, match="max_tokens: found 0, expected at least 1"):
        mini_batches_of_least_cost([1], 1, None, 0)
    with pytest.raises(ValueError, match="max_tokens: found 0, expected at least 1"):
        mini_batches_within_budget([1], 0)
