"""The operations: contrastive loss, exact search by k and by range, and ranks in the full exact order."""

from __future__ import annotations

from pyhbt.ops.contrastive import contrastive_loss
from pyhbt.ops.exact import ranks, search
from pyhbt.ops.filters import SearchFilter
from pyhbt.ops.range import RangeResults, search_range

__all__ = ["RangeResults", "SearchFilter", "contrastive_loss", "ranks", "search", "search_range"]
