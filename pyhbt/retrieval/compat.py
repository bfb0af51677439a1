"""Exact search under the names and signatures of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pyhbt.ops import search
from pyhbt.ops.checks import Array, as_tensor
from pyhbt.ops.search_checks import Similarity, check_k

_COSINE, _DOT = ("cos_sim", "pytorch_cos_sim", "pairwise_cos_sim"), ("dot_score", "pairwise_dot_score")


def semantic_search(
    query_embeddings: Array | Sequence[Array],
    corpus_embeddings: Array | Sequence[Array],
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: Callable[..., Any] | str = "cosine",
) -> list[list[dict[str, int | float]]]:
    """``sentence_transformers.util.semantic_search``, exact and with ties by lower index.

    Args:
        query_embeddings: (nq, dim) or (dim,) tensor, array or list of vectors.
        corpus_embeddings: (n, dim), likewise.
        query_chunk_size: taken for the signature's sake; nothing is computed in chunks.
        corpus_chunk_size: likewise.
        top_k: results a query, fewer where the corpus is smaller.
        score_function: "cosine", "dot", or sentence-transformers' ``cos_sim`` or ``dot_score``.

    Returns:
        For each query a list of {"corpus_id", "score"} by falling score.

    Raises:
        ValueError: another score function, or what :func:`pyhbt.search` refuses.
    """
    similarity = _similarity(score_function)
    queries, corpus = (
        _matrix(query_embeddings, "query_embeddings"),
        _matrix(corpus_embeddings, "corpus_embeddings"),
    )
    k = check_k(top_k, len(corpus), "top_k")
    if len(queries) == 0 or len(corpus) == 0:
        return [[] for _ in range(len(queries))]
    scores, indices = search(queries, corpus, k, similarity=similarity)
    return [
        [{"corpus_id": place, "score": score} for place, score in zip(*row, strict=True) if place >= 0]
        for row in zip(indices.tolist(), scores.tolist(), strict=True)
    ]


def knn(queries: Array, corpus: Array, k: int) -> tuple[Any, Any]:
    """``faiss.knn`` for the inner product: (scores, indices), in the order of its results ``D, I``.

    ``faiss.knn(xq, xb, k, metric)`` takes queries first, then the corpus, then k; so does this. Its default metric is
    the squared Euclidean distance, this one's the inner product (``faiss.METRIC_INNER_PRODUCT``).
    """
    return search(queries, corpus, k)


def _similarity(score_function: Callable[..., Any] | str) -> Similarity:
    name = score_function if isinstance(score_function, str) else getattr(score_function, "__name__", "")
    if name == "cosine" or name in _COSINE:
        return "cosine"
    if name == "dot" or name in _DOT:
        return "dot"
    raise ValueError(f"score_function: found {score_function!r}, expected cosine, dot, cos_sim or dot_score")


def _matrix(value: Array | Sequence[Array], name: str) -> torch.Tensor:
    if isinstance(value, Sequence):
        try:
            rows = [
                as_tensor(row, name) if isinstance(row, np.ndarray) else torch.as_tensor(row) for row in value
            ]
            value = torch.stack(rows) if rows else torch.empty(0, 1)
        except (TypeError, ValueError, RuntimeError):
            found = type(value).__name__
            raise TypeError(
                f"{name}: found {found}, expected vectors of numbers, all of one length"
            ) from None
    if isinstance(value, torch.Tensor) and value.layout != torch.strided:
        value = value.to_dense()
    tensor = as_tensor(value, name).detach().cpu()
    tensor = tensor.unsqueeze(0) if tensor.ndim == 1 else tensor
    return tensor.float() if tensor.dtype == torch.float64 else tensor
