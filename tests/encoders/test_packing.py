"""Groups of similar length: partitions, least cost against brute force, budgets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.encoders.packing import Group, groups_of_least_cost, groups_within_budget

LENGTHS = st.lists(st.integers(0, 40), max_size=60)


def cost(groups: list[Group], lengths: list[int], overhead: int) -> int:
    return sum(len(group) * max(lengths[row] for row in group) + overhead for group in groups)


@given(LENGTHS, st.integers(0, 200), st.one_of(st.none(), st.integers(1, 20)))
def test_every_text_is_in_one_group(lengths: list[int], overhead: int, max_rows: int | None) -> None:
    groups = groups_of_least_cost(lengths, overhead, max_rows)
    assert sorted(np.concatenate([*groups, np.empty(0, int)]).tolist()) == list(range(len(lengths)))
    assert all(len(group) for group in groups)
    if max_rows is not None:
        assert all(len(group) <= max_rows for group in groups)
    for group in groups_of_least_cost(lengths, overhead, max_rows, 50):
        assert len(group) == 1 or len(group) * max(lengths[row] for row in group) <= 50


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
    assert cost(groups_of_least_cost(lengths, overhead), lengths, overhead) == best


def test_no_overhead_parts_every_length() -> None:
    groups = groups_of_least_cost([3, 1, 3, 2], 0)
    assert [group.tolist() for group in groups] == [[0, 2], [3], [1]]


def test_a_dear_group_joins_all() -> None:
    assert [group.tolist() for group in groups_of_least_cost([3, 1, 3, 2], 10_000)] == [[0, 1, 2, 3]]


@given(LENGTHS, st.integers(1, 200))
def test_budget(lengths: list[int], max_tokens: int) -> None:
    groups = groups_within_budget(lengths, max_tokens)
    assert sorted(np.concatenate([*groups, np.empty(0, int)]).tolist()) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[row] for row in group)
        assert len(group) == 1 or len(group) * longest <= max_tokens
    in_order = [lengths[row] for group in groups for row in group]
    assert in_order == sorted(lengths, reverse=True)


def test_errors() -> None:
    with pytest.raises(ValueError, match="overhead: found -1, expected at least 0"):
        groups_of_least_cost([1], -1)
    with pytest.raises(ValueError, match="max_rows: found 0, expected at least 1"):
        groups_of_least_cost([1], 1, 0)
    with pytest.raises(ValueError, match="max_tokens: found 0, expected at least 1"):
        groups_of_least_cost([1], 1, None, 0)
    with pytest.raises(ValueError, match="max_tokens: found 0, expected at least 1"):
        groups_within_budget([1], 0)
