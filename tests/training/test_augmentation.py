"""Parallel texts and code-switching: what is drawn, from where, the same again; lexicon files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyhbt.data.pair_set import Pair, PairSet, ParallelItem
from pyhbt.training.augmentation import Augmentation
from pyhbt.training.batches import Draw, DrawnExamples
from pyhbt.training.code_switching import CodeSwitching, load_lexicon

ITEMS = [
    ParallelItem(
        "shared",
        {lang: f"q{number} {lang}" for lang in langs},
        {lang: f"p{number} {lang}" for lang in langs},
    )
    for number, langs in enumerate((("en", "de", "fr"), ("en", "de"), ("en",)))
]
PAIRS = PairSet.from_parallel(ITEMS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_parallel_texts_are_of_the_same_question_in_another_language() -> None:
    """All three items share a group: their answers are the same passage, but their questions are not."""
    augmentation = Augmentation(PAIRS, parallel_queries=True, parallel_passages=2)
    seen = set()
    for row in range(len(PAIRS)):
        for seed in range(20):
            pair = augmentation.example(row, rng(seed))
            number = pair.query[1]
            others = {"0": 2, "1": 1, "2": 0}[number]
            assert len(pair.parallel_passages) == min(2, others)
            assert len(set(pair.parallel_passages)) == len(pair.parallel_passages)
            for text in pair.parallel_passages:
                assert text.startswith(f"p{number} ")
                assert text != pair.passage
            if others:
                assert pair.parallel_query is not None
                assert pair.parallel_query.startswith(f"q{number} ")
                assert pair.parallel_query != pair.query
            else:
                assert pair.parallel_query is None
            seen.add((pair.query, pair.parallel_query))
    assert len(seen) == 3 * 2 + 2 * 1 + 1  # every translation is drawn


def test_pairs_without_a_named_question_have_no_translation() -> None:
    pairs = PairSet.from_pairs(
        [
            Pair("a", "x", "en", "en", "g"),
            Pair("b", "x", "de", "en", "g"),
            Pair("c", "y", "en", "en", "h", question="7"),
            Pair("d", "y", "sw", "en", "h", question="7"),
        ]
    )
    augmentation = Augmentation(pairs, parallel_queries=True)
    assert [augmentation.example(row, rng()).parallel_query for row in range(4)] == [None, None, "d", "c"]
    with pytest.raises(ValueError, match="parallel_passages: wanted, but no question"):
        Augmentation(pairs, parallel_passages=1)
    with pytest.raises(ValueError, match="parallel_passages: found -1"):
        Augmentation(pairs, parallel_passages=-1)


def test_nothing_wanted_nothing_changed() -> None:
    augmentation = Augmentation(PAIRS)
    assert [augmentation.example(row, rng()) for row in range(len(PAIRS))] == list(PAIRS)


def test_draws_are_a_function_of_seed_step_and_position() -> None:
    augmentation = Augmentation(PAIRS, parallel_queries=True, parallel_passages=1)
    examples = DrawnExamples(PAIRS, 3, augmentation)
    draw = Draw(5, (0, 1, 2, 9))
    assert examples[draw].pairs == examples[draw].pairs
    assert (
        examples[Draw(5, (2, 9))].pairs == examples[draw].pairs[2:]
    )  # however the step is dealt out to ranks
    steps = [examples[Draw(step, (0,))].pairs for step in range(40)]
    assert len({(one[0].parallel_query, one[0].parallel_passages) for one in steps}) == 4
    assert steps != [DrawnExamples(PAIRS, 4, augmentation)[Draw(step, (0,))].pairs for step in range(40)]


def test_without_augmentation_pairs_are_as_they_are() -> None:
    drawn = DrawnExamples(PAIRS, 3)[Draw(5, (2, 9))]
    assert drawn.pairs == [PAIRS[2], PAIRS[9]]
    assert drawn.group_ids.tolist() == PAIRS.group_ids[PAIRS.groups[[2, 9]]].tolist()
    assert len(DrawnExamples(PAIRS, 3)) == len(PAIRS)


LEXICON = {
    ("en", "cat"): {"de": ("Katze", "Kater"), "fr": ("chat",)},
    ("en", "the"): {"de": ("die",)},
    ("de", "katze"): {"en": ("cat",)},
}


def test_words_are_switched_and_the_rest_stays() -> None:
    switch = CodeSwitching(LEXICON, 1.0)
    found = {switch("  The (CAT), the cats!", "en", rng(seed)) for seed in range(50)}
    assert found == {f"  die ({word}), die cats!" for word in ("Katze", "Kater", "chat")}
    assert switch("Katze cat", "de", rng()) == "cat cat"
    assert switch("the cat", "sw", rng()) == "the cat"
    assert switch("", "en", rng()) == ""
    assert CodeSwitching(LEXICON, 0.0)("the cat", "en", rng()) == "the cat"


def test_languages_are_drawn_uniformly_and_words_with_the_probability() -> None:
    words = CodeSwitching(LEXICON, 0.3)("cat " * 20_000, "en", rng()).split()
    share = {word: words.count(word) / len(words) for word in set(words)}
    assert share["cat"] == pytest.approx(0.7, abs=0.02)
    assert share["chat"] == pytest.approx(0.15, abs=0.01)
    assert share["Katze"] == pytest.approx(0.075, abs=0.01)


def test_all_texts_of_a_pair_are_switched_in_their_languages() -> None:
    pairs = PairSet.from_parallel([ParallelItem("g", {"en": "cat", "de": "Katze"}, {"en": "the", "de": "x"})])
    augmentation = Augmentation(
        pairs, parallel_queries=True, parallel_passages=1, code_switching=CodeSwitching(LEXICON, 1.0)
    )
    pair = augmentation.example(0, rng())
    assert pair.query in ("Katze", "Kater", "chat")
    assert (pair.passage, pair.parallel_query, pair.parallel_passages) == ("die", "cat", ("x",))
    assert (pair.query_lang, pair.passage_lang) == ("en", "en")


def test_lexicon_files(tmp_path: Path) -> None:
    (tmp_path / "en-de.txt").write_text("cat Katze\ncat Katze\n\nCat\tKater\n", encoding="utf-8")
    (tmp_path / "more.tsv").write_text("﻿sw\tpaka\ten\thouse cat\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not read")
    assert load_lexicon(tmp_path) == {
        ("en", "cat"): {"de": ("Katze", "Kater")},
        ("sw", "paka"): {"en": ("house cat",)},
    }
    assert load_lexicon(tmp_path / "en-de.txt") == {("en", "cat"): {"de": ("Katze", "Kater")}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("en-de.txt", "cat\n", "en-de.txt:1: found 1 columns, expected 2"),
        ("other.tsv", "en\tcat\tde\tKatze\nen\tcat\n", "other.tsv:2: found 2 columns, expected 4"),
        ("other.tsv", "en\t\tde\tKatze\n", "other.tsv:1: found 4 columns, expected 4"),
        ("en-de.txt", "\n", "found no entries"),
    ],
)
def test_lexicon_mistakes(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_lexicon(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="lexicon"):
        load_lexicon(tmp_path / "absent")


def test_probability_is_checked() -> None:
    with pytest.raises(ValueError, match="probability: found 1.5"):
        CodeSwitching(LEXICON, 1.5)
