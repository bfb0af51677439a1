"""How good and how biased an encoder is: measures, settings, language centring, and the job that scores an encoder."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
