"""Pairs by column."""

from __future__ import annotations

from typing import Any

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


ROWS: list[dict[str, Any]] = [
    {"question": "q", "context": "p", "id": 7, "group": None},
    {"question": "r", "context": "s", "id": 8, "group": ""},
]
COLUMNS = {"query": "question", "passage": "context"}


def test_a_dataset_of_other_columns_makes_pairs() -> None:
    from datasets import Dataset

    # the column question is the query here, so it is no name of what is asked
    expected = [Pair("q", "p", "de", "en", "p"), Pair("r", "s", "de", "en", "s")]
    for rows in (ROWS, Dataset.from_list(ROWS), iter(ROWS)):
        found = PairSet.from_dataset(rows, columns=COLUMNS, query_lang="de", passage_lang="en")
        assert list(found) == expected


def test_rows_that_make_no_pairs_are_refused() -> None:
    from datasets import Dataset, DatasetDict

    dataset = Dataset.from_list(ROWS)
    with pytest.raises(ValueError, match="no column 'questoin' for query, .*; did you mean 'question'"):
        PairSet.from_dataset(dataset, columns={"query": "questoin"})
    with pytest.raises(ValueError, match="dataset:1: query_lang: missing"):
        PairSet.from_dataset(dataset, columns=COLUMNS)
    with pytest.raises(ValueError, match="no rows"):
        PairSet.from_dataset([])
    for wrong in ("rows", DatasetDict(train=dataset), ROWS[0]):
        with pytest.raises(TypeError, match="dataset: found .* expected a Dataset"):
            PairSet.from_dataset(wrong, columns=COLUMNS)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dataset:1: found str, expected a mapping"):
        PairSet.from_dataset(["row"])  # type: ignore[list-item]


def test_rows_are_pairs_as_files_allow() -> None:
    row = {"query": "q", "passage": "p", "query_lang": "en", "passage_lang": "en"}
    other = Pair(**{**row, "query": "r", "passage": "s"})
    pairs = PairSet.from_pairs([Pair(**row), other])
    assert [pair.group for pair in pairs] == ["p", "s"]  # not one group of both
    assert pairs.answer_groups.tolist() == [0, 1]


def test_what_is_no_pair_or_no_column_is_named() -> None:
    from dataclasses import replace

    pairs = PairSet.from_pairs(PAIRS)
    for wrong in ([{"query": "q"}], "text", [PAIRS[0], None]):
        with pytest.raises(TypeError, match="pairs: found .*, expected a Pair at position"):
            PairSet.from_pairs(wrong)  # type: ignore[arg-type]
    for name, value, message in (
        ("queries", "text", "queries: found str, expected a tuple of strings"),
        ("languages", ("en", 5), r"languages\[1\]: found int, expected a string"),
        ("groups", [0, 0, 0], "groups: found list, expected an int64 array"),
    ):
        with pytest.raises(TypeError, match=message):
            replace(pairs, **{name: value})
    for name, column in (
        ("groups", np.zeros(2, np.int64)),
        ("questions", np.zeros(3, np.float32)),
        ("query_langs", np.full(3, 9)),
        ("passage_index", np.full(3, -1)),
    ):
        with pytest.raises(ValueError, match=f"{name}: found "):
            replace(pairs, **{name: column})
