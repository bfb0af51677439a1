"""Transformer encoders: pooling, prefixes and lengths, the formats they are read from and saved to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, RobertaConfig

from pyhbt.encoders import TransformerEncoder, load_encoder
from pyhbt.encoders.transformer import _positions
from tests.toy import save_tiny_bert

# float32 sums of at most 64 tokens in another order (padding changes the kernel's blocking)
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


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


def test_features_are_padded_on_the_right(bert: Path) -> None:
    encoder = load_encoder(bert, query_prefix="")
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


def test_the_dense_layer_comes_after_pooling(bert: Path) -> None:
    plain = load_encoder(bert)
    assert isinstance(plain, TransformerEncoder)
    linear = nn.Linear(32, 5)
    dense = nn.Sequential(linear, nn.Tanh())
    encoder = TransformerEncoder(plain.model, plain.tokenizer, dense=dense)
    tokens = plain.tokenizer(["some words"], return_tensors="pt")
    with torch.no_grad():
        pooled = plain.model.eval()(**tokens).last_hidden_state[0].double().mean(0)
        expected = torch.tanh(linear.weight.double() @ pooled + linear.bias.double())
    found = encoder.encode(["some words"])[0].double()
    torch.testing.assert_close(found, expected / expected.norm(), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({"query": "q: ", "passage": "p: ", "document": "d: "}, {"query": "q: ", "passage": "p: "}),
        ({"document": "d: "}, {"query": "", "passage": "d: "}),
        ({}, {"query": "", "passage": ""}),
        (None, {"query": "", "passage": ""}),
    ],
)
def test_prompts_of_a_sentence_transformers_folder(
    bert: Path, tmp_path: Path, prompts: dict[str, str] | None, expected: dict[str, str]
) -> None:
    load_encoder(bert).save(tmp_path)
    file = tmp_path / "config_sentence_transformers.json"
    file.write_text(json.dumps({"prompts": prompts}))
    assert TransformerEncoder.load(tmp_path).prefixes == expected
    assert TransformerEncoder.load(tmp_path, query_prefix="mine ").prefixes["query"] == "mine "
    file.unlink()  # a plain checkpoint
    assert TransformerEncoder.load(tmp_path).prefixes == {"query": "query: ", "passage": "passage: "}


def test_the_shortest_of_all_lengths_holds(bert: Path, tmp_path: Path) -> None:
    load_encoder(bert, max_length=20).save(tmp_path)
    file = tmp_path / "sentence_bert_config.json"
    assert load_encoder(tmp_path).max_length == 20
    with pytest.raises(ValueError, match="max_length: found 21, expected at most 20"):
        load_encoder(tmp_path, max_length=21)
    for content in ('{"max_seq_length": null}', "{}", '{"max_seq_length": 500}'):
        file.write_text(content)
        assert load_encoder(tmp_path).max_length == 64


def test_positions_of_roberta_begin_after_the_padding_id() -> None:
    assert _positions(BertConfig(max_position_embeddings=512)) == 512
    assert _positions(RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512
    assert _positions(BertConfig(max_position_embeddings=-1)) == 1 << 30  # relative positions: no end


def test_activations_other_than_tanh_and_identity_are_refused(bert: Path, tmp_path: Path) -> None:
    base = load_encoder(bert)
    assert isinstance(base, TransformerEncoder)
    for activation in (nn.Identity(), nn.Tanh()):
        dense = nn.Sequential(nn.Linear(32, 3, bias=False), activation)
        TransformerEncoder(base.model, base.tokenizer, dense=dense, max_length=9).save(tmp_path)
        loaded = TransformerEncoder.load(tmp_path)
        assert type(loaded.dense[1]) is type(activation)
        assert loaded.dense[0].bias is None
        assert loaded.dim == 3
    config = tmp_path / "2_Dense/config.json"
    config.write_text(config.read_text().replace("Tanh", "GELU"))
    with pytest.raises(ValueError, match=r"config\.json: activation_function GELU, expected one of Tanh, Id"):
        TransformerEncoder.load(tmp_path)


def test_arguments_are_checked(bert: Path) -> None:
    base = load_encoder(bert)
    assert isinstance(base, TransformerEncoder)
    with pytest.raises(ValueError, match="pooling: found 'max', expected one of mean, cls"):
        TransformerEncoder(base.model, base.tokenizer, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_length: found 0, expected at least 1"):
        TransformerEncoder(base.model, base.tokenizer, max_length=0)


def test_describe(bert: Path) -> None:
    assert load_encoder(bert, pooling="cls", max_length=9, passage_prefix="").describe() == (
        "BertModel, 32 dims, cls pooling, at most 9 tokens, query prefix 'query: ', passage prefix ''"
    )
