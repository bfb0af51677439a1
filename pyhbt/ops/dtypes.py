"""The dtypes of embeddings that native kernels read, whose table is in csrc/border.h; modules know them by name."""

from __future__ import annotations

import torch

from pyhbt.ops._native import core

DTYPES: dict[torch.dtype, str] = {getattr(torch, name): name for name in core.DTYPES}
"""The name of each, for every native module."""
