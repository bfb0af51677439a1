"""In-batch contrastive loss: the public function and its boundary checks.

Loss (InfoNCE): van den Oord et al., arXiv:1807.03748, eq. 4; the operator is in ``_contrastive_op.py``.
"""

from __future__ import annotations

import math
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from pyhbt.arguments import check_choice, check_type, real_number
from pyhbt.ops import checks
from pyhbt.ops._contrastive_op import Options, has_tangent, loss
from pyhbt.ops.checks import Array
from pyhbt.ops.dtypes import DTYPES

# Tensors give a tensor, NumPy arrays give an array.
_Embeddings = TypeVar("_Embeddings", torch.Tensor, npt.NDArray[np.float32])

_REDUCTIONS = ("mean", "sum", "none")
_SIMILARITIES = ("dot", "cosine")
_DTYPES = (*DTYPES, torch.float64)


def contrastive_loss(
    queries: _Embeddings,
    passages: _Embeddings,
    positives: Array | None = None,
    *,
    temperature: float | torch.Tensor = 0.05,
    similarity: str = "dot",
    symmetric: bool = False,
    query_groups: Array | None = None,
    passage_groups: Array | None = None,
    margin: float | None = None,
    weights: Array | None = None,
    reduction: str = "mean",
) -> _Embeddings:
    """Softmax cross-entropy of each query against all passages of the batch, without storing their scores.

    With scores ``s_ij = q_i . p_j / temperature``, the loss of row i is ``logsumexp_{j in A(i)} s_ij - s_i,pos(i)``.
    A(i) is the positive and every other passage, except false negatives. They are named by group ids, such as one id
    for all translations of a passage (left out: passages of the query's group), or found by their score (left out:
    passages more similar to the query than its positive by over ``margin``, as in GISTEmbed, arXiv:2402.16829).
    With ``symmetric`` the loss is the mean of that and the same over the queries for the passage ``pos(i)``, among
    the queries that have a positive; a pair that was left out is left out in this direction too.

    On the CPU float32, float16 and bfloat16 take the native kernel: 2 n m dim flops, and as many for each of queries
    and passages that needs a gradient (2 more where symmetric and beyond 256 MiB of scores); memory O((n + m) dim)
    and a panel of 264 rows of scores; symmetric, scores of up to 256 MiB are kept. On a CUDA device they take our
    kernels around torch's products, with panels of 256 MiB, or up to 1 GiB where the device has 32 times that. A call
    waits there only to look at given positives and at a temperature that lies on the device; while a CUDA graph is
    captured it does not, and bad ones give NaN. Other devices and float64 take the same algorithm in torch.
    Everything accumulates in float32 or wider, under autocast too; on a CUDA device half-precision embeddings have
    gradients of scores rounded to their dtype. Peaked rows keep their accuracy, since the positive is kept out of the
    sum of exponentials. NaN and infinities spread as in torch's cross-entropy. Results do not depend on the number of
    threads. Under ``create_graph`` the gradient comes from torch code that stores the scores, as do forward-mode
    derivatives and ``torch.func``.

    Args:
        queries: (n, dim) float32, float16, bfloat16 or float64.
        passages: (m, dim), on the device of ``queries``; rows beyond the positives are hard negatives.
        positives: (n,) int64 index of each query's passage, -1 where the row has none and takes no part; default 0, 1,
            ..., n - 1. Several queries may share a positive.
        temperature: above 0; a tensor of one element gets its gradient.
        similarity: ``"dot"``, or ``"cosine"``: rows are divided by ``max(norm, 1e-12)``, and the gradient goes through
            that.
        query_groups: (n,) int64, with ``passage_groups``; a negative id belongs to no group.
        passage_groups: (m,) int64.
        margin: in units of the similarity; may be negative. Whether a pair lies beyond it is decided with the rounding
            of a float32 score.
        weights: (n,) weights of the rows; a mean divides by the sum of those with a positive.
        reduction: ``"mean"`` over the rows with a positive (0.0 where there is none), ``"sum"`` or ``"none"``.

    Returns:
        a scalar, or (n,) for ``"none"``; float32 (float64 where an input is). NumPy in, NumPy float32 out (without
        gradient).

    Raises:
        ValueError: a shape, index, device, temperature, margin, similarity or reduction is out of range.
        TypeError: a dtype is wrong.
        RuntimeError: of autograd, in the backward pass: a tensor was changed in place after the forward pass.
    """
    q, p = checks.as_tensor(queries, "queries"), checks.as_tensor(passages, "passages")
    for name, tensor in (("queries", q), ("passages", p)):
        checks.check_matrix(tensor, name)
        if tensor.dtype not in _DTYPES:
            raise TypeError(f"{name}: found dtype {tensor.dtype}, expected one of {_names(_DTYPES)}")
    checks.check_same_dim(p, "passages", q, "queries")
    if (q is queries) != (p is passages):  # autograd cannot see an array change in place
        q, p = (q, p.clone()) if q is queries else (q.clone(), p)
    _check_device(p, "passages", q)
    check_choice("reduction", reduction, _REDUCTIONS)
    check_choice("similarity", similarity, _SIMILARITIES)
    check_type("symmetric", symmetric, bool)
    if margin is not None and not math.isfinite(real_number("margin", margin)):
        raise ValueError(f"margin: found {margin}, expected a finite number or None")
    targets = _positives(positives, q, p)
    query_ids, passage_ids = _groups(query_groups, passage_groups, q, p)
    row_weights, factors = _row_weights(weights, targets, q, reduction)
    options = Options(
        targets,
        math.inf if margin is None else float(margin),
        similarity == "cosine",
        symmetric,
        query_ids,
        passage_ids,
    )
    result = loss(q, p, _temperature(temperature), row_weights, options, by_row=reduction == "none")
    if factors is not None:
        result = result * factors
    if isinstance(queries, np.ndarray) and isinstance(passages, np.ndarray):
        return cast("_Embeddings", result.detach().float().numpy())
    return result


