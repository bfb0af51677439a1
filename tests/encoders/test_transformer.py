"""Transformer encoders: pooling, prefixes and lengths, the formats they are read from and saved to."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule
from transformers import AutoModel, BertConfig, RobertaConfig, T5Config

from pyhbt.encoders import TransformerEncoder, as_encoder, load_encoder
from pyhbt.encoders.transformer import UNLIMITED, Pooling, _positions
from tests.toy import save_tiny_bert

# float32 sums of at most 64 tokens in another order (padding changes the kernel's blocking)
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def test_pooling_is_that_of_the_formula(bert: Path) -> None:
    for pooling in ("mean", "cls"):
        encoder = load_encoder(bert, pooling=pooling)
        assert isinstance(encoder, TransformerEncoder)
        tokens = encoder.tokenizer(["some words"], return_tensors="pt")
        with torch.no_grad():
            hidden = encoder.backbone.eval()(**tokens).last_hidden_state[0]
        pooled = hidden[0] if pooling == "cls" else hidden.mean(0)
        vector = encoder.encode(["some words"])[0]
        torch.testing.assert_close(vector, pooled / pooled.norm(), atol=TOLERANCE, rtol=0)


def test_prefixes(bert: Path, tmp_path: Path) -> None:
    plain = load_encoder(bert)
    encoder = load_encoder(bert, query_prefix="ask: ", passage_prefix="tell: ")
    torch.testing.assert_close(encoder.encode(["a b"], "query"), plain.encode(["ask: a b"], "query"))
    torch.testing.assert_close(encoder.encode(["a b"]), plain.encode(["tell: a b"]))
    encoder.save(tmp_path)
    for loaded, query in ((load_encoder(tmp_path), "ask: "), (load_encoder(tmp_path, query_prefix=""), "")):
        assert isinstance(loaded, TransformerEncoder)
        assert loaded.prefixes == {"query": query, "passage": "tell: "}


def test_length(bert: Path) -> None:
    assert max(map(len, load_encoder(bert).token_ids(["x" * 200], "query"))) == 64
    assert max(map(len, load_encoder(bert, max_length=10).token_ids(["x" * 200], "query"))) == 10
    encoder = load_encoder(bert)
    encoder.max_length = 7
    assert max(map(len, encoder.token_ids(["x" * 200], "passage"))) == encoder.max_length == 7
    for set_to in (65, 0):
        with pytest.raises(ValueError, match=f"max_length: found {set_to}, expected at"):
            encoder.max_length = set_to
    with pytest.raises(ValueError, match="max_length: found 65, expected at most 64"):
        load_encoder(bert, max_length=65)
    with pytest.raises(ValueError, match="max_length: found 0, expected at least 1"):
        load_encoder(bert, max_length=0)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("with_dense", [False, True])
def test_transformer_round_trip(bert: Path, tmp_path: Path, pooling: Pooling, with_dense: bool) -> None:
    model = SentenceTransformer(
        modules=[
            Transformer(str(bert)),
            PoolingModule(32, pooling),
            *([Dense(32, 12)] if with_dense else []),
        ],
        prompts={"query": "ask "},
        device="cpu",
    )
    encoder = TransformerEncoder(model, max_length=20)
    assert encoder.dim == (12 if with_dense else 32)
    encoder.save(tmp_path / "saved")
    loaded = load_encoder(tmp_path / "saved")
    assert isinstance(loaded, TransformerEncoder)
    assert (loaded.pooling, loaded.prefixes, loaded.max_length) == (pooling, encoder.prefixes, 20)
    assert model.max_seq_length == 64  # the model given is as it was
    assert len(model) == (3 if with_dense else 2)
    texts = ["one two", "three", "x" * 100]
    assert torch.equal(loaded.encode(texts, "query"), encoder.encode(texts, "query"))
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1.0)
    loaded.load_weights(tmp_path / "saved")
    assert torch.equal(loaded.encode(texts), encoder.encode(texts))
    assert not list((tmp_path / "saved").glob("*.bin"))


def test_weights_of_another_model_are_refused_before_any_is_replaced(bert: Path, tmp_path: Path) -> None:
    encoder = load_encoder(bert)
    before = encoder.encode(["text"])
    SentenceTransformer(
        modules=[*SentenceTransformer(str(bert), device="cpu"), Dense(32, 32)], device="cpu"
    ).save(str(tmp_path), create_model_card=False)
    with pytest.raises(ValueError, match=r"of another model: model\.2\.linear\.bias does not fit"):
        encoder.load_weights(tmp_path)
    assert torch.equal(encoder.encode(["text"]), before)


def test_a_live_model_is_shared_not_copied(bert: Path) -> None:
    model = SentenceTransformer(str(bert), device="cpu")
    encoder = as_encoder(model)
    before = encoder.encode(["text"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert not torch.equal(encoder.encode(["text"]), before)
    assert as_encoder(encoder) is encoder
    with pytest.raises(TypeError, match="encoder: found str, expected an Encoder or a SentenceTransformer"):
        as_encoder("name")  # type: ignore[arg-type]


def test_what_we_save_has_the_same_unit_vectors_elsewhere(bert: Path, tmp_path: Path) -> None:
    encoder = load_encoder(bert, pooling="cls", query_prefix="ask ", passage_prefix="tell ")
    encoder.save(tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    for name, kind in (("query", "query"), ("passage", "passage"), ("document", "passage")):
        ours = encoder.encode(["a question"], kind)  # type: ignore[arg-type]
        np.testing.assert_allclose(theirs.encode(["a question"], prompt_name=name), ours, atol=TOLERANCE)
    assert AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).config.hidden_size == 32


def test_features_are_padded_on_the_right(bert: Path) -> None:
    encoder = load_encoder(bert)
    rows = encoder.token_ids(["ab", "", "abcd"], "query")
    found = encoder.features(rows)
    assert {name: value.dtype for name, value in found.items()} == {
        "input_ids": torch.int64,
        "attention_mask": torch.int64,
    }
    assert found["input_ids"].tolist() == [[*row.tolist(), *[0] * (6 - len(row))] for row in rows]
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1] * 6]
    nothing = encoder.features(encoder.token_ids([], "query"))
    assert nothing["input_ids"].shape == (0, 0)
    assert encoder.embed(nothing).shape == (0, 32)
    assert encoder([]).shape == (0, 32)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", "weightedmean"])
def test_a_text_without_tokens_gives_zeros(bert: Path, tmp_path: Path, pooling: Pooling) -> None:
    shutil.copytree(bert, tmp_path / "bare")
    file = tmp_path / "bare/tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": None}))
    encoder = load_encoder(tmp_path / "bare", pooling=pooling)
    alone = encoder.encode(["text"])
    assert torch.equal(encoder.encode([""]), torch.zeros(1, 32))
    mixed = encoder.encode(["", "text", ""])
    torch.testing.assert_close(mixed, torch.cat([torch.zeros(1, 32), alone, torch.zeros(1, 32)]))
    mini_batches, order = encoder.pack(encoder.token_ids(["", "text", "a", ""], "query"))
    vectors = encoder.train()(mini_batches)[order]
    vectors.sum().backward()
    assert vectors[0].tolist() == [0.0] * 32
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_rows_of_both_kinds_share_a_mini_batch_where_prompts_are_left_out_of_pooling(bert: Path) -> None:
    prompts = {"query": "a long prompt: ", "document": "t: "}
    model = SentenceTransformer(str(bert), prompts=prompts, device="cpu")
    model.set_pooling_include_prompt(False)
    encoder = TransformerEncoder(model).eval()
    rows = encoder.token_ids(["some words", "more"], "query") + encoder.token_ids(["some words"], "passage")
    vectors = encoder.embed(encoder.features(rows))
    expected = [
        *model.encode_query(["some words", "more"], normalize_embeddings=True),
        *model.encode_document(["some words"], normalize_embeddings=True),
    ]
    np.testing.assert_allclose(vectors.detach(), np.stack(expected), atol=TOLERANCE)
    vectors.sum().backward()
    assert all(weight.grad is not None for weight in encoder.backbone.encoder.parameters())  # type: ignore[union-attr]


def test_the_shortest_of_all_lengths_holds(bert: Path, tmp_path: Path) -> None:
    load_encoder(bert, max_length=20).save(tmp_path)
    assert load_encoder(tmp_path).max_length == 20
    with pytest.raises(ValueError, match="max_length: found 21, expected at most 20"):
        load_encoder(tmp_path, max_length=21)
    file = tmp_path / "tokenizer_config.json"
    for length in (500, int(1e30)):
        file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": length}))
        assert load_encoder(tmp_path).max_length == 64


def test_positions_of_roberta_begin_after_the_padding_id() -> None:
    assert _positions(BertConfig(max_position_embeddings=512)) == 512
    assert _positions(RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512
    assert _positions(BertConfig(max_position_embeddings=-1)) == UNLIMITED  # relative positions: no end
    assert _positions(T5Config()) == UNLIMITED


def test_pooling_is_checked(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pooling: found 'median', expected one of mean, cls, max"):
        load_encoder(bert, pooling="median")  # type: ignore[arg-type]
    modules = [Transformer(str(bert)), PoolingModule(32, ("cls", "mean"))]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path), create_model_card=False)
    assert (
        load_encoder(tmp_path).describe().startswith("BertModel, 64 dims, cls+mean pooling, at most 64 tok")
    )
    with pytest.raises(ValueError, match="pooling: found 'cls', expected None: the model has not one"):
        load_encoder(tmp_path, pooling="cls")


def test_what_a_model_is_silent_about_is_said(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_encoder(bert)
    assert not caplog.records
    shutil.copytree(bert, tmp_path / "multilingual-e5-tiny")
    load_encoder(tmp_path / "multilingual-e5-tiny", query_prefix="query: ")
    shutil.copytree(bert, tmp_path / "e5-runs/other")
    load_encoder(tmp_path / "e5-runs/other")
    assert not caplog.records
    load_encoder(tmp_path / "multilingual-e5-tiny")
    assert "no prompt is put before texts; it may want the prompts query: and passage:" in caplog.text
    caplog.clear()
    model = SentenceTransformer(str(bert), prompts={"passage": "p: "}, similarity_fn_name="dot", device="cpu")
    model.save(str(tmp_path / "named"), create_model_card=False)
    load_encoder(tmp_path / "named")
    assert "its prompts {'passage': 'p: '}, of which sentence-transformers uses none" in caplog.text
    assert "compares by dot; PyHBT makes its vectors unit vectors and compares by cosine" in caplog.text


def test_an_adapter_inside_the_transformer_is_refused(bert: Path) -> None:
    model = SentenceTransformer(str(bert), device="cpu")
    model[0].model._hf_peft_config_loaded = True
    with pytest.raises(
        ValueError, match="model: found an adapter inside the transformer, expected one around it"
    ):
        TransformerEncoder(model)


def test_describe(bert: Path) -> None:
    assert load_encoder(bert, pooling="cls", max_length=9, query_prefix="query: ").describe() == (
        "BertModel, 32 dims, cls pooling, at most 9 tokens, query prefix 'query: ', passage prefix ''"
    )


def test_vectors_are_never_cut_in_silence(bert: Path) -> None:
    longer = SentenceTransformer(str(bert), device="cpu", truncate_dim=100)
    assert as_encoder(longer).dim == 32
    assert as_encoder(longer).encode(["text"]).shape == (1, 32)
    with pytest.raises(ValueError, match="truncate_dim: found -1, expected at least 1"):
        as_encoder(SentenceTransformer(str(bert), device="cpu", truncate_dim=-1))
    model = SentenceTransformer(modules=[Transformer(str(bert)), PoolingModule(7)], device="cpu")
    with pytest.raises(ValueError, match="model: found vectors of 32 dims, expected 7, as its modules say"):
        as_encoder(model).encode(["text"])


def test_odd_texts(bert: Path) -> None:
    encoder = load_encoder(bert)
    assert encoder.encode(["\0", "   ", "", "\u200f\n"]).isfinite().all()
    with pytest.raises(
        ValueError, match=r"texts\[1\]: found 'a\\ud800', expected text without lone surrogates"
    ):
        encoder.encode(["fine", "a\ud800"])


@pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning")  # torch 2.4's own pickling
def test_encoders_are_copied_and_pickled(bert: Path) -> None:
    encoder = load_encoder(bert, query_prefix="ask: ")
    expected = encoder.encode(["text"], "query")
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(other.encode(["text"], "query"), expected)
