"""Pairs from the judgements of a retrieval set, for losses on held-out data."""

from __future__ import annotations

from pyhbt.data.groups import DisjointSets
from pyhbt.data.types import Pair, PairSet, RetrievalSet


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
        same.join(("question", data.query_groups[asked]), ("passage", answer))
    return PairSet.from_pairs(
        Pair(
            data.query_texts[asked],
            data.passage_texts[answer],
            data.query_langs[asked],
            data.passage_langs[answer],
            str(same.root(("question", data.query_groups[asked]))),
            question=data.query_groups[asked],
        )
        for asked, answer in found
        if "zero-shot" not in (data.tiers[data.query_langs[asked]], data.tiers[data.passage_langs[answer]])
    )
