"""PyHBT: hybrid batch training and exact evaluation of multilingual dense retrievers.

Names are imported when first used, so that ``import pyhbt`` costs milliseconds and a part is paid for only where
it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyhbt.data import Pair, PairSet, ParallelItem, RetrievalSet, StudyData
    from pyhbt.encoders import Encoder, NgramEncoder, TransformerEncoder, load_encoder
    from pyhbt.evaluation import evaluate
    from pyhbt.index import ExactIndex
    from pyhbt.objectives import Objective
    from pyhbt.ops import SearchFilter, contrastive_loss, ranks, search
    from pyhbt.sampling import HybridBatchSampler
    from pyhbt.schedules import RatioSchedule
    from pyhbt.sharded import sharded_search
    from pyhbt.similar import knn, semantic_search
    from pyhbt.study import StudyConfig, run_study
    from pyhbt.trainer import HybridTrainer

__version__ = "0.1.0"

_HOME = {
    "contrastive_loss": "ops",
    "ranks": "ops",
    "search": "ops",
    "SearchFilter": "ops",
    "ExactIndex": "index",
    "sharded_search": "sharded",
    "semantic_search": "similar",
    "knn": "similar",
    "Pair": "data",
    "PairSet": "data",
    "ParallelItem": "data",
    "RetrievalSet": "data",
    "StudyData": "data",
    "HybridBatchSampler": "sampling",
    "RatioSchedule": "schedules",
    "Encoder": "encoders",
    "NgramEncoder": "encoders",
    "TransformerEncoder": "encoders",
    "load_encoder": "encoders",
    "HybridTrainer": "trainer",
    "Objective": "objectives",
    "evaluate": "evaluation",
    "StudyConfig": "study",
    "run_study": "study",
}

__all__ = [
    "Encoder",
    "ExactIndex",
    "HybridBatchSampler",
    "HybridTrainer",
    "NgramEncoder",
    "Objective",
    "Pair",
    "PairSet",
    "ParallelItem",
    "RatioSchedule",
    "RetrievalSet",
    "SearchFilter",
    "StudyConfig",
    "StudyData",
    "TransformerEncoder",
    "__version__",
    "contrastive_loss",
    "evaluate",
    "knn",
    "load_encoder",
    "ranks",
    "run_study",
    "search",
    "semantic_search",
    "sharded_search",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'pyhbt' has no attribute {name!r}")
    return getattr(import_module(f"pyhbt.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
