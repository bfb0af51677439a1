"""Groups of pairs: disjoint sets of things, groups for pairs that name none, and the pairs that judgements make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pyhbt.data.pair_set import Pair, PairSet

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pyhbt.data.retrieval_set import RetrievalSet


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


def with_groups(pairs: PairSet) -> PairSet:
    """Groups for the pairs that name none, whose group is empty; O(pairs).

    Among these pairs those share a group that have one question, or, where they name none, one query text in one
    language; and those that have one passage text. The group's name is the first of its passages. Groups that are named
    stay as they are.
    """
    if "" not in pairs.group_names:
        return pairs
    names = [pairs.group_names[group] for group in pairs.groups]
    open_rows = [row for row, name in enumerate(names) if not name]
    same = DisjointSets()
    for row in open_rows:
        question = pairs.question_names[pairs.questions[row]]
        query = (int(pairs.query_index[row]), int(pairs.query_langs[row]))
        asked = ("question", question) if question else ("query", query)
        same.join(asked, ("passage", int(pairs.passage_index[row])))
    first: dict[Hashable, str] = {}
    for row in open_rows:
        passage = int(pairs.passage_index[row])
        names[row] = first.setdefault(same.root(("passage", passage)), pairs.passages[passage])
    places: dict[str, int] = {}
    groups = [places.setdefault(name, len(places)) for name in names]
    return replace(pairs, group_names=tuple(places), groups=np.array(groups, dtype=np.int64))


def judged_pairs(data: RetrievalSet) -> PairSet:
    """A pair for every query and passage relevant to it, zero-shot languages left out; O(judgements).

    Questions that share a relevant passage share a group.
    """
    query = {name: place for place, name in enumerate(data.query_ids)}
    passage = {name: place for place, name in enumerate(data.passage_ids)}
    found = [
        (query[asked], passage[answer])
        for asked, judged in data.qrels.items()
        for answer, relevance in judged.items()
        if relevance > 0
    ]
    same = DisjointSets()
    for asked, answer in found:
        same.join(("question", data.questions[asked]), ("passage", answer))
    return PairSet.from_pairs(
        Pair(
            data.query_texts[asked],
            data.passage_texts[answer],
            data.query_langs[asked],
            data.passage_langs[answer],
            str(same.root(("question", data.questions[asked]))),
            question=data.questions[asked],
        )
        for asked, answer in found
        if "zero-shot" not in (data.tiers[data.query_langs[asked]], data.tiers[data.passage_langs[answer]])
    )
