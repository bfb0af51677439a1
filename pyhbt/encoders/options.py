"""Settings of encoders that several commands and configurations share, each written once."""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any

from pyhbt.settings import setting


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
