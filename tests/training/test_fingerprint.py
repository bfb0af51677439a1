"""Fingerprints: equal for equal content, other for any other content, whatever the change is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.data import TeacherScores
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import NgramEncoder, load_encoder
from pyhbt.training.fingerprint import (
    facts_of_encoder,
    fingerprint_of_lexicon,
    fingerprint_of_pairs,
    fingerprint_of_scores,
)
from tests.toy import save_tiny_bert

TEXTS = st.sampled_from(["", "a", "ab", "b", "abc", "c", "\ud800", "é中"])
PAIRS = st.builds(
    Pair,
    query=TEXTS,
    passage=TEXTS,
    query_lang=st.sampled_from(["aa", "bb"]),
    passage_lang=st.sampled_from(["aa", "bb"]),
    group=st.sampled_from(["", "g", "gh"]),
    negatives=st.lists(TEXTS, max_size=2).map(tuple),
    question=st.sampled_from(["", "q"]),
)


@given(st.lists(PAIRS, max_size=5), st.lists(PAIRS, max_size=5))
def test_pairs_have_the_same_fingerprint_where_they_are_the_same(
    first: list[Pair], second: list[Pair]
) -> None:
    """Beside the pairs themselves a set knows which of them have the same unnamed question: each its own."""
    found = [fingerprint_of_pairs(PairSet.from_pairs(pairs)) for pairs in (first, second)]
    assert (found[0] == found[1]) == (first == second)
    assert found[0]["pairs"] == len(first)


def test_every_column_counts() -> None:
    pairs = PairSet.from_pairs(
        [
            Pair("q", "p", "aa", "bb", "g", ("n",), "x"),
            Pair("r", "p", "bb", "bb", "h"),
            Pair("s", "t", "aa", "aa", "i"),
        ]
    )
    before = fingerprint_of_pairs(pairs)
    for column in fields(pairs):
        value: Any = getattr(pairs, column.name)
        if isinstance(value, np.ndarray):
            other: Any = value.copy()
            other[-1] = 1 if other[-1] == 0 else 0
        elif isinstance(value, dict):
            other = {0: (2,)}
            assert other != value
        else:
            other = (*value[:-1], value[-1] + " ")
        assert fingerprint_of_pairs(replace(pairs, **{column.name: other}))["blake2b"] != before["blake2b"]
    assert fingerprint_of_pairs(pairs) == before


def test_where_one_text_ends_matters_beyond_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyhbt.training.fingerprint._CHUNK_TEXTS", 2)
    texts = [
        ("a", "b", "cd", "e", "f"),
        ("a", "bc", "d", "e", "f"),
        ("a", "b", "cd", "e"),
        ("a", "b", "cd", "ef"),
    ]
    empty = PairSet.from_pairs([])
    assert len({fingerprint_of_pairs(replace(empty, queries=each))["blake2b"] for each in texts}) == len(
        texts
    )
    assert fingerprint_of_pairs(replace(empty, queries=("x",))) != fingerprint_of_pairs(
        replace(empty, passages=("x",))
    )


def test_lexicons() -> None:
    lexicon = {("en", "house"): {"de": ("haus", "heim"), "fr": ("maison",)}, ("en", "a"): {"de": ("ein",)}}
    same = {key: dict(reversed(found.items())) for key, found in reversed(lexicon.items())}
    assert fingerprint_of_lexicon(same) == fingerprint_of_lexicon(lexicon)
    others: list[Any] = [
        {**lexicon, ("en", "house"): {"de": ("heim", "haus"), "fr": ("maison",)}},
        {**lexicon, ("en", "house"): {"de": ("haus", "heim"), "it": ("maison",)}},
        {**lexicon, ("en", "house"): {"de": ("haus", "heim")}},
        {("en", "house"): lexicon["en", "house"], ("fr", "a"): {"de": ("ein",)}},
    ]
    found = [fingerprint_of_lexicon(other) for other in [lexicon, *others]]
    assert len({each["blake2b"] for each in found}) == len(found)
    assert found[0]["words"] == 2


def _weight(encoder: Any) -> None:
    weight = next(encoder.parameters())
    with torch.no_grad():
        weight.view(-1)[3] = torch.nextafter(weight.view(-1)[3], torch.tensor(9.0))


def _half(encoder: Any) -> None:
    encoder.to(torch.bfloat16)


def _dropout(encoder: Any) -> None:
    next(module for module in encoder.modules() if isinstance(module, torch.nn.Dropout)).p = 0.3


def _frozen(encoder: Any) -> None:
    next(encoder.parameters()).requires_grad_(False)


def _shorter(encoder: Any) -> None:
    encoder.max_length = 7


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_weight, "encoder_weights"),
        (_half, "encoder_weights"),
        (_dropout, "dropout"),
        (_frozen, "trained_weights"),
        (_shorter, "max_length"),
    ],
)
def test_what_changes_an_encoder_is_named(change: Callable[[Any], None], name: str, bert: Path) -> None:
    encoder = load_encoder(bert)
    before = facts_of_encoder(encoder)
    assert facts_of_encoder(load_encoder(bert)) == before
    change(encoder)
    after = facts_of_encoder(encoder)
    assert name in {key for key in before if before[key] != after[key]}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def test_prefixes_and_tokenizers_show_in_the_tokens(bert: Path) -> None:
    before = facts_of_encoder(load_encoder(bert))
    assert facts_of_encoder(load_encoder(bert, query_prefix="ask: "))["tokens"] != before["tokens"]
    sizes = [facts_of_encoder(NgramEncoder(8, 256, sizes)) for sizes in ((2, 3), (2, 4))]
    assert sizes[0]["tokens"] != sizes[1]["tokens"]


def test_language_means_and_mode_do_not_count(bert: Path) -> None:
    encoder = load_encoder(bert)
    before = facts_of_encoder(encoder)
    other = copy.deepcopy(encoder).train(not encoder.training)
    assert facts_of_encoder(other) == before


def test_scores_of_a_teacher() -> None:
    pairs = PairSet.from_pairs([Pair("q", "p", "en", "en", "g", ("n",))])
    keys, scores = np.array([0, 1]), np.array([2.0, 1.0])
    found = fingerprint_of_scores(TeacherScores(pairs, keys, scores))
    assert found["scores"] == 2
    assert found == fingerprint_of_scores(TeacherScores(pairs, keys.copy(), scores.copy()))
    for other in (TeacherScores(pairs, keys, scores + 1), TeacherScores(pairs, keys[:1], scores[:1])):
        assert fingerprint_of_scores(other)["blake2b"] != found["blake2b"]
