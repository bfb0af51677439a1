"""Hashed n-grams: what is hashed, how vectors are made of it, seeds, saving, and what is refused."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.encoders import NgramEncoder, load_encoder

TOLERANCE = 1e-6  # float32 means of at most some hundred rows


def test_ngrams_are_those_of_the_padded_normalised_text() -> None:
    encoder = NgramEncoder(dim=4, num_buckets=1 << 20, sizes=(2,))
    ab, ba, shouted = encoder.token_ids(["ab", "ba", "  ＡＢ "], "query")
    assert len(ab) == 3  # " a", "ab", "b "
    assert ab.tolist() == shouted.tolist()  # NFKC, case folding, white space
    assert set(ab).isdisjoint(ba)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=6))
def test_a_text_has_the_same_buckets_alone_and_among_others(texts: list[str]) -> None:
    encoder = NgramEncoder(dim=2, num_buckets=1000, sizes=(1, 3))
    together = [ids.tolist() for ids in encoder.token_ids(texts, "query")]
    assert together == [encoder.token_ids([text], "passage")[0].tolist() for text in texts]


def test_ngram_truncation_keeps_the_first_ngrams() -> None:
    long, short = NgramEncoder(sizes=(2,)), NgramEncoder(sizes=(2,), max_length=3)
    expected = [ids[:3].tolist() for ids in long.token_ids(["abcdef", "a"], "query")]
    assert [ids.tolist() for ids in short.token_ids(["abcdef", "a"], "query")] == expected


def test_ngram_vectors_are_unit_means() -> None:
    encoder = NgramEncoder(dim=8, sizes=(1, 2))
    vectors = encoder.encode(["Berlin", "berlin ", "Paris"])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(vectors[0], vectors[1])
    mean = encoder.table.weight[encoder.token_ids(["Paris"], "query")[0]].mean(0)
    torch.testing.assert_close(vectors[2], (mean / mean.norm()).detach(), atol=TOLERANCE, rtol=0)


def test_ngram_seed_decides_the_table() -> None:
    torch.manual_seed(1)
    first = NgramEncoder(seed=3).table.weight
    torch.manual_seed(2)
    assert torch.equal(first, NgramEncoder(seed=3).table.weight)
    assert not torch.equal(first, NgramEncoder(seed=4).table.weight)


def test_ngram_round_trip(tmp_path: Path) -> None:
    encoder = NgramEncoder(dim=8, num_buckets=100, sizes=(2, 3), seed=5, max_length=7)
    encoder.save(tmp_path / "saved")
    loaded = load_encoder(tmp_path / "saved")
    assert isinstance(loaded, NgramEncoder)
    assert (loaded.sizes, loaded.max_length, loaded.num_buckets) == ((2, 3), 7, 100)
    assert torch.equal(loaded.encode(["a word"]), encoder.encode(["a word"]))


@pytest.mark.parametrize("name", ["dim", "num_buckets", "max_length"])
def test_ngram_errors(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: found 0, expected at least 1"):
        NgramEncoder(**{name: 0})
    with pytest.raises(ValueError, match="sizes: found 0"):
        NgramEncoder(sizes=())


WORD = 1 << 64


def plain_buckets(text: str, sizes: tuple[int, ...], num_buckets: int) -> list[int]:
    """One n-gram after the other, with Python's integers."""
    padded = f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} "
    found = []
    for size in sorted(set(sizes)):
        for start in range(len(padded) - size + 1):
            code = 0
            for character in padded[start : start + size]:
                code = (code * 0x9E3779B97F4A7C15 + ord(character) + 1) % WORD
            code = ((code ^ (code >> 29)) * 0x9E3779B97F4A7C15) % WORD
            found.append((code >> 32) % num_buckets)
    return found


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(max_size=9), max_size=5),
    st.sampled_from([(1,), (4, 2), (1, 2, 3, 4), (7,)]),
    st.sampled_from([1, 2, 97, 1 << 15]),
)
def test_buckets_are_those_of_the_plain_definition(
    texts: list[str], sizes: tuple[int, ...], num_buckets: int
) -> None:
    encoder = NgramEncoder(dim=1, num_buckets=num_buckets, sizes=sizes)
    found = encoder.token_ids(texts, "query")
    assert [ids.tolist() for ids in found] == [plain_buckets(text, sizes, num_buckets) for text in texts]
    assert {ids.dtype for ids in found} <= {np.dtype(np.int64)}


def test_lone_surrogates_are_hashed_too() -> None:
    encoder = NgramEncoder(dim=2, num_buckets=97, sizes=(1,))
    assert encoder.token_ids(["\ud800"], "query")[0].tolist() == plain_buckets("\ud800", (1,), 97)


def test_a_text_shorter_than_every_ngram_gives_zeros() -> None:
    encoder = NgramEncoder(dim=3, num_buckets=50, sizes=(5,))
    texts = ["", "ab", "abc", ""]
    assert [len(ids) for ids in encoder.token_ids(texts, "query")] == [0, 0, 1, 0]
    assert encoder.encode(texts).norm(dim=1).tolist() == pytest.approx([0, 0, 1, 0])


def test_features_of_any_number_of_texts() -> None:
    encoder = NgramEncoder(dim=2, num_buckets=50, sizes=(2,))
    rows = encoder.token_ids(["ab", "", "c"], "query")
    found = encoder.features(rows)
    assert found["input_ids"].tolist() == [bucket for row in rows for bucket in row]
    assert found["offsets"].tolist() == [0, 3, 4]
    nothing = encoder.features([])
    assert (nothing["input_ids"].shape, nothing["offsets"].shape) == ((0,), (0,))
    assert nothing["offsets"].dtype == torch.int64


def test_the_table_is_uniform_noise_of_the_dimension() -> None:
    table = NgramEncoder(dim=16, num_buckets=4096).table.weight.detach().double()
    assert float(table.abs().max()) <= 0.25
    # the mean of 65,536 draws from [-0.25, 0.25], to five standard deviations
    assert abs(float(table.mean())) < 5 * 0.25 / 3**0.5 / 256
    assert float(table.std()) == pytest.approx(0.25 / 3**0.5, rel=0.02)


def test_weights_are_taken_from_another_folder(tmp_path: Path) -> None:
    one, other = NgramEncoder(dim=4, num_buckets=20), NgramEncoder(dim=4, num_buckets=20, seed=1)
    other.save(tmp_path)
    one.load_weights(tmp_path)
    assert torch.equal(one.table.weight, other.table.weight)
    assert json.loads((tmp_path / "pyhbt_encoder.json").read_text()) == {
        "type": "ngram",
        "dim": 4,
        "num_buckets": 20,
        "sizes": [1, 2, 3, 4],
        "max_length": 1024,
        "files": ["model.safetensors"],
    }
    assert NgramEncoder.load(tmp_path, max_length=3).max_length == 3


def test_describe() -> None:
    expected = "hashed n-grams of 2 4 characters, 32,768 buckets, 8 dims"
    assert NgramEncoder(dim=8, sizes=(2, 4)).describe() == expected
