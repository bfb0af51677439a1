"""Exact top-k search and exact ranks: boundary checks and torch operators.

The score of a pair is its float64 dot product in one fixed summation order (cosine: divided by the norms), and the
order of passages is higher score first, then lower index. Nothing else decides: results are equal for every thread
count and instruction set.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import torch

from pyhbt.arguments import whole_number
from pyhbt.ops import checks
from pyhbt.ops._native import core, threads
from pyhbt.ops.checks import Array
from pyhbt.ops.codes import Codes, encoded, matrix
from pyhbt.ops.cuda import search as cuda
from pyhbt.ops.cuda.kernels import kernels
from pyhbt.ops.filters import CheckedFilter, SearchFilter, check_filter
from pyhbt.ops.search_checks import (
    Screening,
    Similarity,
    check_embeddings,
    check_k,
    check_options,
    check_targets,
)

if TYPE_CHECKING:
    from pyhbt import _core

Found: TypeAlias = tuple[torch.Tensor, torch.Tensor]

torch.library.define(
    "pyhbt::search",
    "(Tensor queries, Tensor corpus, int k, bool cosine=False) -> (Tensor scores, Tensor indices)",
)
torch.library.define(
    "pyhbt::ranks", "(Tensor queries, Tensor corpus, Tensor targets, bool cosine=False) -> Tensor"
)


def encoding_pays(num_queries: int, num_passages: int) -> bool:
    """Whether a search that happens once is faster with int8 codes, their making included.

    Measured: docs/how-it-works/performance.md.
    """
    return num_queries >= 64 and num_passages >= 1024


def native_search(
    queries: torch.Tensor,
    corpus: torch.Tensor,
    codes: Codes | None,
    k: int,
    *,
    cosine: bool,
    filter: SearchFilter | CheckedFilter | None = None,
    screening: Screening = "auto",
    exact_scores: torch.Tensor | None = None,
) -> Found:
    """Search past the border: checked tensors in, scores (nq, k) and positions (nq, k) out.

    ``exact_scores`` (nq, k) float64, if given, gets the numbers that decided the order.
    """
    queries, corpus = with_dense_rows(queries), with_dense_rows(corpus)
    num_queries, num_passages = queries.shape[0], corpus.shape[0]
    checked = check_filter(filter, num_queries, num_passages)
    scores = torch.empty(num_queries, k)
    indices = torch.empty(num_queries, k, dtype=torch.int64)
    core.search(
        native_arguments(queries, corpus, codes, checked, cosine=cosine, screening=screening),
        k=k,
        scores=scores.data_ptr(),
        indices=indices.data_ptr(),
        exact_scores=0 if exact_scores is None else exact_scores.data_ptr(),
    )
    return scores, indices


def native_neighbours(corpus: torch.Tensor, codes: Codes, k: int, *, cosine: bool) -> Found:
    """The nearest neighbours of each passage among the others, past the border: (n, k) each, padded with -inf, -1."""
    corpus = with_dense_rows(corpus)
    scores, indices = torch.empty(len(corpus), k), torch.empty(len(corpus), k, dtype=torch.int64)
    core.neighbours(
        native_arguments(corpus, corpus, codes, None, cosine=cosine, screening="auto"),
        k=k,
        scores=scores.data_ptr(),
        indices=indices.data_ptr(),
    )
    return scores, indices


def native_ranks(
    queries: torch.Tensor,
    corpus: torch.Tensor,
    codes: Codes | None,
    targets: torch.Tensor,
    *,
    cosine: bool,
    filter: SearchFilter | CheckedFilter | None = None,
    screening: Screening = "auto",
    groups: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Ranks past the border.

    ``groups``, without a filter: the ends of the corpus's groups (g,), and a tensor like ``targets`` that gets the
    ranks within them; both int64 and contiguous.
    """
    queries, corpus, targets = with_dense_rows(queries), with_dense_rows(corpus), targets.contiguous()
    checked = check_filter(filter, queries.shape[0], corpus.shape[0])
    result = torch.empty_like(targets)
    core.ranks(
        native_arguments(queries, corpus, codes, checked, cosine=cosine, screening=screening),
        targets=targets.data_ptr(),
        targets_per_query=1 if targets.ndim == 1 else targets.shape[1],
        ranks=result.data_ptr(),
        group_ends=0 if groups is None else groups[0].data_ptr(),
        num_groups=0 if groups is None else len(groups[0]),
        within=0 if groups is None else groups[1].data_ptr(),
    )
    return result