def _temperature(value: float | torch.Tensor) -> torch.Tensor:
    """As a tensor; the value of a given tensor is checked by the operator, which reads it anyway."""
    if not isinstance(value, torch.Tensor):
        checks.check_finite_positive(real_number("temperature", value), "temperature")
        return torch.tensor(value, dtype=torch.float64)  # on the CPU: to send it to a device would be to wait
    if checks.as_tensor(value, "temperature").numel() != 1 or not value.is_floating_point():
        found = f"{tuple(value.shape)} of {value.dtype}"
        raise ValueError(f"temperature: found a tensor {found}, expected one floating-point number")
    return value.reshape(())


def _positives(positives: Array | None, queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor | None:
    num_queries, num_passages = queries.shape[0], passages.shape[0]
    if positives is not None:
        return _integers(positives, "positives", num_queries, "query", queries)
    if num_passages < num_queries:
        raise ValueError(
            f"passages: found {num_passages} rows, expected at least {num_queries} (one for each query) "
            "where positives are not given"
        )
    return None


def _groups(
    query_groups: Array | None, passage_groups: Array | None, queries: torch.Tensor, passages: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if query_groups is None and passage_groups is None:
        return None, None
    if query_groups is None or passage_groups is None:
        missing = "query_groups" if query_groups is None else "passage_groups"
        raise ValueError(f"{missing}: found None, expected group ids, since the other side has them")
    return (
        _integers(query_groups, "query_groups", queries.shape[0], "query", queries),
        _integers(passage_groups, "passage_groups", passages.shape[0], "passage", queries),
    )


def _integers(value: Array, name: str, rows: int, what: str, queries: torch.Tensor) -> torch.Tensor:
    tensor = checks.as_tensor(value, name)
    checks.check_integers(tensor, name)
    checks.check_length(tensor, name, rows, what)
    _check_device(tensor, name, queries)
    return tensor if tensor is value else tensor.clone()  # autograd cannot see an array change in place


def _row_weights(
    weights: Array | None, positives: torch.Tensor | None, queries: torch.Tensor, reduction: str
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Each row's weight in the reduced loss; and factors of the rows themselves, where they are not reduced.

    ``positives`` is None where every row has one.
    """
    rows = queries.shape[0]
    dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
    if weights is None and positives is None:
        weight = 1.0 / max(1, rows) if reduction == "mean" else 1.0
        return queries.new_full((rows,), weight, dtype=dtype), None
    present = torch.ones(rows, device=queries.device) if positives is None else positives >= 0
    present = present.to(dtype)
    given = present
    if weights is not None:
        tensor = checks.as_tensor(weights, "weights")
        if not tensor.is_floating_point():
            raise TypeError(f"weights: found dtype {tensor.dtype}, expected a floating-point dtype")
        if tensor.requires_grad or has_tangent(tensor):
            raise ValueError("weights: found a tensor that requires a gradient, expected constant weights")
        checks.check_length(tensor, "weights", rows, "query")
        _check_device(tensor, "weights", queries)
        given = torch.where(present > 0, tensor.to(dtype), 0.0)
    if reduction == "none":
        return present, None if weights is None else given
    if reduction == "sum":
        return given, None
    total = given.sum()
    if weights is None:
        return given / total.clamp(min=1.0), None
    return given / torch.where(total == 0, 1.0, total), None


def _check_device(tensor: torch.Tensor, name: str, queries: torch.Tensor) -> None:
    if tensor.device != queries.device:
        raise ValueError(
            f"{name}: found device {tensor.device}, expected {queries.device} (the device of queries)"
        )


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
