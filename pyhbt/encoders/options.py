"""Options of encoders that several commands and configurations share, each written once."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pyhbt.options import option

if TYPE_CHECKING:
    from pyhbt.encoders.base import Encoder


def encoder_option(default: Any = MISSING) -> Any:
    """Which encoder: what :func:`pyhbt.load_encoder` takes."""
    return option("ngram (embedded), a Hugging Face or sentence-transformers folder, or a hub name.", default)


def max_length_option(unset: str = "the encoder's own") -> Any:
    """Length of texts in tokens."""
    return option("Tokens kept of a text.", None, unset=unset)


def query_prefix_option() -> Any:
    """Prefix of queries."""
    return option("Put before queries.", None, unset="the encoder's own")


def passage_prefix_option() -> Any:
    """Prefix of passages."""
    return option("Put before passages.", None, unset="the encoder's own")


def batch_size_option() -> Any:
    """Most texts at a time, when nothing is trained."""
    return option("Texts encoded at a time, at most.", None, unset="as many as fit in 2,048 tokens")


class NamesEncoder(Protocol):
    """Options that name an encoder and say how it takes texts."""

    @property
    def encoder(self) -> str | None:
        """A name or a folder."""

    @property
    def max_length(self) -> int | None:
        """Tokens kept of a text."""

    @property
    def query_prefix(self) -> str | None:
        """Put before queries."""

    @property
    def passage_prefix(self) -> str | None:
        """Put before passages."""


def named_encoder(options: NamesEncoder, *, seed: int = 0) -> Encoder:
    """The encoder that options name; ``seed`` is that of a new one's weights.

    Raises:
        ValueError: none is named; and as :func:`pyhbt.load_encoder` does.
    """
    from pyhbt.encoders.load import load_encoder

    if options.encoder is None:
        raise ValueError("encoder: found None, expected a name or a folder")
    return load_encoder(
        options.encoder,
        seed=seed,
        max_length=options.max_length,
        query_prefix=options.query_prefix,
        passage_prefix=options.passage_prefix,
    )


@dataclass(frozen=True)
class EncoderOptions:
    """An encoder by name or folder, and how it takes texts."""

    encoder: str = encoder_option("ngram")
    max_length: int | None = max_length_option()
    query_prefix: str | None = query_prefix_option()
    passage_prefix: str | None = passage_prefix_option()

    def load(self, *, seed: int = 0) -> Encoder:
        """As :func:`named_encoder`."""
        return named_encoder(self, seed=seed)


@dataclass(frozen=True)
class NamedEncoderOptions(EncoderOptions):
    """The same where no encoder is meant unless it is named."""

    encoder: str = encoder_option()


@dataclass(frozen=True)
class TrainedEncoderOptions(EncoderOptions):
    """The same for the encoder that a training begins with."""

    max_length: int | None = max_length_option("128, or what the encoder takes, if that is less")
