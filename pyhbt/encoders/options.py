"""Settings of encoders that several commands and configurations share, each written once."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any

from pyhbt.settings import setting

if TYPE_CHECKING:
    from pyhbt.encoders.base import Encoder


def encoder_setting(default: Any = MISSING) -> Any:
    """Which encoder: what :func:`pyhbt.load_encoder` takes."""
    return setting(
        "ngram (embedded), a Hugging Face or sentence-transformers folder, or a hub name.", default
    )


def max_length_setting(unset: str = "the encoder's own") -> Any:
    """Length of texts in tokens."""
    return setting("Tokens kept of a text.", None, unset=unset)


def query_prefix_setting() -> Any:
    """Prefix of queries."""
    return setting("Put before queries.", None, unset="the encoder's own")


def passage_prefix_setting() -> Any:
    """Prefix of passages."""
    return setting("Put before passages.", None, unset="the encoder's own")


def batch_size_setting() -> Any:
    """Most texts at a time, when nothing is trained."""
    return setting("Texts encoded at a time, at most.", None, unset="as many as fit in 2,048 tokens")


@dataclass(frozen=True)
class EncoderSettings:
    """An encoder by name or folder, and how it takes texts."""

    encoder: str = encoder_setting("ngram")
    max_length: int | None = max_length_setting()
    query_prefix: str | None = query_prefix_setting()
    passage_prefix: str | None = passage_prefix_setting()

    def load(self, *, seed: int = 0) -> Encoder:
        """The encoder; ``seed`` is that of a new one's weights. Raises as :func:`pyhbt.load_encoder` does."""
        from pyhbt.encoders.load import load_encoder

        return load_encoder(
            self.encoder,
            seed=seed,
            max_length=self.max_length,
            query_prefix=self.query_prefix,
            passage_prefix=self.passage_prefix,
        )


@dataclass(frozen=True)
class NamedEncoderSettings(EncoderSettings):
    """The same where no encoder is meant unless it is named."""

    encoder: str = encoder_setting()


@dataclass(frozen=True)
class TrainedEncoderSettings(EncoderSettings):
    """The same for the encoder that a training begins with."""

    max_length: int | None = max_length_setting("128, or what the encoder takes, if that is less")