def native_arguments(
    queries: torch.Tensor,
    corpus: torch.Tensor,
    codes: Codes | None,
    filter: CheckedFilter | None,
    *,
    cosine: bool,
    screening: Screening,
) -> _core.SearchArguments:
    """What search and ranks have in common, as the native module takes it; valid while its parts live."""
    return {
        "queries": matrix(queries),
        "corpus": matrix(corpus),
        "codes": None if codes is None else codes.native(),
        "cosine": cosine,
        "filter": None if filter is None else filter.native(),
        "screening": screening,
        "threads": threads(),
    }


def with_dense_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The matrix itself where the numbers of a row are side by side, else a copy."""
    return tensor if tensor.stride(1) == 1 or tensor.shape[1] == 1 else tensor.contiguous()


def codes_for(
    queries: torch.Tensor,
    corpus: torch.Tensor,
    cosine: bool,
    screening: Screening = "auto",
    filter: CheckedFilter | None = None,
) -> AbstractContextManager[Codes | None]:
    """Codes of the corpus where a search that happens once is faster with them, or where they are wanted; else None."""
    num_queries = len(queries)
    if filter is not None and len(corpus):
        num_queries = filter.pairs() // len(corpus)  # of as many queries as find everything
    wanted = screening == "int8" or (screening == "auto" and encoding_pays(num_queries, len(corpus)))
    return encoded(with_dense_rows(corpus), cosine=cosine) if wanted else nullcontext()


@torch.library.impl("pyhbt::search", "cpu")
def _search_cpu(queries: torch.Tensor, corpus: torch.Tensor, k: int, cosine: bool = False) -> Found:
    check_embeddings(queries, corpus)
    whole_number("k", k, 1)
    with codes_for(queries, corpus, cosine) as codes:
        return native_search(queries, corpus, codes, k, cosine=cosine)


@torch.library.impl("pyhbt::search", "cuda")
def _search_cuda(queries: torch.Tensor, corpus: torch.Tensor, k: int, cosine: bool = False) -> Found:
    check_embeddings(queries, corpus)
    whole_number("k", k, 1)
    return cuda_search(queries, corpus, k, cosine=cosine)


def cuda_search(
    queries: torch.Tensor,
    corpus: torch.Tensor,
    k: int,
    *,
    cosine: bool,
    filter: SearchFilter | None = None,
) -> Found:
    """Search on CUDA tensors past the border; on the CPU, whose results are the same, where there are no kernels."""
    native = kernels(queries.device)
    if native is None:
        q, c = queries.cpu(), corpus.cpu()
        accepted = check_filter(at_cpu(filter, queries.device), len(q), len(c))
        with codes_for(q, c, cosine, filter=accepted) as codes:
            scores, indices = native_search(q, c, codes, k, cosine=cosine, filter=accepted)
        return scores.to(queries.device), indices.to(queries.device)
    passages = cuda.Corpus.of(native, with_dense_rows(corpus), cosine=cosine)
    return cuda.search(native, with_dense_rows(queries), passages, k, filter=filter)


def cuda_ranks(
    queries: torch.Tensor,
    corpus: torch.Tensor,
    targets: torch.Tensor,
    *,
    cosine: bool,
    filter: SearchFilter | None = None,
) -> torch.Tensor:
    """Ranks on CUDA tensors, likewise."""
    native = kernels(queries.device)
    if native is None:
        q, c = queries.cpu(), corpus.cpu()
        accepted = check_filter(at_cpu(filter, queries.device), len(q), len(c))
        with codes_for(q, c, cosine, filter=accepted) as codes:
            found = native_ranks(q, c, codes, targets.cpu(), cosine=cosine, filter=accepted)
        return found.to(targets.device)
    passages = cuda.Corpus.of(native, with_dense_rows(corpus), cosine=cosine)
    return cuda.ranks(native, with_dense_rows(queries), passages, targets, filter=filter)


def at_cpu(filter: SearchFilter | None, device: torch.device) -> SearchFilter | None:
    """A filter of tensors of a device, for the CPU to search by."""
    return filter if filter is None or device.type == "cpu" else filter.to(torch.device("cpu"))


@torch.library.register_fake("pyhbt::search")  # type: ignore[untyped-decorator]
def _search_fake(queries: torch.Tensor, corpus: torch.Tensor, k: int, cosine: bool = False) -> Found:
    shape = (queries.shape[0], k)
    return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(shape, dtype=torch.int64)


@torch.library.impl("pyhbt::ranks", "cpu")
def _ranks_cpu(
    queries: torch.Tensor, corpus: torch.Tensor, targets: torch.Tensor, cosine: bool = False
) -> torch.Tensor:
    check_embeddings(queries, corpus)
    check_targets(targets, queries)
    with codes_for(queries, corpus, cosine) as codes:
        return native_ranks(queries, corpus, codes, targets, cosine=cosine)


@torch.library.impl("pyhbt::ranks", "cuda")
def _ranks_cuda(
    queries: torch.Tensor, corpus: torch.Tensor, targets: torch.Tensor, cosine: bool = False
) -> torch.Tensor:
    check_embeddings(queries, corpus)
    check_targets(targets, queries)
    return cuda_ranks(queries, corpus, targets, cosine=cosine)


@torch.library.register_fake("pyhbt::ranks")  # type: ignore[untyped-decorator]
def _ranks_fake(
    queries: torch.Tensor, corpus: torch.Tensor, targets: torch.Tensor, cosine: bool = False
) -> torch.Tensor:
    return torch.empty_like(targets, memory_format=torch.contiguous_format)


@overload
def search(
    queries: npt.NDArray[np.float32],
    corpus: npt.NDArray[np.float32],
    k: int,
    *,
    similarity: Similarity = ...,
    filter: SearchFilter | None = ...,
    screening: Screening = ...,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
@overload
def search(
    queries: torch.Tensor,
    corpus: Array,
    k: int,
    *,
    similarity: Similarity = ...,
    filter: SearchFilter | None = ...,
    screening: Screening = ...,
) -> Found: ...
@overload
def search(
    queries: npt.NDArray[np.float32],
    corpus: torch.Tensor,
    k: int,
    *,
    similarity: Similarity = ...,
    filter: SearchFilter | None = ...,
    screening: Screening = ...,
) -> Found: ...
def search(
    queries: Array,
    corpus: Array,
    k: int,
    *,
    similarity: Similarity = "dot",
    filter: SearchFilter | None = None,
    screening: Screening = "auto",
) -> Found | tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The k passages of the corpus with the highest score for each query, exactly.

    Passages are screened by products of int8 codes, or of float32 where making codes does not pay, with a proved
    error bound (docs/how-it-works/numerics.md), and the survivors scored in float64: 2 nq n dim operations, and
    memory O(n + nq k), with codes n dim bytes more. On a GPU products of float16 screen: 2 n dim bytes more, and the
    same results.

    Args:
        queries: (nq, dim) float32, float16, bfloat16, int8 or float8, finite, on the CPU or a CUDA device.
        corpus: (n, dim) likewise, on the same device; for one that is searched again and again see
            :class:`pyhbt.ExactIndex`.
        k: at least 1; more than n is n. Where a filter leaves fewer, rows end in score -inf and index -1.
        similarity: "dot", or "cosine" (0 for a row of zeros).
        filter: which passages each query may find.
        screening: "auto", or on the CPU "int8" or "float32" by force; speed only, for measurements.

    Returns:
        scores (nq, min(k, n)) float32 and indices likewise int64, higher score first, then lower index: the float64
        scores decide, and are rounded to float32 at the end. Tensors, or arrays where both inputs are arrays.

    Raises:
        ValueError: a shape, k, device or a non-finite value (named with its row).
        TypeError: another dtype, or a k that is no whole number.
    """
    q, c = checks.as_tensor(queries, "queries"), checks.as_tensor(corpus, "corpus")
    check_embeddings(q, c)
    k = check_k(k, len(c))
    check_options(similarity, screening, q.device.type, filter)
    q, c, cosine = q.detach(), c.detach(), similarity == "cosine"
    if filter is None and screening == "auto":
        scores, indices = torch.ops.pyhbt.search(q, c, k, cosine)
    elif q.is_cuda:
        scores, indices = cuda_search(q, c, k, cosine=cosine, filter=filter)
    else:
        accepted = check_filter(filter, len(q), len(c))
        with codes_for(q, c, cosine, screening, accepted) as codes:
            scores, indices = native_search(
                q, c, codes, k, cosine=cosine, filter=accepted, screening=screening
            )
    if isinstance(queries, np.ndarray) and isinstance(corpus, np.ndarray):
        return scores.numpy(), indices.numpy()
    return scores, indices


