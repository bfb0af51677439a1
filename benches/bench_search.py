"""Exact top-k search by inner product beside its peers (benches/search_peers.py): prebuilt, at once, and building.

n counts queries and m passages. ``search``: the index is there; ``search_once``: from the vectors to the answer;
``search_build``: making the index. One case: pytest 'benches/bench_search.py::test_search[real-1190x13014x384-k10]'.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pyhbt import search
from pyhbt.ops._native import core
from pyhbt.retrieval.index import ExactIndex

from .rows import Scan
from .search_peers import PANORAMA_LEVELS, answer, faiss_flat, faiss_panorama, installed, peers
from .vectors import Vectors, vectors

if TYPE_CHECKING:
    from .conftest import Compare

pytestmark = pytest.mark.filterwarnings("ignore")  # of the peers

SMALL = [("real", 1190, 13_014, 384), ("gaussian", 1190, 13_014, 384)]
LARGE = [
    ("gaussian", 1000, 200_000, 384),
    ("real-spectrum", 1000, 200_000, 384),
    ("gaussian", 1000, 500_000, 768),
]
MILLION = [(data, nq, 1_000_000, 384) for data in ("gaussian", "real-spectrum") for nq in (1, 4, 16)]
MOST_FEW = max(nq for _, nq, _, _ in MILLION)


def cases(*groups: tuple[list[tuple[str, int, int, int]], tuple[int, ...]]) -> list[Any]:
    """(data, queries, passages, dim, k) for each shape of a group with each k of it."""
    return [
        pytest.param(
            *(*shape, k),
            id=f"{shape[0]}-{shape[1]}x{shape[2]}x{shape[3]}" + f"-k{k}" * (k > 0),
            marks=() if shape in SMALL else pytest.mark.slow,
        )
        for shapes, ks in groups
        for shape in shapes
        for k in ks
    ]


def made(data: str, nq: int, n: int, dim: int) -> tuple[Vectors, torch.Tensor]:
    """The vectors and the queries; cases that differ in few queries share a corpus."""
    found = vectors(data, max(nq, MOST_FEW), n, dim)
    return found, found.queries[:nq]


def check(found: Vectors, nq: int, k: int) -> Callable[[str, Any], None]:
    """Against float64 on some queries. A float32 score of vectors of length 1 may be off by dim 2^-24."""
    exact = found.exact[:nq]
    best = exact.topk(k).values
    dim = found.corpus.shape[1]

    def run(backend: str, result: Any) -> None:
        scores, indices = (part[: len(exact)] for part in answer(result))
        float_error = 2**-24 if backend == "pyhbt" else dim * 2**-24
        double_error = dim * 2**-53 if backend == "pyhbt" else float_error
        own = exact.gather(1, indices)
        torch.testing.assert_close(own, best, rtol=0, atol=2 * double_error)
        torch.testing.assert_close(scores.double(), own, rtol=0, atol=float_error)
        assert bool((indices.sort(dim=1).values.diff(dim=1) > 0).all()), backend

    return run


def index_bytes(found: Vectors) -> dict[str, int]:
    """FAISS copies the vectors."""
    copy = found.corpus.nbytes
    norms = 4 * (PANORAMA_LEVELS + 1) * len(found.corpus)
    kept = {"pyhbt": found.built(ExactIndex).nbytes, "faiss-panorama": copy + norms}
    return kept | dict.fromkeys(("faiss-flat", "faiss-flat-blas"), copy)


@pytest.mark.parametrize(
    ("data", "nq", "n", "dim", "k"), cases((SMALL + LARGE, (10, 100, 1000)), (MILLION, (10, 100)))
)
def test_search(compare: Compare, data: str, nq: int, n: int, dim: int, k: int) -> None:
    found, queries = made(data, nq, n, dim)
    index = found.built(ExactIndex)
    others = {name: partial(call, queries) for name, call in peers(found, queries, k).items()}
    codes_and_numbers = n * (core.code_stride(dim) + 5 * 4)  # what screening reads
    if nq <= 4 and index.codes.has_nibbles:
        codes_and_numbers = n * (core.nibble_stride(dim) + 4 * 4)
    compare(
        lambda: index.search(queries, k),
        others,
        op="search",
        n=nq,
        m=n,
        dim=dim,
        k=k,
        flops=2.0 * nq * n * dim,
        scan=Scan(data, index_bytes(found), {"pyhbt": codes_and_numbers}),
        check=check(found, nq, k),
    )


@pytest.mark.parametrize(("data", "nq", "n", "dim", "k"), cases((SMALL[:1], (10, 1000)), (LARGE[:2], (100,))))
def test_once(compare: Compare, data: str, nq: int, n: int, dim: int, k: int) -> None:
    found, queries = made(data, nq, n, dim)
    others = {name: partial(call, queries) for name, call in peers(found, queries, k, once=True).items()}
    compare(
        lambda: search(queries, found.corpus, k),
        others,
        op="search_once",
        n=nq,
        m=n,
        dim=dim,
        k=k,
        flops=2.0 * nq * n * dim,
        scan=Scan(data),
        check=check(found, nq, k),
    )


@pytest.mark.parametrize(
    ("data", "nq", "n", "dim", "k"), cases((SMALL[:1] + LARGE[:1] + LARGE[2:] + MILLION[:1], (0,)))
)
def test_build(compare: Compare, data: str, nq: int, n: int, dim: int, k: int) -> None:
    found, _ = made(data, nq, n, dim)
    others: dict[str, Callable[[], Any]] = {}
    if installed("faiss"):
        others["faiss-flat"] = lambda: faiss_flat(found.corpus)
        import faiss

        if hasattr(faiss, "IndexFlatIPPanorama"):
            others["faiss-panorama"] = lambda: faiss_panorama(found.corpus)
    compare(
        lambda: ExactIndex(found.corpus),
        others,
        op="search_build",
        n=0,
        m=n,
        dim=dim,
        k=k,
        flops=0.0,
        scan=Scan(data, index_bytes(found)),
    )
