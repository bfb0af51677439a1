"""The dtypes of embeddings that native kernels read, whose table is in csrc/border.h; modules know them by name."""

from __future__ import annotations

import torch

from pyhbt.ops._native import core

DTYPES: dict[torch.dtype, str] = {getattr(torch, name): name for name in core.DTYPES}
"""The name of each, for every native module."""

VECTOR_DTYPES: dict[torch.dtype, str] = {getattr(torch, name): name for name in core.VECTOR_DTYPES}
"""Those and the dtypes of one byte, which search and ranks read on the CPU."""


def in_two_bytes(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors of one byte a number as float16, which holds every one of them; others as they are."""
    return vectors if vectors.dtype in DTYPES else vectors.half()
