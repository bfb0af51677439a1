"""Pairs by column."""

from __future__ import annotations

import numpy as np
import pytest

from pyhbt.data.pair_set import Pair, PairSet, ParallelItem

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


def test_group_ids_are_the_same_everywhere_and_made_once() -> None:
    pairs = PairSet.from_pairs(Pair("q", "p", "en", "en", name) for name in ("a", "", *map(str, range(1000))))
    assert pairs.group_ids[0] == 1702698405120146464
    assert len(set(pairs.group_ids.tolist())) == 1002
    assert pairs.group_ids.dtype == np.int64
    assert (pairs.group_ids >= 0).all()
    assert pairs.group_ids is pairs.group_ids


def test_answer_groups_join_what_answers_the_same_queries() -> None:
    pairs = PairSet.from_pairs(
        [
            Pair("q", "a", "en", "en", "g0", ("b", "n")),
            Pair("q", "b", "en", "en", "g1"),  # the same query
            Pair("r", "b", "en", "en", "g2"),  # the same passage
            Pair("s", "c", "en", "en", "g2"),  # the same group
            Pair("q", "d", "de", "en", "g3"),  # the same text in another language
            Pair("t", "e", "en", "en", "g4", question="7"),
            Pair("u", "f", "de", "en", "g5", ("d",), question="7"),  # the same question
            Pair("t", "h", "en", "en", "g6", question="8"),  # the same query, whatever its question is called
        ]
    )
    group = {text: int(place) for text, place in zip(pairs.passages, pairs.answer_groups, strict=True)}
    assert group == {"a": 0, "b": 0, "c": 0, "d": 3, "e": 4, "f": 4, "h": 4, "n": -1}
    assert pairs.answer_groups.dtype == np.int64
    assert pairs.answer_groups is pairs.answer_groups
    assert PairSet.from_pairs([]).answer_groups.shape == (0,)


def test_answer_groups_of_parallel_items_are_their_groups() -> None:
    items = [ParallelItem(f"g{i}", {"en": f"q{i}", "fr": f"r{i}"}, {"en": f"p{i}"}) for i in range(3)]
    pairs = PairSet.from_parallel(items)
    np.testing.assert_array_equal(pairs.answer_groups[pairs.passage_index], pairs.groups)
