"""What data hold of each language, in numbers and in words."""

from __future__ import annotations

import json
from dataclasses import replace

from pyhbt.data.coverage import FEW, coverage, coverage_in_words, meaning_of_ratio
from pyhbt.data.pair_set import Pair, PairSet, ParallelItem
from tests.toy import retrieval_set


def pairs(*languages: str) -> PairSet:
    """A pair for each ``de`` (monolingual) or ``de-en``."""
    both = [(name.split("-")[0], name.split("-")[-1]) for name in languages]
    return PairSet.from_pairs(
        Pair(f"q{i}", f"p{i}", query, passage, f"g{i}") for i, (query, passage) in enumerate(both)
    )


def test_full_coverage_has_nothing_to_say() -> None:
    found = coverage(retrieval_set(FEW))
    assert (found["queries"], found["passages"], found["clusters"]) == (3 * FEW, 3 * FEW, FEW)
    assert found["pairs"] == [[a, b, FEW] for a in ("aa", "bb", "cc") for b in ("aa", "bb", "cc")]
    assert coverage_in_words(found) == []
    assert json.loads(json.dumps(found)) == found


def test_absent_and_rare() -> None:
    data = retrieval_set(FEW + 1)
    queries = data.query_ids
    few = {query: judged for query, judged in data.qrels.items() if query.startswith("q:aa")}
    for query in queries[2:]:
        if query.startswith("q:aa"):
            few[query] = {passage: 1 for passage in few[query] if not passage.startswith("p:cc")}
    bb = {
        query: {passage: 0 if passage.startswith("p:aa") else 1 for passage in judged}
        for query, judged in data.qrels.items()
        if query.startswith("q:bb")
    }
    some = replace(data, qrels={**few, **bb})
    found = coverage(some, ["aa", "bb", "cc", "zz"])
    assert found["absent_languages"] == ["zz"]
    assert found["absent_pairs"] == [["bb", "aa"], ["cc", "aa"], ["cc", "bb"], ["cc", "cc"]]
    assert found["rare_pairs"] == [["aa", "cc"]]
    words = coverage_in_words(found)
    assert words[0] == "No query is in zz."
    assert words[1].endswith("language pairs: bb-aa, cc-aa, cc-bb, cc-cc.")
    assert "aa-cc (2)" in words[2]


def test_long_lists_are_cut() -> None:
    found = coverage(retrieval_set(2), [f"l{i:02}" for i in range(20)])
    assert coverage_in_words(found)[0].endswith("l11 and 8 more.")


def test_a_ratio_of_parallel_pairs_means_itself() -> None:
    item = ParallelItem("g", {"de": "q", "en": "Q"}, {"de": "p", "en": "P"})
    assert meaning_of_ratio(PairSet.from_parallel([item])) == []
    assert meaning_of_ratio(pairs("de", "en")) == []  # no cross-lingual pairs: ratio 0 is all there is


def test_languages_without_monolingual_pairs() -> None:
    """AfriQA: African questions, English passages."""
    said = meaning_of_ratio(pairs("en", "hau-en", "ibo-en"))
    assert said[0] == (
        "hau, ibo have no monolingual pairs: monolingual batches are in en alone, so a higher ratio also means more of "
        "hau, ibo, not only more cross-lingual batches."
    )
    assert said[1] == "en has no cross-lingual pairs as queries: at ratio 1 none of its queries are drawn."
    assert len(said) == 2


def test_languages_without_cross_lingual_pairs() -> None:
    said = meaning_of_ratio(pairs("de", "en", "sw", "de-en", "en-de"))
    assert said == ["sw has no cross-lingual pairs: a higher ratio also means less of sw."]


def test_no_monolingual_pairs_at_all() -> None:
    assert meaning_of_ratio(pairs("de-en", "en-de")) == [
        "No language has monolingual pairs: every ratio but 1 is impossible."
    ]
