"""What every encoder offers: encode() whatever the batches, packing of a training batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.encoders import LanguageMeans, NgramEncoder, base, load_encoder
from tests.toy import save_tiny_bert

# float32 sums of at most 64 tokens in another order (padding changes the kernel's blocking)
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("count", [0, 1, 2, 7, 33])
def test_encode_does_not_depend_on_batches(count: int, bert: Path) -> None:
    texts = ["x" * (1 + 7 * i % 40) for i in range(count)]
    for encoder in (NgramEncoder(dim=16), load_encoder(bert)):
        alone = [encoder.encode([text])[0] for text in texts]
        together = encoder.encode(texts, batch_size=5)
        assert together.shape == (count, encoder.dim)
        assert together.dtype == torch.float32
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=0)


def test_encode_turns_dropout_off_and_back_on(bert: Path) -> None:
    encoder = load_encoder(bert).train()
    assert torch.equal(encoder.encode(["abc"]), encoder.encode(["abc"]))
    assert encoder.training


def test_encode_errors() -> None:
    encoder = NgramEncoder(dim=2)
    with pytest.raises(TypeError, match="texts: found one str"):
        encoder.encode("abc")
    with pytest.raises(TypeError, match=r"texts\[1\]: found NoneType, expected str"):
        encoder.encode(["a", None])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="batch_size: found 0"):
        encoder.encode(["a"], batch_size=0)
    with pytest.raises(ValueError, match="kind: found 'document'"):
        encoder.encode(["a"], "document")  # type: ignore[arg-type]


def test_encode_gives_back_the_mode_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = NgramEncoder(dim=2).train()

    def broken(features: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(encoder, "embed", broken)
    with pytest.raises(RuntimeError, match="no memory"):
        encoder.encode(["a"])
    assert encoder.training


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 8])
def test_encode_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    encoder = NgramEncoder(dim=4, num_buckets=64)
    texts = [f"text {number}" * (number % 3) for number in range(7)]
    expected = encoder.encode(texts)
    asked = []
    token_ids = encoder.token_ids
    monkeypatch.setattr(encoder, "token_ids", lambda part, kind: asked.append(part) or token_ids(part, kind))
    monkeypatch.setattr(base, "_CHUNK_TEXTS", chunk)
    assert torch.equal(encoder.encode(texts), expected)
    assert asked == [texts[start : start + chunk] for start in range(0, 7, chunk)]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 60), max_size=20), st.integers(1, 100), st.one_of(st.none(), st.integers(1, 9))
)
def test_encode_stays_within_its_budget(lengths: list[int], budget: int, batch_size: int | None) -> None:
    """Padded tokens of a batch, unless one text alone has more; every text once."""
    encoder = NgramEncoder(dim=2, num_buckets=16, sizes=(1,))
    encoder.encode_tokens = budget
    sizes: list[list[int]] = []
    features = encoder.features
    encoder.features = lambda rows: sizes.append([len(row) for row in rows]) or features(rows)  # type: ignore[method-assign]
    encoder.encode(["x" * length for length in lengths], batch_size=batch_size)
    assert sorted(length for rows in sizes for length in rows) == sorted(length + 2 for length in lengths)
    for rows in sizes:
        assert len(rows) == 1 or len(rows) * max(rows) <= budget
        assert len(rows) <= (batch_size or len(lengths))


def test_language_is_only_for_encoders_with_means() -> None:
    encoder = NgramEncoder(dim=2, num_buckets=16)
    with pytest.raises(ValueError, match="language: found 'aa', expected None: the encoder has no language"):
        encoder.encode(["a"], language="aa")
    encoder.language_means = LanguageMeans({("passage", "aa"): torch.zeros(2)})
    for language in ("aa", ["aa", "aa"]):  # made unit vectors again, which moves the last bits
        found = encoder.encode(["a", "b"], language=language)
        torch.testing.assert_close(found, encoder.encode(["a", "b"]), atol=TOLERANCE, rtol=0)
    with pytest.raises(ValueError, match="language: found 1 languages, expected 2, one a text"):
        encoder.encode(["a", "b"], language=["aa"])


@pytest.mark.parametrize("count", [1, 2, 7, 33])
@pytest.mark.parametrize("max_rows", [None, 1, 4, 100])
@pytest.mark.parametrize("kind", ["ngram", "transformer"])
def test_packed_texts_are_found_again(count: int, max_rows: int | None, kind: str, bert: Path) -> None:
    encoder = (NgramEncoder(dim=8) if kind == "ngram" else load_encoder(bert)).eval()
    rows = encoder.token_ids(["x" * (1 + 7 * number % 40) for number in range(count)], "query")
    mini_batches, order = encoder.pack(rows, max_rows)
    assert sorted(order.tolist()) == list(range(count))
    assert order.dtype == torch.int64
    if max_rows is not None:
        name = "offsets" if kind == "ngram" else "input_ids"
        assert max(len(features[name]) for features in mini_batches) <= max_rows
    with torch.no_grad():
        found = encoder(mini_batches)[order]
        for row, vector in zip(rows, found, strict=True):
            alone = encoder.embed(encoder.features([row]))[0]
            torch.testing.assert_close(vector, alone, atol=TOLERANCE, rtol=0)


def test_texts_without_padding_are_packed_evenly() -> None:
    encoder = NgramEncoder(dim=2)
    rows = encoder.token_ids([str(number) for number in range(10)], "query")
    assert [len(features["offsets"]) for features in encoder.pack(rows)[0]] == [10]
    assert [len(features["offsets"]) for features in encoder.pack(rows, 4)[0]] == [4, 3, 3]
    assert len(encoder.pack([], 4)[1]) == 0


def test_length_in_training(bert: Path, tmp_path: Path) -> None:
    assert NgramEncoder(dim=2).length_in_training is None
    encoder = load_encoder(bert)
    assert (encoder.training_length, encoder.length_in_training) == (128, 64)
    assert load_encoder(save_tiny_bert(tmp_path, positions=500)).length_in_training == 128


def test_saving_makes_the_folder_and_keeps_the_means(tmp_path: Path) -> None:
    encoder = NgramEncoder(dim=2, num_buckets=16)
    encoder.save(tmp_path / "a/b")
    assert not (tmp_path / "a/b/language_means.safetensors").exists()
    encoder.language_means = LanguageMeans({("query", "aa"): torch.tensor([1.0, 2.0])})
    encoder.save(str(tmp_path / "a/b"))
    loaded = load_encoder(tmp_path / "a/b").language_means
    assert loaded is not None
    assert {key: mean.tolist() for key, mean in loaded.means.items()} == {("query", "aa"): [1.0, 2.0]}
    assert np.isfinite(load_encoder(tmp_path / "a/b").encode(["x"]).numpy()).all()
