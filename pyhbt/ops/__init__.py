"""The three operations: contrastive loss, exact top-k search, and ranks in the full exact order."""

from __future__ import annotations

from pyhbt.ops.contrastive import contrastive_loss
from pyhbt.ops.exact import ranks, search
from pyhbt.ops.filters import SearchFilter

__all__ = ["SearchFilter", "contrastive_loss", "ranks", "search"]
