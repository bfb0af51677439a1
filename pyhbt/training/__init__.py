"""Hybrid batch training: the sampler, the objective, the trainer, and the run that makes an encoder with its card."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
