"""Parallel texts and code-switched ones: what is drawn, from where, the same again."""

from __future__ import annotations

import numpy as np
import pytest

from pyhbt.data.pair_set import Pair, PairSet, ParallelItem
from pyhbt.training.augmentation import Augmentation
from pyhbt.training.batches import Draw, DrawnExamples
from pyhbt.training.code_switching import CodeSwitching
from tests.training.test_code_switching import LEXICON

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
    shared = examples[Draw(5, (2, 9))]  # however the step is dealt out to ranks
    assert shared.pairs == examples[draw].pairs[2:]
    np.testing.assert_array_equal(shared.group_ids, examples[draw].group_ids[2:])
    np.testing.assert_array_equal(shared.group_ids, PAIRS.group_ids[PAIRS.groups[[2, 9]]])
    steps = [examples[Draw(step, (0,))].pairs for step in range(40)]
    assert len({(one[0].parallel_query, one[0].parallel_passages) for one in steps}) == 4
    assert steps != [DrawnExamples(PAIRS, 4, augmentation)[Draw(step, (0,))].pairs for step in range(40)]


def test_without_augmentation_pairs_are_as_they_are() -> None:
    drawn = DrawnExamples(PAIRS, 3)[Draw(5, (2, 9))]
    assert drawn.pairs == [PAIRS[2], PAIRS[9]]
    assert drawn.group_ids.tolist() == PAIRS.group_ids[PAIRS.groups[[2, 9]]].tolist()
    assert len(DrawnExamples(PAIRS, 3)) == len(PAIRS)


def test_all_texts_of_a_pair_are_switched_in_their_languages() -> None:
    pairs = PairSet.from_parallel([ParallelItem("g", {"en": "cat", "de": "Katze"}, {"en": "the", "de": "x"})])
    augmentation = Augmentation(
        pairs, parallel_queries=True, parallel_passages=1, code_switching=CodeSwitching(LEXICON, 1.0)
    )
    pair = augmentation.example(0, rng())
    assert pair.query in ("Katze", "Kater", "chat")
    assert (pair.passage, pair.parallel_query, pair.parallel_passages) == ("die", "cat", ("x",))
    assert (pair.query_lang, pair.passage_lang) == ("en", "en")
