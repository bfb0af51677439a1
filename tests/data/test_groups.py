"""Disjoint sets against a plain closure, and the pairs that judgements make of a set."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pyhbt.data.groups import judged_pairs
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import Tier
from tests.data.test_disjoint import closure
from tests.toy import retrieval_set


def test_judged_pairs_leave_zero_shot_out() -> None:
    data = retrieval_set(5)  # cc is zero-shot
    pairs = judged_pairs(data)
    assert len(pairs) == 5 * 2 * 2
    assert set(pairs.languages) == {"aa", "bb"}
    assert len(pairs.group_names) == 5
    relevant = {
        (data.query_texts[data.query_ids.index(query)], data.passage_texts[data.passage_ids.index(passage)])
        for query, judged in data.qrels.items()
        for passage in judged
    }
    assert {(pair.query, pair.passage) for pair in pairs} <= relevant


def test_pairs_of_one_query_or_passage_share_the_first_passage_as_group() -> None:
    pairs = PairSet.from_pairs(
        [
            Pair("q", "a", "en", "en", ""),
            Pair("r", "b", "en", "en", ""),
            Pair("q", "c", "en", "de", ""),  # the same query
            Pair("s", "c", "en", "de", ""),  # the same passage
            Pair("q", "d", "de", "de", ""),  # the same text in another language
            Pair("q", "e", "en", "en", "", question="7"),  # another question
            Pair("t", "f", "de", "en", "", question="7"),  # its translation
            Pair("q", "g", "en", "en", "named"),
            Pair("q", "h", "en", "en", "named too"),
        ],
    )
    found = pairs.with_groups()
    assert [pair.group for pair in found] == ["a", "b", "a", "a", "d", "e", "e", "named", "named too"]
    assert found.group_names == ("a", "b", "d", "e", "named", "named too")
    assert found.with_groups() is found


SMALL = st.sampled_from("abc")


@given(st.lists(st.tuples(SMALL, SMALL, st.sampled_from(["en", "de"]), SMALL | st.just(""), st.booleans())))
def test_groups_of_pairs_that_name_none(rows: list[tuple[str, str, str, str, bool]]) -> None:
    pairs = PairSet.from_pairs(
        Pair(f"q{query}", f"p{passage}", lang, "en", f"g{passage}" if named else "", question=question)
        for query, passage, lang, question, named in rows
    )
    found = pairs.with_groups()
    joins = []
    for query, passage, lang, question, named in rows:
        asked = "abc".index(question) if question else 3 + "abc".index(query) + 3 * (lang == "de")
        joins += [] if named else [(asked, 9 + "abc".index(passage))]
    sets = closure(joins, 12)
    assert [one.group for one in found if one.group[0] == "g"] == [f"g{row[1]}" for row in rows if row[4]]
    for (one, row), (other, other_row) in itertools.combinations(zip(found, rows, strict=True), 2):
        if not row[-1] and not other_row[-1]:
            places = {9 + "abc".index(row[1]), 9 + "abc".index(other_row[1])}
            assert (one.group == other.group) == any(places <= part for part in sets)


def judged(
    qrels: Mapping[str, Mapping[str, int]], questions: tuple[str, ...], tiers: Mapping[str, Tier]
) -> RetrievalSet:
    """Queries q0, q1, ... and passages p0 to p3, in the languages of ``tiers`` by turns."""
    langs = tuple(tiers)
    count = len(questions)
    return RetrievalSet(
        name="judged",
        query_ids=tuple(f"q{number}" for number in range(count)),
        query_texts=tuple(f"query {number}" for number in range(count)),
        query_langs=tuple(langs[number % len(langs)] for number in range(count)),
        questions=questions,
        passage_ids=tuple(f"p{number}" for number in range(4)),
        passage_texts=tuple(f"passage {number}" for number in range(4)),
        passage_langs=tuple(langs[number % len(langs)] for number in range(4)),
        qrels=qrels,
        tiers=dict(tiers),
    )


def test_questions_that_share_an_answer_share_a_group() -> None:
    qrels = {"q0": {"p0": 1}, "q1": {"p0": 2, "p1": 1}, "q2": {"p1": 0, "p2": 1}, "q3": {"p1": 1}}
    pairs = judged_pairs(judged(qrels, ("a", "b", "c", "d"), {"en": "seen"}))
    first = pairs[0].group
    assert list(pairs) == [
        Pair("query 0", "passage 0", "en", "en", first, question="a"),
        Pair("query 1", "passage 0", "en", "en", first, question="b"),
        Pair("query 1", "passage 1", "en", "en", first, question="b"),
        Pair("query 2", "passage 2", "en", "en", pairs[3].group, question="c"),  # p1 does not answer it
        Pair("query 3", "passage 1", "en", "en", first, question="d"),
    ]
    assert pairs[3].group != first


def test_answers_left_out_join_all_the_same() -> None:
    """Both questions are answered by p1, which is of a zero-shot language."""
    qrels = {"q0": {"p0": 1, "p1": 1}, "q2": {"p1": 1, "p2": 1}}
    pairs = judged_pairs(judged(qrels, ("a", "x", "b"), {"en": "seen", "fr": "zero-shot"}))
    assert [(pair.query, pair.passage) for pair in pairs] == [
        ("query 0", "passage 0"),
        ("query 2", "passage 2"),
    ]
    assert len(pairs.group_names) == 1
    assert len(judged_pairs(judged({"q0": {"p0": 0}}, ("a",), {"en": "seen"}))) == 0


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=5),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=9),
)
def test_groups_are_joined_questions(questions: list[str], relevant: set[tuple[int, int]]) -> None:
    relevant = {(query, passage) for query, passage in relevant if query < len(questions)}
    qrels: dict[str, dict[str, int]] = {}
    for query, passage in sorted(relevant):
        qrels.setdefault(f"q{query}", {})[f"p{passage}"] = 1
    tiers: dict[str, Tier] = {"en": "seen", "fr": "zero-shot", "sw": "low-resource"}
    data = judged(qrels, tuple(questions), tiers)
    pairs = judged_pairs(data)
    kept = {(query, passage) for query, passage in relevant if 1 not in (query % 3, passage % 3)}
    assert {(int(pair.query[-1]), int(pair.passage[-1])) for pair in pairs} == kept
    # 0 to 2: questions; 3 to 6: passages
    joined = closure([("abc".index(questions[query]), 3 + passage) for query, passage in relevant])
    for one, other in itertools.combinations(pairs, 2):
        together = {"abc".index(one.question), "abc".index(other.question)}
        assert (one.group == other.group) == any(together <= part for part in joined)
