"""Ranks of given passages in the full order: one relevant passage in each of 11 languages for every query.

Peers: torch, all scores of 256 queries at a time, then a full sort, or a count of the scores above each target's.
``real``: the targets are the passages of each language that score highest, as in evaluation of an aligned pool;
``gaussian``: any. n counts queries, m passages, k targets of a query. flops = 2 n m dim.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from pyhbt import ranks
from pyhbt.ops import reference
from pyhbt.ops._native import core
from pyhbt.retrieval.index import ExactIndex

from .rows import Scan
from .vectors import real, vectors

if TYPE_CHECKING:
    from .conftest import Compare

TARGETS = 11
_QUERIES_AT_ONCE = 256
_CHECKED = 20
Count = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SHAPES = [
    pytest.param("real", 1190, 13_014, 384, id="real-1190x13014x384"),
    pytest.param("gaussian", 1190, 13_014, 384, id="gaussian-1190x13014x384"),
    pytest.param("real", 13_090, 13_014, 384, id="real-13090x13014x384", marks=pytest.mark.slow),
]


def by_sorting(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    order = scores.argsort(dim=1, descending=True)
    places = torch.arange(1, scores.shape[1] + 1).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).gather(1, targets)


def by_counting(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """count_nonzero takes a sixth of the time of sum."""
    columns = scores.gather(1, targets).T
    return torch.stack([torch.count_nonzero(scores > own[:, None], dim=1) + 1 for own in columns], dim=1)


def eager(count: Count, queries: torch.Tensor, corpus: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    parts = zip(queries.split(_QUERIES_AT_ONCE), targets.split(_QUERIES_AT_ONCE), strict=True)
    return torch.cat([count(part @ corpus.T, wanted) for part, wanted in parts])


def targets_of(data: str, queries: torch.Tensor, n: int) -> torch.Tensor:
    """(nq, TARGETS)."""
    if data == "gaussian":
        return torch.randint(0, n, (len(queries), TARGETS), generator=torch.Generator().manual_seed(1))
    columns, start = [], 0
    for _, passages in real().values():
        nearest = [(block @ passages.T).argmax(dim=1) for block in queries.split(_QUERIES_AT_ONCE)]
        columns.append(torch.cat(nearest) + start)
        start += len(passages)
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize(("data", "nq", "n", "dim"), SHAPES)
def test_ranks(compare: Compare, data: str, nq: int, n: int, dim: int) -> None:
    found = vectors(data, nq, n, dim)
    queries, corpus, index = found.queries, found.corpus, found.built(ExactIndex)
    targets = targets_of(data, queries, n)
    few = (queries[:_CHECKED].numpy(), corpus.numpy(), targets[:_CHECKED].numpy())
    truth = torch.from_numpy(reference.ranks(*few))

    def check(backend: str, result: torch.Tensor) -> None:
        off = int((result[:_CHECKED] - truth).abs().max())
        assert off <= (0 if backend.startswith("pyhbt") else 3), (
            backend
        )  # float32 and ties may swap neighbours

    compare(
        lambda: index.ranks(queries, targets),
        {
            "pyhbt-once": lambda: ranks(queries, corpus, targets),
            "torch-sort": partial(eager, by_sorting, queries, corpus, targets),
            "torch-count": partial(eager, by_counting, queries, corpus, targets),
        },
        op="ranks",
        n=nq,
        m=n,
        dim=dim,
        k=TARGETS,
        flops=2.0 * nq * n * dim,
        scan=Scan(data, {"pyhbt": index.nbytes}, {"pyhbt": n * (core.code_stride(dim) + 5 * 4)}),
        check=check,
    )
