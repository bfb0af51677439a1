"""A corpus prepared for exact search: :class:`ExactIndex`."""

from __future__ import annotations

from pyhbt.index.exact import ExactIndex

__all__ = ["ExactIndex"]
