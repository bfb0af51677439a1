"""Encoders by name or folder, or from a live model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from pyhbt.arguments import check_seed
from pyhbt.encoders.base import Encoder, read_config
from pyhbt.encoders.means import LanguageMeans
from pyhbt.encoders.ngram import NgramEncoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pyhbt.encoders.transformer import Pooling

EncoderLike: TypeAlias = Union[Encoder, "SentenceTransformer"]
"""An encoder, or a live sentence-transformers model in its place."""


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
        FileNotFoundError: a path that is no folder, or a name that neither the cache nor the hub has.
        ValueError: an option that the encoder does not have, a folder of which a file is missing or damaged, or a model
            that cannot be served.
    """
    if not str(spec).strip():
        raise ValueError(f"encoder: found {str(spec)!r}, expected ngram, a folder or a hub name")
    check_seed("seed", seed)
    ngram_options = {"pooling": pooling, "query_prefix": query_prefix, "passage_prefix": passage_prefix}
    if str(spec) == "ngram":
        _check_none(ngram_options)
        return (
            NgramEncoder(seed=seed) if max_length is None else NgramEncoder(seed=seed, max_length=max_length)
        )
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        from pyhbt.encoders.checkpoint import checkpoint_folder

        folder = checkpoint_folder(spec)
    config = read_config(folder)
    encoder: Encoder
    if config is not None and config["type"] == "ngram":
        _check_none(ngram_options)
        encoder = NgramEncoder.load(folder, max_length=max_length)
    else:
        from pyhbt.encoders.transformer import TransformerEncoder

        encoder = TransformerEncoder.load(
            folder,
            pooling=pooling,
            max_length=max_length,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            name=str(spec),
        )
    encoder.language_means = LanguageMeans.load(folder)
    return encoder


def as_encoder(encoder: EncoderLike) -> Encoder:
    """The encoder itself, or one around a live ``SentenceTransformer``, which it shares.

    Raises:
        TypeError: something else.
        ValueError: a ``SentenceTransformer`` that cannot be served; names the module.
    """
    if isinstance(encoder, Encoder):
        return encoder
    library = sys.modules.get("sentence_transformers")
    if library is not None and isinstance(encoder, library.SentenceTransformer):
        from pyhbt.encoders.transformer import TransformerEncoder

        return TransformerEncoder(encoder)
    raise TypeError(f"encoder: found {type(encoder).__name__}, expected an Encoder or a SentenceTransformer")


def _check_none(options: dict[str, str | None]) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name}: found {value!r}, expected None: an n-gram encoder has none")
