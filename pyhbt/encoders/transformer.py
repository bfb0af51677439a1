"""Transformer encoders: a sentence-transformers model, fed with mini-batches of texts of similar length.

sentence-transformers reads and writes the checkpoint, prepares texts and computes vectors; tokens are taken from its
``preprocess`` unpadded, padded here by mini-batch, and given to its modules.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from peft import PeftModel
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule
from torch import Tensor, nn

from pyhbt.arguments import check_at_least, check_choice
from pyhbt.encoders import adapters
from pyhbt.encoders.base import Encoder, Features
from pyhbt.encoders.checkpoint import check_modules, checkpoint_folder, load_checkpoint
from pyhbt.encoders.lora import LoraOptions
from pyhbt.encoders.means import TextKind
from pyhbt.reading import naming, read_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

Pooling = Literal["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"]

UNLIMITED = 1 << 30
"""Length of an encoder that takes texts of any."""

_INSTRUCTOR = ("hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl")
"""Names for which sentence-transformers leaves the prompt out of pooling, which their files do not say."""

_TASKS: dict[TextKind, str] = {"query": "query", "passage": "document"}
WEIGHTS_NAME = "model.safetensors"

logger = logging.getLogger(__name__)


class TransformerEncoder(Encoder):
    """The unit vectors of a sentence-transformers model: those of its ``encode_query`` and ``encode_document``.

    Args:
        model: any whose modules are a Transformer, then Pooling, WeightedLayerPooling, Dense, LayerNorm, Normalize or
            Dropout, in any order; it is shared, not copied.
        max_length: tokens kept of a text, special ones and prompt among them; None: the model's own.

    Raises:
        ValueError: a module of another kind; a length below 1 or above the model's own.
    """

    training_length = 128
    mini_batch_overhead = 64
    mini_batch_tokens = 2048

    def __init__(self, model: SentenceTransformer, *, max_length: int | None = None) -> None:
        super().__init__()
        check_modules(model, "model")
        self.model = model
        self._lengths = self._longest()
        if max_length is not None:
            self.max_length = max_length
        whole = int(model.get_embedding_dimension() or 0)
        if model.truncate_dim is not None:
            check_at_least("truncate_dim", model.truncate_dim, 1)
        self.dim = whole if model.truncate_dim is None else min(model.truncate_dim, whole)
        tokenizer, first = self.tokenizer, self._first
        self._modality = "text" if "message" not in first.modality_config else "message"
        self._padding = {
            "input_ids": tokenizer.pad_token_id or 0,
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        self._columns = ["input_ids"]
        if any(tokenizer("a").get("token_type_ids", ())):  # such as XLNet's; zeros are what models assume
            self._columns.append("token_type_ids")
        if any(not pooling.include_prompt for pooling in self._poolings()):
            self._columns.append("prompt")
        if getattr(self.backbone, "_hf_peft_config_loaded", False):
            raise ValueError(
                "model: found an adapter inside the transformer, expected one around it (peft.get_peft_model) or none"
            )
        self._freeze_unread()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        pooling: Pooling | None = None,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        max_length: int | None = None,
        name: str | None = None,
    ) -> TransformerEncoder:
        """An encoder from a sentence-transformers or Hugging Face folder, or a hub name.

        ``name`` is what the user called it, for messages; by default ``folder``. What is not given is what
        ``SentenceTransformer`` of the same name has: its modules, prompts and lengths; for a plain checkpoint mean
        pooling (of a causal language model the last token) and no prompts.

        Raises:
            FileNotFoundError: ``folder`` is a path that does not exist, or a name that is nowhere.
            ValueError: a module that cannot be served, a file that is missing or damaged, or an option that the model
                does not have.
        """
        if pooling is not None:
            check_choice("pooling", pooling, get_args(Pooling))
        name = str(folder) if name is None else name
        model = load_checkpoint(checkpoint_folder(folder))
        if name in _INSTRUCTOR:
            model.set_pooling_include_prompt(False)
        if pooling is not None:
            _set_pooling(model, pooling)
        prompts = _prompts(model)
        if not any(prompts.values()) and query_prefix is None and passage_prefix is None:
            _hint_at_prompts(name, model)
        for kind, prefix in (("query", query_prefix), ("passage", passage_prefix)):
            if prefix is not None:
                prompts[kind] = prefix
        backbone: Any = model[0].model
        if name != str(folder) and backbone.name_or_path == str(Path(folder).resolve()):
            backbone.name_or_path = name  # so that an adapter of it names the hub's
        model.prompts = {**model.prompts, "query": prompts["query"], "document": prompts["passage"]}
        if model.similarity_fn_name != "cosine":
            logger.warning(
                "%s: compares by %s; PyHBT makes its vectors unit vectors and compares by cosine",
                name,
                model.similarity_fn_name,
            )
        encoder = cls(model, max_length=max_length)
        with (
            naming(Path(folder), "an encoder"),
            torch.inference_mode(),
        ):  # what its files say may not go together
            encoder.embed(encoder.features(encoder.token_ids(["a"], "query")))
        return encoder

    @property
    def max_length(self) -> int:
        """Tokens kept of a text, special ones and prompt among them; of the kind that may be longer.

        It may be set, to at most what the model takes; the less of it and the length of a kind holds.

        Raises:
            ValueError: set below 1 or above what the model takes.
        """
        return max(self._lengths.values())

    @max_length.setter
    def max_length(self, length: int) -> None:
        longest = self._longest()
        check_at_least("max_length", length, 1)
        if length > max(longest.values()):
            raise ValueError(
                f"max_length: found {length}, expected at most {max(longest.values())}, the model's own"
            )
        self._lengths = {kind: min(length, own) for kind, own in longest.items()}

    @property
    def _first(self) -> Any:
        """The Transformer module of sentence-transformers."""
        return self.model[0]

    @property
    def backbone(self) -> nn.Module:
        """The transformers model, without what PEFT puts around it."""
        found: nn.Module = self._first.model
        return found.get_base_model() if isinstance(found, PeftModel) else found

    @property
    def unread_weights(self) -> frozenset[str]:
        """Those of a pooler whose output no module takes; a live model may have it, a loaded one has none."""
        pooler = self._unread_pooler()
        if pooler is None:
            return frozenset()
        prefix = next(name for name, module in self.named_modules() if module is pooler)
        return frozenset(f"{prefix}.{name}" for name in pooler.state_dict())

    def _unread_pooler(self) -> nn.Module | None:
        pooler = getattr(self.backbone, "pooler", None)
        read = "pooler_output" in str(self._first.modality_config)
        return pooler if isinstance(pooler, nn.Module) and not read else None

    def _freeze_unread(self) -> None:
        """Ranks wait for the gradient of every weight that is trained, and these get none."""
        pooler = self._unread_pooler()
        if pooler is not None:
            pooler.requires_grad_(False)

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return self._first.tokenizer

    @property
    def prefixes(self) -> dict[str, str]:
        """What is put before queries and passages."""
        return _prompts(self.model)

    @property
    def pooling(self) -> str:
        """The pooling mode; several, or none, in words."""
        modes = [
            mode
            for pooling in self._poolings()
            for mode in (
                [pooling.pooling_mode] if isinstance(pooling.pooling_mode, str) else pooling.pooling_mode
            )
        ]
        return "+".join(modes) or "its own"

    def token_ids(self, texts: Sequence[str], kind: TextKind) -> list[NDArray[np.int64]]:
        """Token ids of each text with special tokens and the prompt of its kind, (tokens,).

        (tokens, 2 or 3) where the model wants more of a token than its id: its type, whether it is the prompt's.

        Raises:
            ValueError: a text with a lone surrogate.
        """
        if not texts:
            return []
        length = self._lengths[kind]
        try:
            with _unflattened(self._first):
                encoded = self._first.preprocess(
                    list(texts),
                    prompt=self.prefixes[kind] or None,
                    task=_TASKS[kind],
                    processing_kwargs={"text": {"padding": False}, "common": {"return_tensors": None}},
                    **({} if length == UNLIMITED else {"max_length": length}),
                )
        except (TypeError, UnicodeError):
            _check_unicode(texts)
            raise
        rows = [np.asarray(ids, dtype=np.int64) for ids in encoded["input_ids"]]
        columns = [rows]
        if "token_type_ids" in self._columns:
            columns.append([np.asarray(types, dtype=np.int64) for types in encoded["token_type_ids"]])
        if "prompt" in self._columns:
            prompt = int(encoded.get("prompt_length") or 0)
            columns.append([(np.arange(len(row)) < prompt).astype(np.int64) for row in rows])
        return rows if len(columns) == 1 else [np.stack(row, axis=1) for row in zip(*columns, strict=True)]

    def features(self, token_ids: Sequence[NDArray[np.int64]]) -> Features:
        """``input_ids`` and ``attention_mask``, int64 (n, longest), padded on the right, where padding moves no token.

        With what else the model wants of a token, int64 of the same shape.
        """
        longest = max((len(row) for row in token_ids), default=0)
        size = (len(token_ids), max(longest, 1) if len(token_ids) else 0)
        features = {
            name: torch.full(size, self._padding.get(name, 0), dtype=torch.int64) for name in self._columns
        }
        mask = torch.zeros(size, dtype=torch.int64)
        for place, row in enumerate(token_ids):
            columns = torch.from_numpy(row).reshape(len(row), len(self._columns)).unbind(1)
            for column, values in zip(features.values(), columns, strict=True):
                column[place, : len(row)] = values
            mask[place, : len(row)] = 1
        features["attention_mask"] = mask
        if any(len(row) == 0 for row in token_ids):
            features["filled"] = mask.any(dim=1)
        return features

    def embed(self, features: Features) -> Tensor:
        """Unit vectors (n, dim); a text without tokens gives zeros."""
        if not len(features["input_ids"]):
            return torch.zeros(0, self.dim, device=self.device)
        if "filled" in features:
            filled = features["filled"]
            some = {name: value[filled] for name, value in features.items() if name != "filled"}
            return _placed([(filled, self.embed(some))], self.dim)
        states = self._first({**features, "modality": self._modality})
        prompt = states.pop("prompt", None)
        if prompt is None:
            return self._pooled(states)
        lengths = prompt.sum(dim=1)  # pooling takes one for all rows
        parts = []
        for length in lengths.unique().tolist():
            here = lengths == length
            parts.append((here, self._pooled({**_rows(states, here), "prompt_length": length})))
        return _placed(parts, self.dim)

    def describe(self) -> str:
        """Architecture, dims, pooling, length and prefixes."""
        kind = type(self.backbone).__name__
        length = "any length" if self.max_length == UNLIMITED else f"at most {self.max_length} tokens"
        found = self._first.model
        adapter = f", {adapters.in_words(found)}" if isinstance(found, PeftModel) else ""
        return (
            f"{kind}, {self.dim} dims, {self.pooling} pooling, {length}, "
            f"query prefix {self.prefixes['query']!r}, passage prefix {self.prefixes['passage']!r}{adapter}"
        )

    def _pooled(self, states: dict[str, Any]) -> Tensor:
        """Unit vectors of what the transformer gave, through the modules after it."""
        for module in list(self.model)[1:]:
            states = module(states)
        vectors: Tensor = states["sentence_embedding"]
        if self.model.truncate_dim is not None:
            vectors = vectors[:, : self.dim]
        if vectors.shape[1] != self.dim:
            raise ValueError(
                f"model: found vectors of {vectors.shape[1]} dims, expected {self.dim}, as its modules say"
            )
        if isinstance(self.model[-1], Normalize) and self.model.truncate_dim is None:
            return vectors  # once more would round again
        return F.normalize(vectors, dim=-1)

    def _poolings(self) -> list[PoolingModule]:
        return [module for module in self.model if isinstance(module, PoolingModule)]

    def _longest(self) -> dict[TextKind, int]:
        """Most tokens of each kind of text that the model takes."""
        first = self._first
        whole = min(int(first.max_seq_length or UNLIMITED), _positions(first.config), UNLIMITED)
        return {
            "query": min(first.query_length or UNLIMITED, whole),
            "passage": min(first.document_length or UNLIMITED, whole),
        }

    def _save(self, folder: Path) -> dict[str, object]:
        """Write a folder that sentence-transformers, ``AutoModel`` (of an adapter, PEFT) and :meth:`load` read."""
        modules = list(self.model)
        if not isinstance(modules[-1], Normalize):
            modules.append(Normalize())
        saved = SentenceTransformer(
            modules=modules,
            device=str(self.device),
            prompts={**_named(self.model), **self.prefixes, "document": self.prefixes["passage"]},
            default_prompt_name=self.model.default_prompt_name,
            similarity_fn_name="cosine",
            truncate_dim=self.model.truncate_dim,
        )
        tokenizer, length = self.tokenizer, self.tokenizer.model_max_length
        if self.max_length != UNLIMITED:
            tokenizer.model_max_length = self.max_length
        try:
            saved.save(str(folder), create_model_card=False)
        finally:
            tokenizer.model_max_length = length
        return {"type": "transformer"}

    def load_weights(self, folder: str | Path) -> None:
        """Replace all weights (of an adapter alone, where there is one) by those that :meth:`save` wrote.

        Raises:
            ValueError: they are of another model.
        """
        found = self._first.model
        if not isinstance(found, PeftModel):
            weights = type(self).load(folder).state_dict()
            wrong = sorted((self.state_dict().keys() ^ weights.keys()) - self.unread_weights)
            if wrong:
                raise ValueError(f"{folder}: of another model: {wrong[0]} does not fit")
            self.load_state_dict(weights, strict=False)
            return
        adapters.load_adapter(found, Path(folder))
        for place, module in enumerate(self.model):
            if place and module.state_dict():
                name = f"{place}_{type(module).__name__}"
                path = Path(folder, name, WEIGHTS_NAME)
                with naming(path, "weights of this encoder"):
                    module.load_state_dict(read_tensors(path))

    def add_lora(self, options: LoraOptions, *, seed: int = 0) -> None:
        """Freeze the transformer and train low-rank adapters of its linear layers instead; ``seed``: of their weights.

        Raises:
            ValueError: there is an adapter already, or a target that no layer is named by.
        """
        found = self._first.model
        if isinstance(found, PeftModel):
            raise ValueError(
                f"lora: found {options}, expected None: the encoder has an adapter; merge it first"
            )
        self._first.model = adapters.adapted(found, options, seed=seed)

    def merge_lora(self) -> None:
        """Add the adapter to the weights (W + alpha / r B A), so that the encoder is saved whole."""
        found = self._first.model
        if isinstance(found, PeftModel):
            self._train_all(found.merge_and_unload())

    def remove_lora(self) -> None:
        """Take the adapter away, with what it has learnt; all weights of the transformer are trained again."""
        found = self._first.model
        if isinstance(found, PeftModel):
            self._train_all(found.unload())

    def _train_all(self, model: nn.Module) -> None:
        self._first.model = model.requires_grad_()
        self._freeze_unread()


def _set_pooling(model: SentenceTransformer, mode: Pooling) -> None:
    poolings = [module for module in model if isinstance(module, PoolingModule)]
    if len(poolings) != 1 or not isinstance(poolings[0].pooling_mode, str):
        raise ValueError(
            f"pooling: found {mode!r}, expected None: the model has not one pooling mode but "
            f"{[module.pooling_mode for module in poolings]}"
        )
    poolings[0].pooling_mode = mode


def _prompts(model: SentenceTransformer) -> dict[str, str]:
    """The prompts that ``encode_query`` and ``encode_document`` use."""
    named = _named(model)
    default = named.get(model.default_prompt_name or "", "")
    passages = [named[name] for name in ("document", "passage", "corpus") if name in named]
    return {"query": named.get("query", default), "passage": passages[0] if passages else default}


def _named(model: SentenceTransformer) -> dict[str, str]:
    return {name: prompt or "" for name, prompt in model.prompts.items()}


def _hint_at_prompts(name: str, model: SentenceTransformer) -> None:
    """Say so where prompts are probably missing: of E5, whose checkpoints do not name them, and under another name."""
    others = {key: prompt for key, prompt in model.prompts.items() if prompt}
    wanted = (
        "the prompts query: and passage:" if re.search(r"(^|[_-])e5([_-]|$)", Path(name).name.lower()) else ""
    )
    if others:
        wanted = f"its prompts {others}, of which sentence-transformers uses none for queries or passages"
    if wanted:
        logger.warning(
            "%s: no prompt is put before texts; it may want %s (query_prefix, passage_prefix)", name, wanted
        )


def _positions(config: Any) -> int:
    """Longest input in tokens; RoBERTa's positions begin after its padding id."""
    positions = int(getattr(config, "max_position_embeddings", None) or UNLIMITED)
    offset = int(config.pad_token_id) + 1 if "roberta" in str(config.model_type) else 0
    return positions - offset if positions > 0 else UNLIMITED


