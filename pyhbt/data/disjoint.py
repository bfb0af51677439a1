"""Disjoint sets of things that are joined pair by pair."""

from __future__ import annotations

from collections.abc import Hashable


class DisjointSets:
    """Things joined to one another, directly or through others, have the same root."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Hashable] = {}

    def root(self, node: Hashable) -> Hashable:
        """The representative of ``node``'s set; a new node is a set of its own."""
        parents = self._parents
        parents.setdefault(node, node)
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    def join(self, first: Hashable, second: Hashable) -> None:
        """Makes the sets of ``first`` and ``second`` one."""
        self._parents[self.root(second)] = self.root(first)
