"""Hard negatives, passages that score high for a query and do not answer it; bitext, sentences and translations."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
