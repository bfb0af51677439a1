"""What search and ranks take: k, options, filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import ExactIndex
from pyhbt.ops import SearchFilter, ranks, search
from pyhbt.ops.search_checks import search_device
from pyhbt.retrieval.compat import knn, semantic_search

QUERIES = np.random.default_rng(0).standard_normal((3, 8), dtype=np.float32)
CORPUS = np.random.default_rng(1).standard_normal((20, 8), dtype=np.float32)
SEARCHES: dict[str, Callable[[Any], Any]] = {
    "search": lambda k: search(QUERIES, CORPUS, k)[1],
    "filtered": lambda k: search(QUERIES, CORPUS, k, filter=SearchFilter(allowed=np.arange(20)))[1],
    "index": lambda k: ExactIndex(CORPUS).search(QUERIES, k)[1],
    "knn": lambda k: knn(QUERIES, CORPUS, k)[1],
    "semantic_search": lambda k: semantic_search(QUERIES, CORPUS, top_k=k),
}
WRONG = [
    2.5,
    5.0,
    "3",
    None,
    True,
    float("nan"),
    np.float32(3),
    np.bool_(True),
    torch.tensor(3.0),
    torch.tensor(True),
    [],
]


@pytest.mark.parametrize("call", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("k", WRONG, ids=repr)
def test_k_that_is_no_whole_number(k: Any, call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="k: found .*, expected a whole number, at least 1"):
        call(k)


@pytest.mark.parametrize("call", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("k", [0, -1, -(2**70), np.int64(0)])
def test_k_below_one(k: Any, call: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match="k: found -?[0-9]+, expected at least 1"):
        call(k)


@pytest.mark.parametrize("call", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("k", [20, 21, 2**31, 2**70, np.int8(20), np.uint64(2**63), torch.tensor(50)])
def test_k_is_at_most_the_passages(k: Any, call: Callable[[Any], Any]) -> None:
    assert len(call(k)[0]) == 20
    assert np.shape(search(QUERIES, CORPUS[:0], k)[0]) == (3, 1)


@pytest.mark.parametrize("value", ["en", np.ones(20, bool), {"allowed": np.ones(20, bool)}], ids=type)
def test_what_is_no_filter(value: Any) -> None:
    index, targets = ExactIndex(CORPUS), np.zeros(3, dtype=np.int64)
    for call in (
        lambda: search(QUERIES, CORPUS, 2, filter=value),
        lambda: ranks(QUERIES, CORPUS, targets, filter=value),
        lambda: index.search(QUERIES, 2, filter=value),
        lambda: index.search(QUERIES, 2, filter=value, progress=True),
        lambda: index.ranks(QUERIES, targets, filter=value),
    ):
        with pytest.raises(TypeError, match=r"^filter: found \w+, expected SearchFilter"):
            call()


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("rows", [2, 4])
def test_a_filter_for_other_queries(rows: int, progress: bool) -> None:
    filter = SearchFilter(exclude=np.zeros((rows, 1), dtype=np.int64))
    with pytest.raises(ValueError, match=rf"filter.exclude: found shape \({rows}, 1\), expected \(3,\)"):
        ExactIndex(CORPUS).search(QUERIES, 2, filter=filter, progress=progress)


def test_devices_by_name() -> None:
    assert search_device("cpu") == torch.device("cpu")
    assert search_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="device: found meta, expected cpu or cuda"):
        search_device("meta")
