"""Tiny repositories of every kind that encoders are loaded from, made by sentence-transformers itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
    WeightedLayerPooling,
)
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    MPNetConfig,
    MPNetModel,
    Qwen2Config,
    Qwen2Model,
    T5Config,
    T5Model,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLNetConfig,
    XLNetModel,
)

TEXTS = ["a", "Some Words, then more", "x" * 200, " spaced  out\ntext ", "12 of 90: q", "mixed CASE text"]

Make = Callable[[Path, Path], None]
"""(folder of the tiny BERT, folder to write)"""


def _modules(
    *more: nn.Module, mode: Any = "mean", before: tuple[nn.Module, ...] = (), **options: Any
) -> Make:
    """BERT, ``before``, pooling, ``more``; options of SentenceTransformer."""

    def make(bert: Path, folder: Path) -> None:
        torch.manual_seed(1)
        first = Transformer(str(bert))
        pooled = () if mode is None else (Pooling(32, mode),)
        model = SentenceTransformer(modules=[first, *before, *pooled, *more], device="cpu", **options)
        model.save(str(folder), create_model_card=False)

    return make


def _edited(make: Make, name: str, edit: Callable[[Any], Any]) -> Make:
    """The same with a JSON file changed (None: removed)."""

    def edited(bert: Path, folder: Path) -> None:
        make(bert, folder)
        path = folder / name
        content = edit(json.loads(path.read_text()) if path.is_file() else {})
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(json.dumps(content))

    return edited


def _tokenizer(**changes: Any) -> Callable[[Any], Any]:
    return lambda config: {**config, **changes}


def _other(model: Callable[[int], Any], mode: str, **tokenizer: Any) -> Make:
    """Another architecture behind the tiny tokenizer."""

    def make(bert: Path, folder: Path) -> None:
        torch.manual_seed(2)
        words = AutoTokenizer.from_pretrained(bert)
        for name, value in tokenizer.items():
            setattr(words, name, value)
        plain = folder.with_name(f"{folder.name}-plain")
        model(len(words)).save_pretrained(plain)
        words.save_pretrained(plain)
        first = Transformer(str(plain))
        SentenceTransformer(
            modules=[first, Pooling(first.get_embedding_dimension(), mode)], device="cpu"
        ).save(str(folder), create_model_card=False)
        shutil.rmtree(plain)

    return make


_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def _qwen(size: int) -> Any:
    config = Qwen2Config(vocab_size=size, num_key_value_heads=2, max_position_embeddings=64, **_SMALL)
    return Qwen2Model(config)


def _roberta(size: int) -> Any:
    config = XLMRobertaConfig(vocab_size=size, max_position_embeddings=66, pad_token_id=1, **_SMALL)
    return XLMRobertaModel(config, add_pooling_layer=False)


def _mpnet(size: int) -> Any:
    return MPNetModel(
        MPNetConfig(vocab_size=size, max_position_embeddings=66, **_SMALL), add_pooling_layer=False
    )


def _t5(size: int) -> Any:
    return T5Model(T5Config(vocab_size=size, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2))


def _xlnet(size: int) -> Any:
    return XLNetModel(XLNetConfig(vocab_size=size, d_model=32, n_layer=2, n_head=2, d_inner=64))


def _old_layout(bert: Path, folder: Path) -> None:
    """As versions before 2: the transformer in a folder of its own, pooling by switches, no prompts."""
    _modules(Normalize(), mode="max")(bert, folder)
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(inner / path.name)
    (inner / "config_sentence_transformers.json").unlink()
    (inner / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": true}')
    (folder / "1_Pooling/config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_cls_token": false, "pooling_mode_max_tokens": true, '
        '"pooling_mode_mean_tokens": false}'
    )
    kinds = ("0_Transformer", "1_Pooling", "2_Normalize")
    entries = [
        {"idx": place, "name": str(place), "path": kind, "type": f"sentence_transformers.models.{kind[2:]}"}
        for place, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))


def _half(bert: Path, folder: Path) -> None:
    _modules(Normalize())(bert, folder)
    path = folder / "model.safetensors"
    weights = {name: value.to(torch.bfloat16) for name, value in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


def _sharded(bert: Path, folder: Path) -> None:
    _modules(Normalize())(bert, folder)
    model = AutoModel.from_pretrained(bert, add_pooling_layer=False)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")


def _plain(bert: Path, folder: Path) -> None:
    shutil.copytree(bert, folder)


def _chat(bert: Path, folder: Path) -> None:
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }} {% endfor %}"
    _other(_qwen, "lasttoken", padding_side="left", chat_template=template)(bert, folder)


_PROMPTS = {"query": "ask: ", "document": "tell: "}
_WIDER = {"text": {"padding": "max_length"}}

SERVED: dict[str, Make] = {
    "mean": _modules(),
    "normalized": _modules(Normalize()),
    "cls": _modules(Normalize(), mode="cls"),
    "max": _modules(mode="max"),
    "last-token": _modules(mode="lasttoken"),
    "weighted-mean": _modules(mode="weightedmean"),
    "sqrt-length": _modules(mode="mean_sqrt_len_tokens"),
    "two-poolings": _modules(mode=("cls", "max")),
    "dense": _modules(Dense(32, 12)),
    "dense-gelu-no-bias": _modules(Dense(32, 12, bias=False, activation_function=nn.GELU()), Normalize()),
    "dense-residual": _modules(Dense(32, 12, use_residual=True)),
    "normalize-before-dense": _modules(Normalize(), Dense(32, 40), Normalize(), Dense(40, 8)),
    "layer-norm": _modules(LayerNorm(32), Dropout(0.5), Normalize()),
    "dense-before-pooling": _modules(
        before=(Dense(32, 32, module_input_name="token_embeddings"),),
    ),
    "prompts": _modules(Normalize(), prompts=_PROMPTS),
    "default-prompt": _modules(prompts={"other": "o: "}, default_prompt_name="other"),
    "passage-prompt": _modules(prompts={"query": "q: ", "passage": "p: "}),
    "prompt-left-out": _edited(
        _modules(prompts=_PROMPTS),
        "1_Pooling/config.json",
        lambda config: {**config, "include_prompt": False},
    ),
    "prompt-left-out-weighted": _edited(
        _modules(prompts=_PROMPTS, mode="weightedmean"),
        "1_Pooling/config.json",
        lambda config: {**config, "include_prompt": False},
    ),
    "truncated": _modules(Normalize(), truncate_dim=7),
    "dot": _modules(similarity_fn_name="dot"),
    "lower-case": _edited(_modules(), "sentence_bert_config.json", lambda c: {**c, "do_lower_case": True}),
    "short": _edited(_modules(), "sentence_bert_config.json", lambda c: {**c, "max_seq_length": 8}),
    "lengths-by-kind": _edited(
        _modules(), "sentence_bert_config.json", lambda c: {**c, "query_length": 5, "document_length": 30}
    ),
    "padded-to-the-end": _edited(
        _modules(), "sentence_bert_config.json", lambda c: {**c, "processing_kwargs": _WIDER}
    ),
    "no-length": _edited(_modules(), "sentence_bert_config.json", lambda c: {**c, "max_seq_length": None}),
    "truncation-side": _edited(_modules(), "tokenizer_config.json", _tokenizer(truncation_side="left")),
    "left-padded": _edited(_modules(mode="cls"), "tokenizer_config.json", _tokenizer(padding_side="left")),
    "old-layout": _old_layout,
    "plain": _plain,
    "bfloat16": _half,
    "sharded": _sharded,
    "decoder": _other(_qwen, "lasttoken", padding_side="left"),
    "decoder-right": _other(_qwen, "lasttoken", padding_side="right"),
    "decoder-mean": _other(_qwen, "mean", padding_side="left"),
    "chat": _chat,
    "t5": _other(_t5, "mean"),
    "xlm-roberta": _other(_roberta, "cls", pad_token_id=1),
    "mpnet": _other(_mpnet, "mean"),
    "xlnet": _other(_xlnet, "mean"),
}


def weighted_layers(bert: Path, folder: Path) -> None:
    """All layers' states weighted before pooling."""
    first = Transformer(str(bert), config_kwargs={"output_hidden_states": True})
    torch.manual_seed(5)
    weights = nn.Parameter(torch.tensor([1.0, 3.0]))
    layers = WeightedLayerPooling(32, num_hidden_layers=2, layer_start=1, layer_weights=weights)
    model = SentenceTransformer(modules=[first, layers, Pooling(32, "mean")], device="cpu")
    model.save(str(folder), create_model_card=False)


SERVED["weighted-layers"] = weighted_layers


def in_cache(folder: Path, cache: Path, name: str) -> None:
    """Lay ``folder`` into a hub cache as the repository ``name``."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
