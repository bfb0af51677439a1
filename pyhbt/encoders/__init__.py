"""Encoders: texts -> unit vectors, shared by queries and passages; texts of similar length are packed together."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
