"""Disjoint sets against a plain closure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyhbt.data.disjoint import DisjointSets

NODES = st.integers(0, 9)


def closure(joins: list[tuple[int, int]], count: int = 10) -> set[frozenset[int]]:
    """Sets of the first numbers, merged until nothing moves."""
    sets = [{node} for node in range(count)]
    for first, second in joins:
        one = next(part for part in sets if first in part)
        other = next(part for part in sets if second in part)
        if one is not other:
            sets.remove(other)
            one |= other
    return set(map(frozenset, sets))


@given(st.lists(st.tuples(NODES, NODES), max_size=20))
def test_sets_are_the_closure_of_the_joins(joins: list[tuple[int, int]]) -> None:
    sets = DisjointSets()
    for first, second in joins:
        sets.join(first, second)
    found: dict[object, set[int]] = {}
    for node in range(10):
        found.setdefault(sets.root(node), set()).add(node)
    assert set(map(frozenset, found.values())) == closure(joins)
    assert all(sets.root(sets.root(node)) == sets.root(node) for node in range(10))
    assert all(sets.root(node) in part for part in found.values() for node in part)


def test_a_long_chain_has_one_root() -> None:
    sets = DisjointSets()
    for node in range(100_000):  # the worst order: every root below a new one
        sets.join(node + 1, node)
    assert sets.root(0) == sets.root(50_000) == sets.root(100_000) == 100_000


def test_equal_numbers_of_other_kinds_are_other_nodes() -> None:
    sets = DisjointSets()
    sets.join(("query", "1"), ("passage", "1"))
    assert sets.root(("query", "1")) == ("query", "1")
    assert sets.root(("query", "2")) == ("query", "2")
    assert sets.root("1") == "1"
