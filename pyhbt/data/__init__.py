"""What is trained and evaluated on: pairs, retrieval sets, and the readers and writers of their files.

Readers import what they need when they are used.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
