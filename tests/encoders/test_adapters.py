"""Low-rank adapters: what is trained, what is saved, and the merged weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

from pyhbt.encoders import LoraOptions, NgramEncoder, TransformerEncoder, load_encoder
from tests.toy import save_tiny_bert

TEXTS = ["one two", "three", "x" * 70]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def moved(encoder: TransformerEncoder) -> TransformerEncoder:
    """With updates other than 0."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return encoder


def with_lora(
    folder: Path, text: str = "r=3,alpha=12,targets=query,value", seed: int = 0
) -> TransformerEncoder:
    encoder = load_encoder(folder)
    assert isinstance(encoder, TransformerEncoder)
    encoder.add_lora(LoraOptions.parse(text), seed=seed)
    return encoder


def test_adapters_begin_as_nothing_and_are_of_the_seed(bert: Path) -> None:
    plain, state = load_encoder(bert), torch.random.get_rng_state()
    first, again, other = (with_lora(bert, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.encode(TEXTS), plain.encode(TEXTS))

    def weights(encoder: TransformerEncoder) -> list[torch.Tensor]:
        return [weight for name, weight in encoder.named_parameters() if "lora_A" in name]

    assert len(weights(first)) == 4  # two layers, two targets
    assert all(map(torch.equal, weights(first), weights(again)))
    assert not any(map(torch.equal, weights(first), weights(other)))
    assert first.describe().endswith("passage prefix '', LoRA r=3,alpha=12,targets=query,value,dropout=0")
    trained = [name for name, weight in first.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


def test_all_linear_layers_but_the_unread_pooler(bert: Path) -> None:
    model = SentenceTransformer(str(bert), device="cpu")  # with a pooler
    encoder = TransformerEncoder(model)
    encoder.add_lora(LoraOptions(2, 4))
    names = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert len(names) == 2 * 2 * 6  # A and B, layers, linear layers of each
    assert not any("pooler" in name for name in names)
    encoder(encoder.pack(encoder.token_ids(TEXTS, "query"))[0]).sum().backward()
    assert all(weight.grad is not None for weight in encoder.parameters() if weight.requires_grad)
    encoder.merge_lora()
    frozen = {name for name, weight in encoder.named_parameters() if not weight.requires_grad}
    assert (
        frozen
        == encoder.unread_weights
        == {f"model.0.model.pooler.dense.{name}" for name in ("weight", "bias")}
    )


def test_saved_as_adapter_and_merged(bert: Path, tmp_path: Path) -> None:
    modules = [Transformer(str(bert)), Pooling(32), Dense(32, 5)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "base"), create_model_card=False)
    encoder = moved(with_lora(tmp_path / "base"))
    expected = encoder.encode(TEXTS)
    assert not torch.allclose(expected, load_encoder(tmp_path / "base").encode(TEXTS), atol=0.01)
    encoder.save(tmp_path / "adapter")
    assert (tmp_path / "adapter/adapter_model.safetensors").is_file()
    assert not (tmp_path / "adapter/model.safetensors").exists()
    loaded = load_encoder(tmp_path / "adapter")
    assert isinstance(loaded, TransformerEncoder)
    assert torch.equal(loaded.encode(TEXTS), expected)
    trained = {name for name, weight in loaded.named_parameters() if weight.requires_grad}
    assert trained == {name for name, weight in encoder.named_parameters() if weight.requires_grad}

    again = with_lora(tmp_path / "base", seed=9)
    again.load_weights(tmp_path / "adapter")
    assert torch.equal(again.encode(TEXTS), expected)

    loaded.merge_lora()
    assert not isinstance(loaded.model[0].model, PeftModel)
    assert all(weight.requires_grad for weight in loaded.parameters())
    torch.testing.assert_close(loaded.encode(TEXTS), expected, atol=1e-6, rtol=0)
    loaded.save(tmp_path / "merged")
    theirs = SentenceTransformer(str(tmp_path / "merged"), device="cpu").encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(theirs, expected, atol=1e-6, rtol=0)
    loaded.merge_lora()  # nothing to do


def test_weights_of_another_adapter_are_refused(bert: Path, tmp_path: Path) -> None:
    with_lora(bert).save(tmp_path)
    encoder = with_lora(bert, "r=3,targets=key")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors: of another adapter: .* does not fit"):
        encoder.load_weights(tmp_path)


def test_what_cannot_be_adapted_is_refused(bert: Path) -> None:
    with pytest.raises(
        ValueError, match="targets: found 'q_proj', expected the end of .*: dense, key, query, value"
    ):
        with_lora(bert, "r=1,targets=query,q_proj")
    encoder = with_lora(bert)
    with pytest.raises(ValueError, match="the encoder has an adapter; merge it first"):
        encoder.add_lora(LoraOptions(1, 1))
    with pytest.raises(ValueError, match="lora: found LoraOptions.*NgramEncoder has no linear layers"):
        NgramEncoder(dim=4, num_buckets=8).add_lora(LoraOptions(1, 1))
