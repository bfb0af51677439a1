"""Passages that may become negatives: what counts as one, in which languages, in which order."""

from __future__ import annotations

import itertools
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt import NgramEncoder
from pyhbt.data import Pair, PairSet, Passage
from pyhbt.mining.candidates import Candidates
from pyhbt.mining.negatives import mine_negatives
from pyhbt.mining.rules import MiningRules, Pool


def test_a_text_of_two_languages_is_in_both_pools_and_not_other() -> None:
    pairs = PairSet.from_pairs(
        [
            Pair("q", "p", "aa", "aa", "1"),
            Pair("r", "shared", "aa", "aa", "2"),
            Pair("s", "shared", "bb", "bb", "3"),
            Pair("t", "only bb", "bb", "bb", "4"),
        ]
    )
    encoder = NgramEncoder(dim=8, num_buckets=64)
    found = {
        pool: set(mine_negatives(encoder, pairs, MiningRules(pool=pool, share=None)).pairs[0].negatives)
        for pool in ("passage", "other", "any")
    }
    assert found == {"passage": {"shared"}, "other": {"only bb"}, "any": {"shared", "only bb"}}


POOLS: tuple[Pool, ...] = ("passage", "query", "other", "any")
LANGS = ("aa", "bb", "cc")
TEXTS = st.sampled_from(["a", "A", " a\n", "Ａ", "b", "ß", "ss", "c  d", "c d", "", " \u3000"])


def fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def pair(passage: str, lang: str = "aa", negatives: tuple[str, ...] = ()) -> Pair:
    return Pair("q", passage, "aa", lang, "g", negatives)


PAIRS = st.lists(
    st.builds(pair, TEXTS, st.sampled_from(LANGS), st.lists(TEXTS, max_size=2).map(tuple)),
    min_size=1,
    max_size=6,
)
CORPUS = st.lists(st.builds(Passage, TEXTS, st.sampled_from([*LANGS, "dd"])), max_size=5)


@given(PAIRS, CORPUS, st.sampled_from(POOLS))
def test_candidates_are_distinct_contents_with_all_their_languages(
    rows: list[Pair], corpus: list[Passage], pool: Pool
) -> None:
    pairs = PairSet.from_pairs(rows)
    found = Candidates(pairs, corpus, pool)
    texts = [*pairs.passages, *(passage.text for passage in corpus)]
    assert list(found.texts) == texts
    languages: dict[str, set[str]] = {fold(text): set() for text in texts}
    for row in rows:
        languages[fold(row.passage)].add(row.passage_lang)
    for passage in corpus:
        languages[fold(passage.text)].add(passage.lang)
    number = {lang: place for place, lang in enumerate(found.languages)}
    assert set(number) == {*pairs.languages, *(passage.lang for passage in corpus)}

    wanted = {content for content, spoken in languages.items() if content and (pool == "any" or spoken)}
    contents = [fold(found.texts[position]) for position in found.positions]
    assert len(contents) == len(found) == len(set(contents))
    assert set(contents) == wanted
    for row, content in enumerate(contents):
        assert found.positions[row] == min(at for at, text in enumerate(texts) if fold(text) == content)
        if pool != "any":
            spoken = {number[lang] for lang in languages[content]}
            assert found.sets[found.language_sets[row]] == frozenset(spoken)
    for text, row in zip(texts, found.row_of_text, strict=True):
        assert row == (contents.index(fold(text)) if fold(text) in wanted else -1)

    order = list(zip(found.language_sets.tolist(), found.positions.tolist(), strict=True))
    assert order == sorted(order)  # those of one set side by side, each set in the order of texts
    if pool == "any":
        assert set(found.language_sets.tolist()) <= {0}


@given(PAIRS, CORPUS, st.sampled_from(POOLS))
def test_every_text_that_needs_a_vector_has_one_place(
    rows: list[Pair], corpus: list[Passage], pool: Pool
) -> None:
    pairs = PairSet.from_pairs(rows)
    found = Candidates(pairs, corpus, pool)
    layout = found.layout.tolist()
    assert layout[: len(found)] == found.positions.tolist()
    assert len(set(layout)) == len(layout)
    assert set(layout) == {*found.positions.tolist(), *pairs.passage_index.tolist()}
    for text, place in enumerate(found.place_of_text):
        assert place == (layout.index(text) if text in layout else -1)


@given(PAIRS, CORPUS, st.sampled_from(POOLS))
def test_pools_are_the_sets_that_fit(rows: list[Pair], corpus: list[Passage], pool: Pool) -> None:
    found = Candidates(PairSet.from_pairs(rows), corpus, pool)
    table = found.pools(pool)
    assert table.shape[0] == len(found.languages)
    assert table.shape[1] >= 1
    for language, numbers in enumerate(table.tolist()):
        chosen = [number for number in numbers if number >= 0]
        assert numbers == chosen + [-1] * (len(numbers) - len(chosen))
        for number, spoken in enumerate(found.sets):
            assert (number in chosen) == (
                (language not in spoken) if pool == "other" else (language in spoken)
            )


def test_one_text_in_several_languages() -> None:
    pairs = PairSet.from_pairs([pair("Angola", "aa"), pair("angola", "bb"), pair("x", "bb")])
    found = Candidates(pairs, [Passage(" ANGOLA ", "cc"), Passage("y", "aa")], "passage")
    assert [found.texts[position] for position in found.positions] == ["Angola", "x", "y"]
    assert [sorted(found.sets[number]) for number in found.language_sets] == [[0, 1, 2], [1], [0]]
    assert found.row_of_text.tolist() == [0, 0, 1, 0, 2]
    assert found.layout.tolist() == [0, 2, 4, 1]  # "angola" is a positive, and another text stands for it
    assert found.pools("passage").tolist() == [[0, 2], [0, 1], [0, -1]]
    assert found.pools("other").tolist() == [[1, -1], [2, -1], [1, 2]]


@pytest.mark.parametrize("pool", POOLS)
def test_one_passage_and_nothing_at_all(pool: Pool) -> None:
    one = Candidates(PairSet.from_pairs([pair("p")]), (), pool)
    assert (len(one), one.positions.tolist(), one.layout.tolist()) == (1, [0], [0])
    blank = Candidates(PairSet.from_pairs([pair(" ")]), [Passage("\n", "bb")], pool)
    assert len(blank) == 0
    assert blank.row_of_text.tolist() == [-1, -1]
    assert blank.layout.tolist() == [0]  # the positive is scored all the same


def test_the_order_of_pairs_does_not_choose_candidates() -> None:
    rows: list[Any] = [pair("a", "aa"), pair("A", "bb"), pair("b", "bb", ("n",)), pair("c", "cc")]
    found = []
    for order in itertools.permutations(rows):
        candidates = Candidates(PairSet.from_pairs(order), (), "passage")
        names = {number: lang for lang, number in candidates.languages.items()}
        found.append(
            {
                fold(candidates.texts[position]): frozenset(names[lang] for lang in candidates.sets[number])
                for position, number in zip(candidates.positions, candidates.language_sets, strict=True)
            }
        )
    assert found.count(found[0]) == len(found)
    assert found[0] == {"a": {"aa", "bb"}, "b": {"bb"}, "c": {"cc"}}
