"""Pairs by column and the checks of retrieval sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyhbt.data.pair_set import Pair, PairSet, ParallelItem
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import scarcer

PAIRS = [
    Pair("q1", "p1", "en", "en", "g1"),
    Pair("q1", "p2", "en", "fr", "g1", ("n1", "p1")),
    Pair("q2", "p3", "fr", "fr", "g2"),
]


def test_from_pairs_holds_each_text_once_and_gives_the_pairs_back() -> None:
    pairs = PairSet.from_pairs(PAIRS)
    assert list(pairs) == PAIRS
    assert pairs[-1] == PAIRS[-1]
    assert pairs[1:] == PAIRS[1:]
    assert pairs.queries == ("q1", "q2")
    assert sorted(pairs.passages) == ["n1", "p1", "p2", "p3"]
    assert pairs.query_index.dtype == np.int64
    with pytest.raises(IndexError):
        pairs[3]


def test_from_pairs_of_nothing_is_empty() -> None:
    pairs = PairSet.from_pairs([])
    assert len(pairs) == 0
    assert pairs.query_index.shape == (0,)
    assert list(pairs) == []


def test_from_parallel_pairs_every_query_language_with_every_passage_language() -> None:
    items = [
        ParallelItem("g1", {"en": "q", "fr": "r"}, {"en": "p", "de": "s"}),
        ParallelItem("g2", {}, {"en": "alone"}),
        ParallelItem("g3", {"en": "t"}, {"en": "u"}),
    ]
    assert list(PairSet.from_parallel(items)) == [
        Pair("q", "p", "en", "en", "g1", question="0"),
        Pair("q", "s", "en", "de", "g1", question="0"),
        Pair("r", "p", "fr", "en", "g1", question="0"),
        Pair("r", "s", "fr", "de", "g1", question="0"),
        Pair("t", "u", "en", "en", "g3", question="2"),
    ]
    assert len(PairSet.from_parallel([])) == 0


def test_the_tier_of_a_pair_is_that_of_its_scarcer_language() -> None:
    assert scarcer("seen", "seen") == "seen"
    assert scarcer("low-resource", "seen") == "low-resource"
    assert scarcer("low-resource", "zero-shot") == "zero-shot"


def _fields(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": "tiny",
        "query_ids": ("q1", "q2"),
        "query_texts": ("a", "b"),
        "query_langs": ("en", "fr"),
        "query_groups": ("g", "g"),
        "passage_ids": ("p1",),
        "passage_texts": ("c",),
        "passage_langs": ("en",),
        "qrels": {"q1": {"p1": 1}},
        "tiers": {"en": "seen", "fr": "zero-shot"},
    }
    return fields | changes


def test_a_consistent_retrieval_set_knows_its_languages() -> None:
    assert RetrievalSet(**_fields()).languages == ("en", "fr")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_ids": ("q1", "q1")}, "query_ids: 2 given, only 1 distinct"),
        ({"passage_texts": ()}, "passage_texts: 0 entries, expected 1"),
        ({"query_groups": ("g",)}, "query_groups: 1 entries, expected 2"),
        ({"qrels": {"q9": {}}}, "qrels: query 'q9'"),
        ({"qrels": {"q1": {"p9": 1}}}, "qrels: passage 'p9' of query 'q1'"),
        ({"tiers": {"en": "seen"}}, "tiers: no tier for language 'fr'"),
        ({"tiers": {"en": "seen", "fr": "rare"}}, "tiers: found 'rare' for 'fr'"),
    ],
)
def test_an_inconsistent_retrieval_set_raises(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetrievalSet(**_fields(**changes))
