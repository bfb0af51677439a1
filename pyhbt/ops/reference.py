"""Slow twins of the operations, which read as their formulas; tests and benches hold the kernels against them.

``contrastive_loss`` is differentiable torch, any number of times, and stores the whole score matrix. ``search`` and
``ranks`` score every pair in float64 with the summation order that defines *the* score
(docs/how-it-works/numerics.md): O(nq n d) time and memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_LANES = 8


def contrastive_loss(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor | None = None,
    *,
    temperature: float | torch.Tensor = 0.05,
    similarity: str = "dot",
    symmetric: bool = False,
    query_groups: torch.Tensor | None = None,
    passage_groups: torch.Tensor | None = None,
    margin: float | None = None,
    weights: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """The loss of :func:`pyhbt.ops.contrastive_loss`, from the full (n, m) score matrix, in at least float32."""
    dtype = torch.float64 if torch.float64 in (queries.dtype, passages.dtype) else torch.float32
    queries, passages = queries.to(dtype), passages.to(dtype)
    if positives is None:
        positives = torch.arange(queries.shape[0], device=queries.device)
    present = positives >= 0
    columns = positives.clamp(min=0)
    if passages.shape[0] == 0:
        return _reduce(queries.sum(dim=1) * 0, present, weights, reduction)
    if similarity == "cosine":
        queries, passages = (torch.nn.functional.normalize(x, dim=1) for x in (queries, passages))
    with torch.autocast(queries.device.type, enabled=False):
        similarities = queries @ passages.T
    scores = similarities / temperature
    own = columns[:, None] == torch.arange(passages.shape[0], device=columns.device)
    left_out = torch.zeros_like(own)
    if query_groups is not None and passage_groups is not None:
        left_out = (query_groups[:, None] == passage_groups) & (passage_groups >= 0)
    if margin is not None:
        too_similar = similarities > similarities.gather(1, columns[:, None]) + margin
        left_out = left_out | (too_similar & ~own & present[:, None])
    positive = scores.gather(1, columns[:, None])
    rows = _log1p_sum_exp(scores - positive, ~own & ~left_out)
    if symmetric:
        # Column i: the scores of every query with the positive of row i.
        negatives = present[:, None] & ~left_out[:, columns]
        negatives = negatives & ~torch.eye(len(columns), dtype=torch.bool, device=negatives.device)
        rows = (rows + _log1p_sum_exp((scores[:, columns] - positive.T).T, negatives.T)) / 2
    return _reduce(torch.where(present, rows, 0.0), present, weights, reduction)


def _log1p_sum_exp(differences: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """log(1 + sum of exp(difference) over the negatives), by row; the 1 is the positive itself."""
    none = ~negatives.any(dim=1)  # kept finite: forward-mode derivatives of an empty sum are NaN
    others = torch.logsumexp(differences.masked_fill(~negatives & ~none[:, None], -torch.inf), dim=1)
    return torch.where(none, 0.0, torch.logaddexp(others, torch.zeros_like(others)))


def _reduce(
    rows: torch.Tensor, present: torch.Tensor, weights: torch.Tensor | None, reduction: str
) -> torch.Tensor:
    given = present.to(rows.dtype) if weights is None else torch.where(present, weights.to(rows.dtype), 0.0)
    if weights is not None:
        rows = rows * given
    if reduction == "none":
        return rows
    total = given.sum()
    return rows.sum() if reduction == "sum" else rows.sum() / torch.where(total == 0, 1.0, total)


def exact_scores(
    queries: npt.NDArray[Any], corpus: npt.NDArray[Any], *, similarity: str = "dot"
) -> npt.NDArray[np.float64]:
    """(nq, n) scores: lane l sums the products l, l + 8, l + 16, ...; then ((0+1)+(2+3)) + ((4+5)+(6+7)).

    Cosine: divided by the norm of the passage, a sum in the same order; 0 where that is 0. The norm of the query does
    not change the order, and comes last (:func:`search`).
    """
    dots = _in_order(queries.astype(np.float64)[:, None], corpus.astype(np.float64)[None])
    return _quotients(dots, exact_norms(corpus)) if similarity == "cosine" else dots


def exact_norms(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(n,) norms, each the root of the row's dot product with itself in the order of scores."""
    wide = rows.astype(np.float64)
    norms: npt.NDArray[np.float64] = np.sqrt(_in_order(wide, wide))
    return norms


