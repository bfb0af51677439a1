"""Fingerprints of what a training is of: pairs, an encoder, a lexicon.

A fingerprint is blake2b with 128 bits of the content in its order, texts with their lengths, arrays with their types
and shapes: other content has another one. Content is fed piece by piece, so that no copy of it is made.
Cost: about a second a gigabyte of weights or of text and columns.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyhbt.data import RetrievalSet, TeacherScores
    from pyhbt.data.pair_set import PairSet
    from pyhbt.encoders import Encoder, TextKind
    from pyhbt.training.code_switching import Lexicon

_CHUNK_TEXTS = 4096
# Texts whose tokens stand for a tokenizer: runs of letters of most scripts.
_PROBE = [
    "".join(map(chr, range(first, first + 32)))
    for first in [*range(0x20, 0x3100, 32), *range(0x4E00, 0x9F00, 1024), *range(0xAC00, 0xD700, 1024)]
]


class _Digest:
    """blake2b that is told where one thing ends and the next begins."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def array(self, values: NDArray[Any]) -> None:
        self._hash.update(f"{values.dtype.str}{values.shape};".encode())
        self._hash.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def texts(self, texts: Iterable[str]) -> None:
        rest = iter(texts)
        while chunk := list(islice(rest, _CHUNK_TEXTS)):
            self.array(np.fromiter(map(len, chunk), dtype=np.int64, count=len(chunk)))
            self._hash.update("".join(chunk).encode("utf-8", "surrogatepass"))
        self._hash.update(b"end;")

    def lists(self, lists: Mapping[int, Sequence[int]]) -> None:
        keys = sorted(lists)
        self.array(np.array(keys, dtype=np.int64))
        self.array(np.array([len(lists[key]) for key in keys], dtype=np.int64))
        self.array(np.array([value for key in keys for value in lists[key]], dtype=np.int64))

    def tensor(self, name: str, value: Tensor) -> None:
        self._hash.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        self._hash.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    @property
    def text(self) -> str:
        return self._hash.hexdigest()


def fingerprint_of_pairs(pairs: PairSet) -> dict[str, Any]:
    """How many pairs and groups, and ``blake2b`` of every column and text in their order, negatives included."""
    digest = _Digest()
    for column in dataclasses.fields(pairs):
        value = getattr(pairs, column.name)
        if isinstance(value, np.ndarray):
            digest.array(value)
        elif isinstance(value, Mapping):
            digest.lists(value)
        else:
            digest.texts(value)
    return {"pairs": len(pairs), "groups": len(pairs.group_names), "blake2b": digest.text}


def fingerprint_of_retrieval_set(data: RetrievalSet) -> dict[str, Any]:
    """How many queries and passages, and ``blake2b`` of all texts, languages, questions, judgements; not the name."""
    digest = _Digest()
    for column in dataclasses.fields(data):
        value = getattr(data, column.name)
        if isinstance(value, tuple):
            digest.texts(value)
    for query in data.query_ids:
        digest.texts(f"{passage} {gain}" for passage, gain in sorted(data.qrels.get(query, {}).items()))
    digest.texts(f"{language} {tier}" for language, tier in sorted(data.tiers.items()))
    return {"queries": len(data.query_ids), "passages": len(data.passage_ids), "blake2b": digest.text}


def fingerprint_of_lexicon(lexicon: Lexicon) -> dict[str, Any]:
    """How many words, and ``blake2b`` of all entries, whatever file they came from."""
    digest = _Digest()
    for key in sorted(lexicon):
        digest.texts(key)
        for lang in sorted(lexicon[key]):
            digest.texts((lang, *lexicon[key][lang]))
    return {"words": len(lexicon), "blake2b": digest.text}


def fingerprint_of_scores(scores: TeacherScores) -> dict[str, Any]:
    """How many scores fit the pairs, and ``blake2b`` of them, whatever file they came from."""
    digest = _Digest()
    for column in scores.columns:
        digest.array(column)
    return {"scores": len(scores), "blake2b": digest.text}


def facts_of_encoder(encoder: Encoder) -> dict[str, Any]:
    """What an encoder brings to the outcome of a training, by name, as it is now.

    ``encoder``: its description; ``encoder_weights``: blake2b of all weights and buffers that vectors come from;
    ``trained_weights``: how many numbers are trained; ``max_length``; ``tokens``: blake2b of the tokens of letters of
    most scripts, so of tokenizer and prefixes; ``dropout``: how many layers have which probability, and what
    configurations say of it.
    """
    weights, tokens = _Digest(), _Digest()
    unread = encoder.unread_weights
    for name, value in sorted(encoder.state_dict().items()):
        if isinstance(value, Tensor) and name not in unread:
            weights.tensor(name, value)
    kinds: tuple[TextKind, ...] = ("query", "passage")
    for kind in kinds:
        for ids in encoder.token_ids(_PROBE, kind):
            tokens.array(ids)
    return {
        "encoder": encoder.describe(),
        "encoder_weights": weights.text,
        "trained_weights": sum(value.numel() for value in encoder.parameters() if value.requires_grad),
        "max_length": encoder.max_length,
        "tokens": tokens.text,
        "dropout": _dropout(encoder),
    }


def _dropout(encoder: Encoder) -> dict[str, Any]:
    """Layers by their probability of dropout, and the numbers of transformers configurations that name it."""
    layers: Counter[str] = Counter()
    named: dict[str, Any] = {}
    for module in encoder.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            layers[f"{module.p:g}"] += 1
        config: Any = getattr(module, "config", None)
        if hasattr(config, "to_dict"):
            named |= {
                name: value
                for name, value in config.to_dict().items()
                if "drop" in name and isinstance(value, (int, float))
            }
    return {**{f"layers at {p}": count for p, count in sorted(layers.items())}, **named}