@contextmanager
def _unflattened(transformer: Any) -> Iterator[None]:
    """Texts stay apart while this holds, also for a model that is set to run them in a row without padding."""
    flat = transformer.unpad_inputs
    if getattr(transformer, "can_flatten_inputs", False):
        transformer.unpad_inputs = False
    try:
        yield
    finally:
        if transformer.unpad_inputs is not flat:
            transformer.unpad_inputs = flat


def _check_unicode(texts: Sequence[str]) -> None:
    for place, text in enumerate(texts):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"texts[{place}]: found {text!r}, expected text without lone surrogates")


def _rows(states: dict[str, Any], chosen: Tensor) -> dict[str, Any]:
    """Some texts of what a transformer gives."""

    def part(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim():
            return value[chosen]
        return tuple(map(part, value)) if isinstance(value, tuple) else value

    return {name: part(value) for name, value in states.items()}


def _placed(parts: list[tuple[Tensor, Tensor]], dim: int) -> Tensor:
    """Vectors (n, dim) from those of the rows that masks (n,) choose; rows that none chooses are zeros."""
    (mask, first), *_ = parts
    vectors = first.new_zeros(len(mask), dim)
    for chosen, part in parts:
        vectors = vectors.index_put((chosen.nonzero()[:, 0],), part)
    return vectors
