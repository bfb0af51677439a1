"""What filters cost: ``pyhbt`` is the call without one, and the ratio of a filter its share of that time.

n counts queries and m passages; k is that of search, the targets a query of ranks. Gaussian vectors, whose pools are as
hard as the whole corpus.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pyhbt import SearchFilter
from pyhbt.ops import reference
from pyhbt.retrieval.index import ExactIndex

from .rows import Scan
from .vectors import vectors

if TYPE_CHECKING:
    from .conftest import Compare

SHAPES = [
    pytest.param(500, 60_000, 64, id="500x60000x64"),
    pytest.param(500, 60_000, 384, id="500x60000x384"),
    pytest.param(1000, 200_000, 384, id="1000x200000x384", marks=pytest.mark.slow),
]
K, TARGETS = 10, 3
LANGUAGES, EXCLUDED = 11, 4000
_CHECKED = 20


def filters(nq: int, n: int, best: torch.Tensor) -> dict[str, SearchFilter]:
    """By name; ``best`` (nq, EXCLUDED) are the passages that score highest."""
    generator = torch.Generator().manual_seed(1)
    anywhere, some = (
        torch.randperm(n, generator=generator),
        partial(torch.randint, 0, generator=generator),
    )
    found = {
        f"{share:.0%}-{form}": SearchFilter(allowed=order < share * n)
        for share in (0.01, 0.1, 0.5)
        for form, order in (("scattered", anywhere), ("contiguous", torch.arange(n)))
    }
    wanted = some(LANGUAGES, (nq,))
    for form, order in (("scattered", anywhere), ("contiguous", torch.arange(n))):
        found[f"languages-{form}"] = SearchFilter(
            passage_partitions=order * LANGUAGES // n, query_partitions=wanted
        )
    for size in (2, 200):
        own = some(n // size, (nq,))
        found[f"groups-of-{size}"] = SearchFilter(passage_partitions=anywhere // size, query_partitions=own)
    found["exclude-one"] = SearchFilter(exclude=some(n, (nq,)))
    found["exclude-any"] = SearchFilter(exclude=some(n, (nq, EXCLUDED)))
    found["exclude-best"] = SearchFilter(exclude=best)
    return found


def accepted(filter: SearchFilter, n: int) -> torch.Tensor:
    """(_CHECKED, n): what the first queries may find."""
    accepts = torch.ones(_CHECKED, n, dtype=torch.bool)
    if filter.allowed is not None:
        accepts &= torch.as_tensor(filter.allowed)
    if filter.passage_partitions is not None and filter.query_partitions is not None:
        wanted = torch.as_tensor(filter.query_partitions)[:_CHECKED]
        accepts &= torch.as_tensor(filter.passage_partitions) == wanted[:, None]
    if filter.exclude is not None:
        accepts.scatter_(1, torch.as_tensor(filter.exclude)[:_CHECKED].reshape(_CHECKED, -1), False)
    return accepts


@pytest.mark.parametrize("op", ["search", "ranks"])
@pytest.mark.parametrize(("nq", "n", "dim"), SHAPES)
def test_filters(compare: Compare, nq: int, n: int, dim: int, op: str) -> None:
    found = vectors("gaussian", nq, n, dim)
    queries, index = found.queries, found.built(ExactIndex)
    targets = torch.randint(0, n, (nq, TARGETS), generator=torch.Generator().manual_seed(2))
    cases = filters(nq, n, index.search(queries, EXCLUDED)[1])
    few, corpus = queries[:_CHECKED].numpy(), found.corpus.numpy()

    def call(filter: SearchFilter | None) -> Any:
        if op == "search":
            return index.search(queries, K, filter=filter)[1]
        return index.ranks(queries, targets, filter=filter)

    def check(name: str, result: torch.Tensor) -> None:
        accepts = accepted(cases.get(name, SearchFilter()), n).numpy()
        if op == "search":
            truth = reference.search(few, corpus, K, accepts=accepts)[1]
        else:
            truth = reference.ranks(few, corpus, targets[:_CHECKED].numpy(), accepts=accepts)
        assert torch.equal(result[:_CHECKED], torch.from_numpy(truth)), name

    others: dict[str, Callable[[], Any]] = {name: partial(call, filter) for name, filter in cases.items()}
    compare(
        partial(call, None),
        others,
        op=f"{op}_filters",
        n=nq,
        m=n,
        dim=dim,
        k=K if op == "search" else TARGETS,
        flops=0.0,  # they differ
        scan=Scan("gaussian"),
        check=check,
    )
