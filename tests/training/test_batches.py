from __future__ import annotations

import pytest
import torch

from pyhbt.data.pair_set import Pair
from pyhbt.encoders import NgramEncoder
from pyhbt.training.batches import PairCollator, group_id

ENCODER = NgramEncoder(dim=2)


def test_positives_come_first_then_distinct_hard_negatives() -> None:
    pairs = [
        Pair("q0", "p0", "en", "en", "a", ("x", "y")),
        Pair("q1", "p1", "en", "en", "b", ("y",)),
        Pair("q2", "p2", "en", "en", "a"),
    ]
    batch = PairCollator(ENCODER)(pairs)
    vectors = ENCODER(batch["texts"])[batch["order"]]
    assert torch.equal(vectors, ENCODER.encode(["q0", "q1", "q2", "p0", "p1", "p2", "x", "y"]))
    a, b = group_id("a"), group_id("b")
    assert batch["query_groups"].tolist() == [a, b, a]
    assert batch["passage_groups"].tolist() == [a, b, a, -1, -1]
    assert batch["query_of"].tolist() == batch["positives"].tolist() == [0, 1, 2]
    assert batch["num_queries"] == 3
    assert len(batch["translated"]) == 0
    assert not batch["cross_lingual"]


def test_parallel_texts() -> None:
    pairs = [
        Pair("q0", "p0", "en", "en", "a", ("x",), parallel_passages=("p0 de", "p0 fr")),
        Pair("q1", "p1", "en", "en", "b", parallel_query="q1 de", parallel_passages=("p1 de",)),
    ]
    batch = PairCollator(ENCODER)(pairs)
    texts = ["q0", "q1", "q1 de", "p0", "p1", "p0 de", "p0 fr", "p1 de", "x"]
    assert torch.equal(ENCODER(batch["texts"])[batch["order"]], ENCODER.encode(texts))
    assert batch["translated"].tolist() == [1]
    assert batch["query_of"].tolist() == [0, 1, 0, 0, 1]
    assert batch["positives"].tolist() == [0, 1, 2, 3, 4]
    a, b = group_id("a"), group_id("b")
    assert batch["passage_groups"].tolist() == [a, b, a, a, b, -1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_mini_batches(size: int) -> None:
    pairs = [Pair(f"q{i}", f"p{i}", "en", "en", str(i)) for i in range(4)]
    batch = PairCollator(ENCODER, size)(pairs)
    assert max(len(group["offsets"]) for group in batch["texts"]) <= size
    whole = PairCollator(ENCODER)(pairs)
    assert torch.equal(ENCODER(batch["texts"])[batch["order"]], ENCODER(whole["texts"])[whole["order"]])


def test_group_ids_are_the_same_everywhere() -> None:
    assert group_id("a") == 1702698405120146464
    assert group_id("") != group_id("a")
    assert all(0 <= group_id(str(number)) < 2**63 for number in range(1000))


def test_kind() -> None:
    assert PairCollator(ENCODER)([Pair("q", "p", "en", "de", "a")])["cross_lingual"]


def test_errors() -> None:
    mono, cross = Pair("q", "p", "en", "en", "a"), Pair("q", "p", "en", "de", "b")
    with pytest.raises(ValueError, match="monolingual and cross-lingual pairs in one batch"):
        PairCollator(ENCODER)([mono, cross])
    with pytest.raises(ValueError, match="pairs: found none"):
        PairCollator(ENCODER)([])
    with pytest.raises(ValueError, match="mini_batch_size: found 0, expected at least 1"):
        PairCollator(ENCODER, 0)
