"""Finding passages: the reusable index, search over ranks, texts to files of vectors, vectors to a run."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
