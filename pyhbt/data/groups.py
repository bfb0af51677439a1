"""The pairs that judgements make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyhbt.data.disjoint import DisjointSets
from pyhbt.data.pair_set import Pair, PairSet

if TYPE_CHECKING:
    from pyhbt.data.retrieval_set import RetrievalSet


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
