"""A corpus prepared for exact search: :class:`ExactIndex`, and several as one: :class:`JoinedIndex`."""

from __future__ import annotations

from pyhbt.retrieval.index.exact import ExactIndex
from pyhbt.retrieval.index.joined import JoinedIndex

__all__ = ["ExactIndex", "JoinedIndex"]
