"""Vectors for search and ranks, all float32 of length 1.

``real``: a small e5 model's vectors of XQuAD-R, from the folder that PYHBT_DATA names; the queries are English where
1,190 are asked for, else those of all languages. ``gaussian``: random directions. ``real-spectrum``: synthetic,
mean + A z with z normal and the mean and covariance A A^T of the real passages (queries: of the real queries), for
corpora larger than the real one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

_FILE = Path("vectors") / "xquad-r-e5-small-12L.npz"
_CHECKED = 20
_BLOCK = 65_536


class Vectors:
    """Queries and passages, float64 scores of the first queries, and what was built of the passages."""

    def __init__(self, data: str, queries: torch.Tensor, corpus: torch.Tensor) -> None:
        self.data, self.queries, self.corpus = data, queries, corpus
        self.indexes: dict[Callable[[torch.Tensor], Any], Any] = {}

    def built(self, build: Callable[[torch.Tensor], Any]) -> Any:
        """An index of the passages, built once."""
        if build not in self.indexes:
            self.indexes[build] = build(self.corpus)
        return self.indexes[build]

    @cached_property
    def exact(self) -> torch.Tensor:
        """(up to 20, n) float64."""
        few = self.queries[:_CHECKED].double()
        return torch.cat([few @ block.double().T for block in self.corpus.split(_BLOCK)], dim=1)


@lru_cache(maxsize=1)  # the largest take gigabytes
def vectors(data: str, nq: int, n: int, dim: int) -> Vectors:
    """Vectors of one kind and shape."""
    generator = torch.Generator().manual_seed(0)
    if data == "gaussian":
        queries, corpus = (torch.randn(rows, dim, generator=generator) for rows in (nq, n))
        F.normalize(queries, out=queries)
        F.normalize(corpus, out=corpus)
    else:
        languages = real()
        passages = torch.cat([c for _, c in languages.values()])
        questions = torch.cat([q for q, _ in languages.values()])
        if data == "real-spectrum":
            queries, corpus = (alike(x, rows, generator) for x, rows in ((questions, nq), (passages, n)))
        else:
            queries, corpus = languages["en"][0] if nq == len(languages["en"][0]) else questions, passages
    assert (len(queries), *corpus.shape) == (nq, n, dim)
    return Vectors(data, queries, corpus)


@lru_cache(maxsize=1)
def real() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Queries and passages of each language, in the order of the languages' names."""
    folder = os.environ.get("PYHBT_DATA")
    if not folder or not (Path(folder) / _FILE).is_file():
        pytest.skip(f"real vectors: set PYHBT_DATA to the folder of {_FILE} (found {folder!r})")
    with np.load(Path(folder) / _FILE) as arrays:
        unit = {name: F.normalize(torch.from_numpy(arrays[name]).float()) for name in arrays.files}
    return {name[:-2]: (unit[name], unit[f"{name[:-2]}.c"]) for name in sorted(unit) if name.endswith(".q")}


def alike(sample: torch.Tensor, rows: int, generator: torch.Generator) -> torch.Tensor:
    """Normal vectors with the sample's mean and covariance, then of length 1."""
    values, axes = torch.linalg.eigh(torch.cov(sample.T.double()))
    root = (axes * values.clamp(min=0).sqrt()).float()
    result = torch.empty(rows, sample.shape[1])
    for block in result.split(_BLOCK):
        noise = torch.randn(block.shape, generator=generator)
        F.normalize(torch.addmm(sample.mean(dim=0), noise, root.T), out=block)
    return result
