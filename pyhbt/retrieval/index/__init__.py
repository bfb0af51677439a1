"""A corpus prepared for exact search: :class:`ExactIndex`."""

from __future__ import annotations

from pyhbt.retrieval.index.exact import ExactIndex

__all__ = ["ExactIndex"]
