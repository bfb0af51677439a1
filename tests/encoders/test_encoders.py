"""Encoders: n-gram hashing, pooling and formats of transformers, encode()."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pyhbt.encoders import NgramEncoder, TransformerEncoder, load_encoder
from tests.toy import save_tiny_bert

# float32 sums of at most 64 tokens in another order (padding changes the kernel's blocking)
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


# --- n-grams


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
    with pytest.raises(ValueError, match="query_prefix: found 'q', expected None"):
        load_encoder("ngram", query_prefix="q")


# --- encode()


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


# --- transformers


def test_pooling_is_that_of_the_formula(bert: Path) -> None:
    text = "passage: some words"
    for pooling in ("mean", "cls"):
        encoder = load_encoder(bert, pooling=pooling)
        assert isinstance(encoder, TransformerEncoder)
        tokens = encoder.tokenizer([text], return_tensors="pt")
        with torch.no_grad():
            hidden = encoder.model.eval()(**tokens).last_hidden_state[0]
        pooled = hidden[0] if pooling == "cls" else hidden.mean(0)
        vector = encoder.encode(["some \n words"])[0]
        torch.testing.assert_close(vector, pooled / pooled.norm(), atol=TOLERANCE, rtol=0)


def test_prefixes(bert: Path) -> None:
    plain = load_encoder(bert, query_prefix="", passage_prefix="")
    default = load_encoder(bert)
    torch.testing.assert_close(default.encode(["a b"], "query"), plain.encode(["query: a b"], "query"))
    torch.testing.assert_close(default.encode(["a b"]), plain.encode(["passage: a b"]))


def test_length(bert: Path) -> None:
    assert max(map(len, load_encoder(bert).token_ids(["x" * 200], "query"))) == 64
    assert max(map(len, load_encoder(bert, max_length=10).token_ids(["x" * 200], "query"))) == 10
    with pytest.raises(ValueError, match="max_length: found 65, expected at most 64"):
        load_encoder(bert, max_length=65)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("with_dense", [False, True])
def test_transformer_round_trip(bert: Path, tmp_path: Path, pooling: str, with_dense: bool) -> None:
    base = load_encoder(bert)
    assert isinstance(base, TransformerEncoder)
    dense = nn.Sequential(nn.Linear(32, 12), nn.Tanh()) if with_dense else None
    encoder = TransformerEncoder(
        base.model,
        base.tokenizer,
        pooling=pooling,
        query_prefix="ask ",
        max_length=20,
        dense=dense,  # type: ignore[arg-type]
    )
    assert encoder.dim == (12 if with_dense else 32)
    encoder.save(tmp_path / "saved")
    loaded = load_encoder(tmp_path / "saved")
    assert isinstance(loaded, TransformerEncoder)
    assert (loaded.pooling, loaded.prefixes, loaded.max_length) == (pooling, encoder.prefixes, 20)
    texts = ["one two", "three"]
    assert torch.equal(loaded.encode(texts, "query"), encoder.encode(texts, "query"))
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1.0)
    loaded.load_weights(tmp_path / "saved")
    assert torch.equal(loaded.encode(texts), encoder.encode(texts))
    assert not list((tmp_path / "saved").glob("*.bin"))


def test_sentence_transformers_reads_what_we_save(bert: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = load_encoder(bert, pooling="cls", query_prefix="ask ", passage_prefix="tell ")
    encoder.save(tmp_path)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    ours = encoder.encode(["a question"], "query")
    vectors = theirs.encode(["a question"], prompt_name="query")
    np.testing.assert_allclose(vectors, ours.numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(
        theirs.encode(["x"], prompt_name="passage"), encoder.encode(["x"]), atol=TOLERANCE
    )


def test_unknown_modules_are_refused(bert: Path, tmp_path: Path) -> None:
    load_encoder(bert).save(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.models.WeightedLayerPooling"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="module WeightedLayerPooling, expected Transformer, Pooling"):
        load_encoder(tmp_path)
    modules[1]["type"] = "sentence_transformers.models.Pooling"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ValueError, match="pooling_mode_max_tokens.*expected mean or cls"):
        load_encoder(tmp_path)


def test_missing_folders() -> None:
    with pytest.raises(FileNotFoundError, match="encoder: ./nowhere is not a folder"):
        load_encoder("./nowhere")


def test_real_checkpoint(models_dir: Path) -> None:
    encoder = load_encoder(models_dir / "e5-small-4L-f26k-fp16")
    vectors = encoder.encode(["Wie geht es dir?", "How are you?"], "query")
    assert vectors.shape == (2, 384)
    assert vectors.dtype == torch.float32
    assert encoder.device.type == "cpu"
