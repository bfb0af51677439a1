"""Transformer encoders: AutoModel, pooling, optional dense layers, unit vectors.

Reads and writes plain Hugging Face checkpoints and sentence-transformers folders (Transformer, Pooling, Dense,
Normalize modules), safetensors only, and never runs code that a checkpoint carries.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from pyhbt.arguments import check_at_least
from pyhbt.encoders.base import CONFIG_NAME, Encoder, Features
from pyhbt.encoders.means import TextKind
from pyhbt.files import write_atomically

Pooling = Literal["mean", "cls"]

_MODULES = "modules.json"
_PROMPTS = "config_sentence_transformers.json"
_ACTIVATIONS: dict[str, type[nn.Module]] = {"Tanh": nn.Tanh, "Identity": nn.Identity}
_E5_PREFIXES = {"query": "query: ", "passage": "passage: "}


class TransformerEncoder(Encoder):
    """A transformer with mean or first-token pooling; build one with :meth:`load`.

    Args:
        model: gives ``last_hidden_state`` (n, tokens, hidden).
        tokenizer: a Hugging Face tokenizer.
        pooling: ``"mean"`` over all tokens of the text, or ``"cls"``: the first token.
        query_prefix, passage_prefix: put before every text.
        max_length: tokens kept of a text.
        dense: layers between pooling and normalisation (LaBSE has one).
    """

    training_length = 128
    mini_batch_overhead = 64
    mini_batch_tokens = 2048

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        pooling: Pooling = "mean",
        query_prefix: str = "",
        passage_prefix: str = "",
        max_length: int = 512,
        dense: nn.Sequential | None = None,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling: found {pooling!r}, expected one of {', '.join(get_args(Pooling))}")
        check_at_least("max_length", max_length, 1)
        self.model = model
        self.tokenizer = tokenizer
        self.pooling: Pooling = pooling
        self.prefixes: dict[str, str] = {"query": query_prefix, "passage": passage_prefix}
        self.max_length = max_length
        self.dense = dense if dense is not None else nn.Sequential()
        last = [layer for layer in self.dense if isinstance(layer, nn.Linear)]
        self.dim = last[-1].out_features if last else int(model.config.hidden_size)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        pooling: Pooling | None = None,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        max_length: int | None = None,
    ) -> TransformerEncoder:
        """An encoder from a Hugging Face or sentence-transformers folder, or a hub name.

        What is not given is taken from the folder: pooling and length from the sentence-transformers modules,
        prefixes from its prompts. A folder without such files gets mean pooling, the model's own length, and the
        prefixes ``"query: "`` and ``"passage: "`` that hybrid batch training and E5 use.

        Raises:
            FileNotFoundError: ``folder`` is a path that does not exist.
            ValueError: a sentence-transformers module that is not Transformer, Pooling, Dense or Normalize, or
                a pooling mode other than mean or cls; the folder holds no model.
        """
        local = Path(folder)
        modules = _read_json(local / _MODULES) or []
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model_class = AutoModel._model_mapping.get(type(config), None)
        options: dict[str, Any] = {}
        if isinstance(model_class, type) and "add_pooling_layer" in inspect.signature(model_class).parameters:
            options["add_pooling_layer"] = False  # the pooler's output is never read
        model = AutoModel.from_pretrained(
            folder, trust_remote_code=False, dtype=torch.float32, use_safetensors=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        found_pooling, dense = _read_modules(local, modules)
        prompts = _read_json(local / _PROMPTS)
        prefixes = _E5_PREFIXES if prompts is None else {"query": "", "passage": "", **_prompts_of(prompts)}
        longest = min(
            (_read_json(local / "sentence_bert_config.json") or {}).get("max_seq_length") or 1 << 30,
            int(tokenizer.model_max_length),
            _positions(config),
        )
        if max_length is not None and max_length > longest:
            raise ValueError(f"max_length: found {max_length}, expected at most {longest}, the model's own")
        return cls(
            model,
            tokenizer,
            pooling=pooling or found_pooling,
            query_prefix=prefixes["query"] if query_prefix is None else query_prefix,
            passage_prefix=prefixes["passage"] if passage_prefix is None else passage_prefix,
            max_length=max_length or min(longest, 8192),
            dense=dense,
        )

    def token_ids(self, texts: Sequence[str], kind: TextKind) -> list[NDArray[np.int64]]:
        """Token ids with special tokens, white space collapsed and the kind's prefix put before."""
        if not texts:
            return []
        prefix = self.prefixes[kind]
        prepared = [prefix + " ".join(text.split()) for text in texts]
        encoded = self.tokenizer(
            prepared, truncation=True, max_length=self.max_length, return_attention_mask=False
        )
        return [np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]]

    def features(self, token_ids: Sequence[NDArray[np.int64]]) -> Features:
        """``input_ids`` and ``attention_mask``, both int64 (n, longest), padded on the right."""
        longest = max((len(row) for row in token_ids), default=0)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.full((len(token_ids), longest), pad, dtype=torch.int64)
        mask = torch.zeros((len(token_ids), longest), dtype=torch.int64)
        for row, tokens in enumerate(token_ids):
            ids[row, : len(tokens)] = torch.from_numpy(tokens)
            mask[row, : len(tokens)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def embed(self, features: Features) -> Tensor:
        """Unit vectors (n, dim)."""
        if not len(features["input_ids"]):
            return torch.zeros(0, self.dim, device=self.device)
        hidden = self.model(**features).last_hidden_state
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            mask = features["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
        return F.normalize(self.dense(pooled), dim=-1)

    @property
    def backbone(self) -> nn.Module:
        """The transformers model."""
        model: nn.Module = self.model
        return model

    def describe(self) -> str:
        """Architecture, dims, pooling, length and prefixes."""
        kind = type(self.model).__name__
        return (
            f"{kind}, {self.dim} dims, {self.pooling} pooling, at most {self.max_length} tokens, "
            f"query prefix {self.prefixes['query']!r}, passage prefix {self.prefixes['passage']!r}"
        )

    def _save(self, folder: Path) -> None:
        """Write a folder that sentence-transformers, ``AutoModel`` and :meth:`load` read."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        modules = ["Transformer", "Pooling"]
        _write_json(folder / "1_Pooling/config.json", {
            "word_embedding_dimension": int(self.model.config.hidden_size),
            "pooling_mode_cls_token": self.pooling == "cls",
            "pooling_mode_mean_tokens": self.pooling == "mean",
        })  # fmt: skip
        layers = list(self.dense)
        for layer, activation in zip(layers[::2], layers[1::2], strict=True):
            assert isinstance(layer, nn.Linear)
            place = folder / f"{len(modules)}_Dense"
            modules.append("Dense")
            _write_json(place / "config.json", {
                "in_features": layer.in_features,
                "out_features": layer.out_features,
                "bias": layer.bias is not None,
                "activation_function": f"torch.nn.modules.{_module_of(activation)}",
            })  # fmt: skip
            weights = {f"linear.{name}": value.detach().cpu() for name, value in layer.state_dict().items()}
            with write_atomically(place / "model.safetensors") as temporary:
                save_file(weights, temporary, metadata={"format": "pt"})
        modules.append("Normalize")
        _write_json(folder / _MODULES, [
            {
                "idx": index,
                "name": str(index),
                "path": "" if index == 0 else f"{index}_{name}",
                "type": f"sentence_transformers.models.{name}",
            }
            for index, name in enumerate(modules)
        ])  # fmt: skip
        (folder / f"{len(modules) - 1}_Normalize").mkdir(exist_ok=True)
        _write_json(
            folder / "sentence_bert_config.json", {"max_seq_length": self.max_length, "do_lower_case": False}
        )
        _write_json(folder / _PROMPTS, {
            "prompts": {**self.prefixes, "document": self.prefixes["passage"]},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        })  # fmt: skip
        _write_json(folder / CONFIG_NAME, {"type": "transformer"})

    def load_weights(self, folder: str | Path) -> None:
        """Replace all weights by those of a folder that :meth:`save` wrote."""
        loaded = type(self).load(folder)
        self.load_state_dict(loaded.state_dict())


def _read_modules(folder: Path, modules: list[dict[str, Any]]) -> tuple[Pooling, nn.Sequential]:
    """Pooling mode and dense layers named in a sentence-transformers ``modules.json``."""
    pooling: Pooling = "mean"
    layers: list[nn.Module] = []
    for module in modules:
        name = str(module["type"]).rsplit(".", 1)[-1]
        place = folder / str(module["path"])
        if name == "Pooling":
            config = _read_json(place / "config.json") or {}
            modes = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
            named = config.get("pooling_mode")
            if modes == ["pooling_mode_cls_token"] or named == "cls":
                pooling = "cls"
            elif modes not in ([], ["pooling_mode_mean_tokens"]) or named not in (None, "mean"):
                raise ValueError(f"{place / 'config.json'}: pooling {modes or named}, expected mean or cls")
        elif name == "Dense":
            config = _read_json(place / "config.json") or {}
            activation = str(config["activation_function"]).rsplit(".", 1)[-1]
            if activation not in _ACTIVATIONS:
                raise ValueError(
                    f"{place / 'config.json'}: activation_function {activation}, "
                    f"expected one of {', '.join(_ACTIVATIONS)}"
                )
            linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
            weights = load_file(place / "model.safetensors")
            linear.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
            layers += [linear, _ACTIVATIONS[activation]()]
        elif name not in ("Transformer", "Normalize"):
            raise ValueError(
                f"{folder / _MODULES}: module {name}, expected Transformer, Pooling, Dense or Normalize"
            )
    return pooling, nn.Sequential(*layers)


def _prompts_of(config: dict[str, Any]) -> dict[str, str]:
    prompts: dict[str, str] = config.get("prompts") or {}
    query = prompts.get("query", "")
    return {"query": query, "passage": prompts.get("passage", prompts.get("document", ""))}


def _positions(config: Any) -> int:
    """Longest input in tokens; RoBERTa's positions begin after its padding id."""
    positions = int(getattr(config, "max_position_embeddings", 1 << 30))
    offset = int(config.pad_token_id) + 1 if "roberta" in str(config.model_type) else 0
    return positions - offset if positions > 0 else 1 << 30


def _module_of(activation: nn.Module) -> str:
    kind = type(activation)
    return f"{kind.__module__.removeprefix('torch.nn.modules.')}.{kind.__name__}"


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
