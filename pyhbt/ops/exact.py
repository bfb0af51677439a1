"""Exact top-k search and exact ranks: boundary checks and torch operators.

The score of a pair is its float64 dot product in one fixed summation order, and the order of passages is higher
score first, then lower index. Nothing else decides: results are equal for every thread count and instruction set.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt
import torch

from pyhbt.ops import checks
from pyhbt.ops._native import core, threads
from pyhbt.ops.checks import Array

torch.library.define(
    "pyhbt::search", "(Tensor queries, Tensor corpus, int k) -> (Tensor scores, Tensor indices)"
)
torch.library.define("pyhbt::ranks", "(Tensor queries, Tensor corpus, Tensor targets) -> Tensor")


@torch.library.impl("pyhbt::search", "cpu")
def _search_cpu(queries: torch.Tensor, corpus: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    _check_embeddings(queries, corpus)
    queries, corpus = queries.contiguous(), corpus.contiguous()
    if k < 1:
        raise ValueError(f"k: found {k}, expected at least 1")
    scores, indices = _search_fake(queries, corpus, k)
    core.search(
        queries.data_ptr(),
        corpus.data_ptr(),
        *(queries.shape[0], corpus.shape[0], queries.shape[1], k),
        scores.data_ptr(),
        indices.data_ptr(),
        threads(),
    )
    return scores, indices


@torch.library.register_fake("pyhbt::search")  # type: ignore[untyped-decorator]
def _search_fake(queries: torch.Tensor, corpus: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (queries.shape[0], k)
    return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(shape, dtype=torch.int64)


@torch.library.impl("pyhbt::ranks", "cpu")
def _ranks_cpu(queries: torch.Tensor, corpus: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    _check_embeddings(queries, corpus)
    _check_targets(targets, queries, corpus)
    queries, corpus, targets = queries.contiguous(), corpus.contiguous(), targets.contiguous()
    result = torch.empty_like(targets)
    core.ranks(
        queries.data_ptr(),
        corpus.data_ptr(),
        *(queries.shape[0], corpus.shape[0], queries.shape[1]),
        targets.data_ptr(),
        1 if targets.ndim == 1 else targets.shape[1],
        result.data_ptr(),
        threads(),
    )
    return result


@torch.library.register_fake("pyhbt::ranks")  # type: ignore[untyped-decorator]
def _ranks_fake(queries: torch.Tensor, corpus: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(targets, memory_format=torch.contiguous_format)


def _check_embeddings(queries: torch.Tensor, corpus: torch.Tensor) -> None:
    for name, tensor in (("queries", queries), ("corpus", corpus)):
        if tensor.device.type != "cpu":
            raise ValueError(f"{name}: found device {tensor.device}, expected cpu; move it there with .cpu()")
        if tensor.dtype != torch.float32:
            raise TypeError(f"{name}: found dtype {tensor.dtype}, expected {torch.float32}")
        checks.check_matrix(tensor, name)
    checks.check_same_dim(corpus, "corpus", queries, "queries")


def _check_targets(targets: torch.Tensor, queries: torch.Tensor, corpus: torch.Tensor) -> None:
    checks.check_integers(targets, "targets")
    if targets.ndim not in (1, 2) or targets.shape[0] != queries.shape[0]:
        rows = queries.shape[0]
        raise ValueError(f"targets: found shape {tuple(targets.shape)}, expected ({rows},) or ({rows}, t)")
    if targets.device.type != "cpu":
        raise ValueError(f"targets: found device {targets.device}, expected cpu; move it there with .cpu()")


@overload
def search(
    queries: npt.NDArray[np.float32], corpus: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
@overload
def search(queries: torch.Tensor, corpus: Array, k: int) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def search(
    queries: npt.NDArray[np.float32], corpus: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]: ...
def search(
    queries: Array, corpus: Array, k: int
) -> tuple[torch.Tensor, torch.Tensor] | tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The k passages of the corpus with the largest dot product for each query, exactly.

    :param queries: (nq, dim) float32 on the CPU, finite.
    :param corpus: (n, dim) float32 on the CPU, finite.
    :param k: at least 1; where k > n the rows end in score -inf and index -1.
    :returns: scores (nq, k) float32 and indices (nq, k) int64, higher score first, then lower index: the float64
        scores decide, and are rounded to float32 at the end. Tensors, or arrays where both inputs are arrays.
    :raises ValueError: a shape, k, device or a non-finite value (named with its row).
    :raises TypeError: a dtype other than float32.

    Passages are screened by float32 dot products with a proved error bound and the survivors scored in float64:
    2 nq n dim flops, and memory O(n + nq k).
    """
    q, c = checks.as_tensor(queries, "queries"), checks.as_tensor(corpus, "corpus")
    _check_embeddings(q, c)
    if k < 1:
        raise ValueError(f"k: found {k}, expected at least 1")
    scores, indices = torch.ops.pyhbt.search(q.detach(), c.detach(), k)
    if isinstance(queries, np.ndarray) and isinstance(corpus, np.ndarray):
        return scores.numpy(), indices.numpy()
    return scores, indices


@overload
def ranks(
    queries: npt.NDArray[np.float32], corpus: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]: ...
@overload
def ranks(queries: torch.Tensor, corpus: Array, targets: Array) -> torch.Tensor: ...
@overload
def ranks(queries: npt.NDArray[np.float32], corpus: torch.Tensor, targets: Array) -> torch.Tensor: ...
@overload
def ranks(
    queries: npt.NDArray[np.float32], corpus: npt.NDArray[np.float32], targets: torch.Tensor
) -> torch.Tensor: ...
def ranks(queries: Array, corpus: Array, targets: Array) -> torch.Tensor | npt.NDArray[np.int64]:
    """The 1-based rank of each target passage in the full exact order of the corpus for its query.

    :param queries: (nq, dim) float32 on the CPU, finite.
    :param corpus: (n, dim) float32 on the CPU, finite.
    :param targets: (nq,) or (nq, t) int64, passages of the corpus; -1: absent.
    :returns: int64 of the targets' shape; 0 where the target is -1. A tensor, or an array where all inputs are.
    :raises ValueError: a shape, target, device or a non-finite value (named with its row).
    :raises TypeError: a dtype other than float32, or int64 for targets.

    One pass over the corpus serves all targets of a query: 2 nq n dim flops, and O(nq n t) comparisons.
    """
    q, c = checks.as_tensor(queries, "queries"), checks.as_tensor(corpus, "corpus")
    wanted = checks.as_tensor(targets, "targets")
    _check_embeddings(q, c)
    _check_targets(wanted, q, c)
    result: torch.Tensor = torch.ops.pyhbt.ranks(q.detach(), c.detach(), wanted)
    if all(isinstance(value, np.ndarray) for value in (queries, corpus, targets)):
        return result.numpy()
    return result
