"""PyHBT: hybrid batch training and exact evaluation of multilingual dense retrievers.

Names are imported when first used, so that ``import pyhbt`` costs milliseconds and a part is paid for only where
it is used.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
