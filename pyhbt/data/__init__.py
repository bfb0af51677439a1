"""Training pairs and retrieval sets, the readers that make them, and run files; imports nothing heavy."""

from __future__ import annotations

from pyhbt.data.afriqa import load_afriqa, load_afriqa_study
from pyhbt.data.beir import load_beir
from pyhbt.data.cldr import load_cldr
from pyhbt.data.lareqa import load_lareqa, load_lareqa_study
from pyhbt.data.miracl import load_miracl, load_miracl_pairs
from pyhbt.data.mmarco import load_mmarco
from pyhbt.data.pairs import load_folder_study, load_pairs
from pyhbt.data.registry import KINDS, DataKind, load_retrieval, load_study, load_train
from pyhbt.data.tiers import assign_tiers
from pyhbt.data.trec import Qrels, Run, read_qrels, read_run, write_qrels, write_run
from pyhbt.data.types import (
    TIERS,
    Pair,
    PairSet,
    ParallelItem,
    RetrievalSet,
    StudyData,
    Tier,
    scarcer,
)

__all__ = [
    "KINDS",
    "TIERS",
    "DataKind",
    "Pair",
    "PairSet",
    "ParallelItem",
    "Qrels",
    "RetrievalSet",
    "Run",
    "StudyData",
    "Tier",
    "assign_tiers",
    "load_afriqa",
    "load_afriqa_study",
    "load_beir",
    "load_cldr",
    "load_folder_study",
    "load_lareqa",
    "load_lareqa_study",
    "load_miracl",
    "load_miracl_pairs",
    "load_mmarco",
    "load_pairs",
    "load_retrieval",
    "load_study",
    "load_train",
    "read_qrels",
    "read_run",
    "scarcer",
    "write_qrels",
    "write_run",
]