@overload
def ranks(
    queries: npt.NDArray[np.float32],
    corpus: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    *,
    similarity: Similarity = ...,
    filter: SearchFilter | None = ...,
    screening: Screening = ...,
) -> npt.NDArray[np.int64]: ...
@overload
def ranks(
    queries: Array,
    corpus: Array,
    targets: Array,
    *,
    similarity: Similarity = ...,
    filter: SearchFilter | None = ...,
    screening: Screening = ...,
) -> torch.Tensor: ...
def ranks(
    queries: Array,
    corpus: Array,
    targets: Array,
    *,
    similarity: Similarity = "dot",
    filter: SearchFilter | None = None,
    screening: Screening = "auto",
) -> torch.Tensor | npt.NDArray[np.int64]:
    """The 1-based rank of each target passage in the full exact order of what its query may find.

    One pass over the corpus serves all targets of a query: 2 nq n dim operations, and up to O(nq n t) comparisons.

    Args:
        queries: (nq, dim) float32, float16, bfloat16, int8 or float8, finite, on the CPU or a CUDA device.
        corpus: (n, dim) likewise, on the same device.
        targets: (nq,) or (nq, t) int64, passages of the corpus; -1: absent.
        similarity: "dot" or "cosine".
        filter: which passages count; a target outside gets the rank that it would have.
        screening: as for :func:`search`.

    Returns:
        int64 of the targets' shape; 0 where the target is -1. A tensor, or an array where all inputs are.

    Raises:
        ValueError: a shape, target, device or a non-finite value (named with its row).
        TypeError: another dtype, or other than int64 for targets.
    """
    q, c = checks.as_tensor(queries, "queries"), checks.as_tensor(corpus, "corpus")
    wanted = checks.as_tensor(targets, "targets")
    check_embeddings(q, c)
    check_targets(wanted, q)
    check_options(similarity, screening, q.device.type, filter)
    q, c, cosine = q.detach(), c.detach(), similarity == "cosine"
    if filter is None and screening == "auto":
        result: torch.Tensor = torch.ops.pyhbt.ranks(q, c, wanted, cosine)
    elif q.is_cuda:
        result = cuda_ranks(q, c, wanted, cosine=cosine, filter=filter)
    else:
        accepted = check_filter(filter, len(q), len(c))
        with codes_for(q, c, cosine, screening, accepted) as codes:
            result = native_ranks(q, c, codes, wanted, cosine=cosine, filter=accepted, screening=screening)
    if all(isinstance(value, np.ndarray) for value in (queries, corpus, targets)):
        return result.numpy()
    return result
