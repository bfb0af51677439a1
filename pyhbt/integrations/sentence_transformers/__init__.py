"""Drop-ins for sentence-transformers 6: fused losses, hybrid batches, the multilingual evaluator.

Needs the extra ``pyhbt[sentence-transformers]``.
"""

from __future__ import annotations

try:
    import sentence_transformers.base.losses  # noqa: F401  # since 6.0
except ImportError as error:
    raise ImportError(
        "sentence_transformers: found none or one before 6.0; install 'pyhbt[sentence-transformers]'"
    ) from error

from pyhbt.integrations.sentence_transformers.batches import HybridBatches, hybrid_dataset
from pyhbt.integrations.sentence_transformers.cached import CachedFusedInBatchLoss
from pyhbt.integrations.sentence_transformers.evaluator import MultilingualRetrievalEvaluator
from pyhbt.integrations.sentence_transformers.losses import FusedInBatchLoss
from pyhbt.integrations.sentence_transformers.temperature import TemperatureCallback

__all__ = [
    "CachedFusedInBatchLoss",
    "FusedInBatchLoss",
    "HybridBatches",
    "MultilingualRetrievalEvaluator",
    "TemperatureCallback",
    "hybrid_dataset",
]