def _in_order(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums of products along the last axis."""
    dim = left.shape[-1]
    lanes = np.zeros((*np.broadcast_shapes(left.shape[:-1], right.shape[:-1]), _LANES))
    for start in range(0, dim, _LANES):
        here = min(_LANES, dim - start)
        lanes[..., :here] += left[..., start : start + here] * right[..., start : start + here]
    pairs = lanes[..., 0::2] + lanes[..., 1::2]
    fours = pairs[..., 0::2] + pairs[..., 1::2]
    total: npt.NDArray[np.float64] = fours[..., 0] + fours[..., 1]
    return total


def _quotients(values: npt.NDArray[np.float64], norms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.divide(values, norms, out=np.zeros_like(values), where=np.broadcast_to(norms > 0, values.shape))


def search(
    queries: npt.NDArray[Any],
    corpus: npt.NDArray[Any],
    k: int,
    *,
    similarity: str = "dot",
    accepts: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The k best of the passages that ``accepts`` (nq, n) lets each query find: higher score first, then lower index.

    k is at most n; padded with (-inf, -1). Cosine: divided by the norm of the query at the very end.
    """
    k = min(k, max(1, len(corpus)))
    exact = exact_scores(queries, corpus, similarity=similarity)
    if accepts is not None:
        exact = np.where(accepts, exact, -np.inf)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(exact, order, axis=1)
    found = best > -np.inf
    if similarity == "cosine":
        best = _quotients(best, exact_norms(queries)[:, None])
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    with np.errstate(over="ignore", under="ignore"):
        scores[:, : order.shape[1]] = np.where(found, best, -np.inf)
    indices[:, : order.shape[1]] = np.where(found, order, -1)
    return scores, indices


def search_range(
    queries: npt.NDArray[Any],
    corpus: npt.NDArray[Any],
    threshold: npt.NDArray[np.float64],
    *,
    similarity: str = "dot",
    accepts: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The accepted passages with at least the threshold (nq,) of each query, as CSR: offsets, scores, indices."""
    exact = exact_scores(queries, corpus, similarity=similarity)
    order = np.argsort(-exact, axis=1, kind="stable")
    returned = _quotients(exact, exact_norms(queries)[:, None]) if similarity == "cosine" else exact
    wanted = returned >= threshold[:, None]
    if accepts is not None:
        wanted &= accepts
    rows = [row[wanted[query, row]] for query, row in enumerate(order)]
    scores = [returned[query, row] for query, row in enumerate(rows)]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    with np.errstate(over="ignore", under="ignore"):
        flat = np.concatenate([*scores, np.empty(0)]).astype(np.float32)
    return offsets, flat, np.concatenate([*rows, np.empty(0, dtype=np.int64)])


def ranks(
    queries: npt.NDArray[Any],
    corpus: npt.NDArray[Any],
    targets: npt.NDArray[np.int64],
    *,
    similarity: str = "dot",
    accepts: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """1 + the number of accepted passages that come before each target; 0 where the target is -1."""
    exact = exact_scores(queries, corpus, similarity=similarity)
    counted = np.ones(exact.shape, dtype=np.bool_) if accepts is None else accepts
    columns = targets[:, None] if targets.ndim == 1 else targets
    result = np.zeros_like(columns)
    for row, column in zip(*np.nonzero(columns >= 0), strict=True):
        target = columns[row, column]
        ahead = exact[row] > exact[row, target]
        ahead[:target] |= exact[row, :target] == exact[row, target]
        result[row, column] = 1 + int((ahead & counted[row]).sum())
    return result.reshape(targets.shape)
