"""Encoders by name or folder."""

from __future__ import annotations

import json
from pathlib import Path

from pyhbt.encoders.base import CONFIG_NAME, Encoder
from pyhbt.encoders.means import LanguageMeans
from pyhbt.encoders.ngram import NgramEncoder
from pyhbt.encoders.transformer import Pooling, TransformerEncoder


def load_encoder(
    spec: str | Path,
    *,
    seed: int = 0,
    pooling: Pooling | None = None,
    max_length: int | None = None,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
) -> Encoder:
    """An encoder by name or folder.

    Args:
        spec: ``"ngram"``, a new :class:`NgramEncoder`; else a folder that an encoder saved, or a Hugging Face or
            sentence-transformers checkpoint (folder or hub name).
        seed: of a new encoder's weights.
        pooling, query_prefix, passage_prefix: of a transformer; None: what its folder says.
        max_length: tokens (or n-grams) kept of a text; None: the encoder's own.

    Raises:
        FileNotFoundError: a path that is no folder.
        ValueError: an option that the encoder does not have, or a folder that is no checkpoint.
    """
    folder = Path(spec).expanduser()
    path_like = folder.is_absolute() or str(spec).startswith((".", "~")) or len(folder.parts) > 2
    if path_like and not folder.is_dir():
        raise FileNotFoundError(f"encoder: {spec} is not a folder")
    config = folder / CONFIG_NAME
    saved_ngram = config.is_file() and json.loads(config.read_text(encoding="utf-8"))["type"] == "ngram"
    if str(spec) != "ngram" and not saved_ngram:
        transformer = TransformerEncoder.load(
            folder if folder.is_dir() else str(spec),
            pooling=pooling,
            max_length=max_length,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
        )
        transformer.language_means = LanguageMeans.load(folder)
        return transformer
    for name, value in (
        ("pooling", pooling),
        ("query_prefix", query_prefix),
        ("passage_prefix", passage_prefix),
    ):
        if value is not None:
            raise ValueError(f"{name}: found {value!r}, expected None: an n-gram encoder has none")
    if saved_ngram:
        ngram = NgramEncoder.load(folder, max_length=max_length)
        ngram.language_means = LanguageMeans.load(folder)
        return ngram
    return NgramEncoder(seed=seed) if max_length is None else NgramEncoder(seed=seed, max_length=max_length)
