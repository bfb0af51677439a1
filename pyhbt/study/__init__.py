"""The ratio study: cells of arms and seeds, their results, the statistics of them, and the report."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
