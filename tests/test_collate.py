from __future__ import annotations

import pytest
import torch

from pyhbt.collate import PairCollator
from pyhbt.data.types import Pair
from pyhbt.encoders import NgramEncoder

ENCODER = NgramEncoder(dim=2)


def test_positives_come_first_then_distinct_hard_negatives() -> None:
    pairs = [
        Pair("q0", "p0", "en", "en", "a", ("x", "y")),
        Pair("q1", "p1", "en", "en", "b", ("y",)),
        Pair("q2", "p2", "en", "en", "a"),
    ]
    batch = PairCollator(ENCODER)(pairs)
    expected = ENCODER.tokenize(["p0", "p1", "p2", "x", "y"], "passage")
    assert all(torch.equal(batch["passages"][name], expected[name]) for name in expected)
    assert batch["query_groups"].tolist() == [0, 1, 0]
    assert batch["passage_groups"].tolist() == [0, 1, 0, -1, -1]
    assert not batch["cross_lingual"]


def test_kind() -> None:
    assert PairCollator(ENCODER)([Pair("q", "p", "en", "de", "a")])["cross_lingual"]


def test_errors() -> None:
    mono, cross = Pair("q", "p", "en", "en", "a"), Pair("q", "p", "en", "de", "b")
    with pytest.raises(ValueError, match="monolingual and cross-lingual pairs in one batch"):
        PairCollator(ENCODER)([mono, cross])
    with pytest.raises(ValueError, match="pairs: found none"):
        PairCollator(ENCODER)([])
