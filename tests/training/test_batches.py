from __future__ import annotations

import numpy as np
import pytest
import torch

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import NgramEncoder
from pyhbt.training.batches import Examples, PairCollator

ENCODER = NgramEncoder(dim=2)


def examples(pairs: list[Pair]) -> Examples:
    ids = {name: number for number, name in enumerate(dict.fromkeys(pair.group for pair in pairs))}
    return Examples(pairs, np.array([ids[pair.group] for pair in pairs], dtype=np.int64))


def test_positives_come_first_then_distinct_hard_negatives() -> None:
    pairs = [
        Pair("q0", "p0", "en", "en", "a", ("x", "y")),
        Pair("q1", "p1", "en", "en", "b", ("y",)),
        Pair("q2", "p2", "en", "en", "a"),
    ]
    batch = PairCollator(ENCODER)(examples(pairs))
    vectors = ENCODER(batch["texts"])[batch["order"]]
    assert torch.equal(vectors, ENCODER.encode(["q0", "q1", "q2", "p0", "p1", "p2", "x", "y"]))
    assert batch["query_groups"].tolist() == [0, 1, 0]
    assert batch["passage_groups"].tolist() == [0, 1, 0, -1, -1]
    assert batch["query_of"].tolist() == batch["positives"].tolist() == [0, 1, 2]
    assert batch["num_queries"] == 3
    assert len(batch["translated"]) == 0
    assert not batch["cross_lingual"]


def test_equal_texts_are_encoded_once_and_stand_once_among_the_passages() -> None:
    pairs = [
        Pair("q", "p0", "en", "en", "a", ("p1", "x", "y")),
        Pair("q", "p1", "en", "en", "a", ("x", "p0"), parallel_query="q", parallel_passages=("p1", "p2")),
        Pair("r", "p3", "en", "en", "b", ("p1", "z", "p2"), parallel_query="r de"),
    ]
    given = examples(pairs)._replace(text_ids={"y": 1, "p1": 0})
    batch = PairCollator(ENCODER)(given)
    assert sum(len(texts["offsets"]) for texts in batch["texts"]) == 3 + 7
    texts = ["q", "q", "r", "q", "r de", "p0", "p1", "p3", "p2", "x", "y", "z"]
    assert torch.equal(ENCODER(batch["texts"])[batch["order"]], ENCODER.encode(texts))
    assert batch["query_of"].tolist() == [0, 1, 2, 1, 1]
    assert batch["positives"].tolist() == [0, 1, 2, 1, 3]
    assert batch["query_groups"].tolist() == [0, 0, 1]
    assert batch["passage_groups"].tolist() == [0, 0, 1, 0, -1, 1, -1]


def test_texts_that_became_equal_are_one() -> None:
    """The pairs' set holds them for different ones; code-switching made them equal."""
    switched = [
        Pair("q", "same", "en", "en", "a"),
        Pair("r", "same", "en", "en", "b", ("x",)),
        Pair("s", "p", "en", "en", "c"),
        Pair("s", "o", "en", "en", "d"),
        Pair("s", "e", "de", "de", "e"),
    ]
    batch = PairCollator(ENCODER)(examples(switched)._replace(text_ids={"x": 1}))
    assert batch["positives"].tolist() == [0, 0, 1, 2, 3]
    assert batch["query_groups"].tolist() == [0, 0, 2, 2, 4]
    assert batch["passage_groups"].tolist() == [0, 2, 2, 4, 0]


def test_parallel_texts() -> None:
    pairs = [
        Pair("q0", "p0", "en", "en", "a", ("x",), parallel_passages=("p0 de", "p0 fr")),
        Pair("q1", "p1", "en", "en", "b", parallel_query="q1 de", parallel_passages=("p1 de",)),
    ]
    batch = PairCollator(ENCODER)(examples(pairs))
    texts = ["q0", "q1", "q1 de", "p0", "p1", "p0 de", "p0 fr", "p1 de", "x"]
    assert torch.equal(ENCODER(batch["texts"])[batch["order"]], ENCODER.encode(texts))
    assert batch["translated"].tolist() == [1]
    assert batch["query_of"].tolist() == [0, 1, 0, 0, 1]
    assert batch["positives"].tolist() == [0, 1, 2, 3, 4]
    assert batch["passage_groups"].tolist() == [0, 1, 0, 0, 1, -1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_mini_batches(size: int) -> None:
    pairs = [Pair(f"q{i}", f"p{i}", "en", "en", str(i)) for i in range(4)]
    batch = PairCollator(ENCODER, size)(examples(pairs))
    assert max(len(texts["offsets"]) for texts in batch["texts"]) <= size
    whole = PairCollator(ENCODER)(examples(pairs))
    assert torch.equal(ENCODER(batch["texts"])[batch["order"]], ENCODER(whole["texts"])[whole["order"]])


def test_examples_carry_the_ids_of_their_set() -> None:
    negatives = {1: ("p0", "x")}
    pairs = PairSet.from_pairs(
        Pair(f"q{i}", f"p{i}", "en", "en", name, negatives.get(i, ())) for i, name in enumerate("aba")
    )
    chosen = Examples.of(pairs, [2, 1])
    assert chosen.pairs == [pairs[2], pairs[1]]
    a, b = pairs.group_ids
    assert chosen.group_ids.tolist() == [a, b]
    assert chosen.text_ids == {"p0": a}


def test_kind() -> None:
    assert PairCollator(ENCODER)(examples([Pair("q", "p", "en", "de", "a")]))["cross_lingual"]


def test_errors() -> None:
    mono, cross = Pair("q", "p", "en", "en", "a"), Pair("q", "p", "en", "de", "b")
    with pytest.raises(ValueError, match="monolingual and cross-lingual pairs in one batch"):
        PairCollator(ENCODER)(examples([mono, cross]))
    with pytest.raises(ValueError, match="pairs: found none"):
        PairCollator(ENCODER)(examples([]))
    with pytest.raises(ValueError, match="mini_batch_size: found 0, expected at least 1"):
        PairCollator(ENCODER, 0)
