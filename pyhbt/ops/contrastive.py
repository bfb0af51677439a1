"""In-batch contrastive loss: boundary checks, the torch operator, and its gradient.

Loss (InfoNCE): van den Oord et al., arXiv:1807.03748, eq. 4. The kernel computes loss and gradients in one pass, so
for a mean or a sum the gradient is ready after the forward pass and backward only multiplies by a number.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd.function import once_differentiable

from pyhbt.ops import checks, reference
from pyhbt.ops._native import core, threads
from pyhbt.ops.checks import Array

# Tensors give a tensor, NumPy arrays give an array.
_Embeddings = TypeVar("_Embeddings", torch.Tensor, npt.NDArray[np.float32])

_REDUCTIONS = ("mean", "sum", "none")
_TWIN_DTYPES = (torch.float64, torch.bfloat16, torch.float16)

torch.library.define(
    "pyhbt::contrastive_loss",
    "(Tensor queries, Tensor passages, Tensor positives, Tensor row_weights, float temperature, bool symmetric, "
    "Tensor? query_groups, Tensor? passage_groups, bool with_gradients) "
    "-> (Tensor loss_rows, Tensor grad_queries, Tensor grad_passages)",
)


def _outputs(
    queries: torch.Tensor, passages: torch.Tensor, with_gradients: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    loss_rows = queries.new_empty(queries.shape[0])
    if not with_gradients:
        return loss_rows, queries.new_empty(0), queries.new_empty(0)
    return loss_rows, queries.new_empty(queries.shape), queries.new_empty(passages.shape)


@torch.library.impl("pyhbt::contrastive_loss", "cpu")
def _contrastive_loss_cpu(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    row_weights: torch.Tensor,
    temperature: float,
    symmetric: bool,
    query_groups: torch.Tensor | None,
    passage_groups: torch.Tensor | None,
    with_gradients: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    for name, tensor in (("queries", queries), ("passages", passages), ("row_weights", row_weights)):
        if tensor.dtype != torch.float32:
            raise TypeError(f"{name}: found dtype {tensor.dtype}, expected {torch.float32}")
    checks.check_same_dim(passages, "passages", queries, "queries")
    checks.check_length(positives, "positives", queries.shape[0], "query")
    checks.check_length(row_weights, "row_weights", queries.shape[0], "query")
    queries, passages = queries.contiguous(), passages.contiguous()
    positives, row_weights = positives.contiguous(), row_weights.contiguous()
    groups = [None if group is None else group.contiguous() for group in (query_groups, passage_groups)]
    query_ids, passage_ids = (0 if group is None else group.data_ptr() for group in groups)
    loss_rows, grad_queries, grad_passages = _outputs(queries, passages, with_gradients)
    core.contrastive_loss(
        queries.data_ptr(),
        passages.data_ptr(),
        positives.data_ptr(),
        row_weights.data_ptr(),
        query_ids,
        passage_ids,
        queries.shape[0],
        passages.shape[0],
        queries.shape[1],
        temperature,
        symmetric,
        loss_rows.data_ptr(),
        grad_queries.data_ptr() if with_gradients else 0,
        grad_passages.data_ptr() if with_gradients else 0,
        threads(),
    )
    return loss_rows, grad_queries, grad_passages


@torch.library.register_fake("pyhbt::contrastive_loss")  # type: ignore[untyped-decorator]
def _contrastive_loss_fake(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    row_weights: torch.Tensor,
    temperature: float,
    symmetric: bool,
    query_groups: torch.Tensor | None,
    passage_groups: torch.Tensor | None,
    with_gradients: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _outputs(queries, passages, with_gradients)


class _WeightedLoss(torch.autograd.Function):
    """sum_i row_weights[i] * loss_i, with both gradients computed on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        passages: torch.Tensor,
        positives: torch.Tensor,
        row_weights: torch.Tensor,
        temperature: float,
        symmetric: bool,
        query_groups: torch.Tensor | None,
        passage_groups: torch.Tensor | None,
    ) -> torch.Tensor:
        loss_rows, grad_queries, grad_passages = torch.ops.pyhbt.contrastive_loss(
            queries,
            passages,
            positives,
            row_weights,
            temperature,
            symmetric,
            query_groups,
            passage_groups,
            True,
        )
        ctx.save_for_backward(grad_queries, grad_passages)
        return _weighted_sum(loss_rows, row_weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_queries, grad_passages = ctx.saved_tensors
        return grad_queries * grad_output, grad_passages * grad_output, *(None,) * 6


class _LossRows(torch.autograd.Function):
    """loss_i for every row; the gradient needs the incoming one, so the kernel runs again on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        passages: torch.Tensor,
        positives: torch.Tensor,
        row_weights: torch.Tensor,
        temperature: float,
        symmetric: bool,
        query_groups: torch.Tensor | None,
        passage_groups: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(queries, passages, positives, query_groups, passage_groups)
        ctx.temperature, ctx.symmetric = temperature, symmetric
        loss_rows, _, _ = torch.ops.pyhbt.contrastive_loss(
            queries,
            passages,
            positives,
            row_weights,
            temperature,
            symmetric,
            query_groups,
            passage_groups,
            False,
        )
        return loss_rows  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        queries, passages, positives, query_groups, passage_groups = ctx.saved_tensors
        _, grad_queries, grad_passages = torch.ops.pyhbt.contrastive_loss(
            queries,
            passages,
            positives,
            grad_output.contiguous(),
            ctx.temperature,
            ctx.symmetric,
            query_groups,
            passage_groups,
            True,
        )
        return grad_queries, grad_passages, *(None,) * 6


def _weighted_sum(loss_rows: torch.Tensor, row_weights: torch.Tensor) -> torch.Tensor:
    """In float64, so that the order of summation does not show in the float32 result."""
    return (loss_rows.double() * row_weights.double()).sum().float()


def contrastive_loss(
    queries: _Embeddings,
    passages: _Embeddings,
    positives: Array | None = None,
    *,
    temperature: float = 0.05,
    symmetric: bool = False,
    query_groups: Array | None = None,
    passage_groups: Array | None = None,
    reduction: str = "mean",
) -> _Embeddings:
    """Softmax cross-entropy of each query against all passages of the batch, without storing their scores.

    With scores ``s_ij = q_i . p_j / temperature``, the loss of row i is ``logsumexp_{j in A(i)} s_ij - s_i,pos(i)``.
    A(i) is every passage except those other than the positive that share the query's group: name false negatives,
    such as translations of the positive, by giving them the query's group id. With ``symmetric`` the loss is the
    mean of that and the same over the queries for the passage ``pos(i)``, among the queries that have a positive.

    :param queries: (n, dim) embeddings; dim at least 1.
    :param passages: (m, dim) embeddings.
    :param positives: (n,) int64, the passage of each query; -1: the row has loss 0 and counts for nothing. Default
        ``0 .. n-1``, which needs m >= n. Several queries may share a passage.
    :param temperature: finite, above 0.
    :param symmetric: add the passage-to-query direction.
    :param query_groups: (n,) int64 group ids, given together with ``passage_groups`` (m,); negative: no group.
    :param reduction: ``"mean"`` over the rows with a positive (0.0 where there is none), ``"sum"`` or ``"none"``.
    :returns: a scalar, or (n,) for ``"none"``. NumPy in, NumPy float32 out (without gradient).
    :raises ValueError: a shape, index, temperature or reduction is out of range.
    :raises TypeError: a dtype is wrong.

    float32 tensors on the CPU take the native kernel: 6 n m dim flops with gradients (8 when symmetric and large), and
    O((n + m) dim) memory beside one panel of 264 rows of scores. Peaked rows keep their accuracy, since the positive
    is kept out of the sum of exponentials. Non-finite embeddings give a NaN loss. Tensors on another device and
    float64, bfloat16 and float16 tensors take a plain torch implementation, which does store the (n, m) scores and
    computes in float32 (float64 for float64). Results do not depend on the number of threads.
    """
    q, p = checks.as_tensor(queries, "queries"), checks.as_tensor(passages, "passages")
    checks.check_matrix(q, "queries")
    checks.check_matrix(p, "passages")
    checks.check_same_dim(p, "passages", q, "queries")
    checks.check_finite_positive(temperature, "temperature")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: found {reduction!r}, expected one of {', '.join(_REDUCTIONS)}")
    targets = _positives(positives, q, p)
    groups = _groups(query_groups, passage_groups, q, p)

    twin = q.device.type != "cpu" or q.dtype in _TWIN_DTYPES or p.dtype in _TWIN_DTYPES
    if not twin:
        for name, tensor in (("queries", q), ("passages", p)):
            if tensor.dtype != torch.float32:
                raise TypeError(f"{name}: found dtype {tensor.dtype}, expected {torch.float32}")
    if p.device != q.device:
        raise ValueError(f"passages: found device {p.device}, expected {q.device} (the device of queries)")
    if twin:
        checks.check_indices(
            targets, "positives", p.shape[0], "passages"
        )  # the native kernel checks them itself
        loss = reference.contrastive_loss(
            q,
            p,
            targets,
            temperature=temperature,
            symmetric=symmetric,
            query_groups=groups[0],
            passage_groups=groups[1],
            reduction=reduction,
        )
    else:
        loss = _native_loss(q, p, targets, temperature, symmetric, groups, reduction)
    if isinstance(queries, np.ndarray) and isinstance(passages, np.ndarray):
        return cast("_Embeddings", loss.detach().float().numpy())
    return loss


def _native_loss(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    symmetric: bool,
    groups: tuple[torch.Tensor | None, torch.Tensor | None],
    reduction: str,
) -> torch.Tensor:
    present = (positives >= 0).float()
    row_weights = present / present.sum().clamp(min=1) if reduction == "mean" else present
    arguments = (queries, passages, positives, row_weights, temperature, symmetric, *groups)
    if torch.is_grad_enabled() and (queries.requires_grad or passages.requires_grad):
        function = _LossRows if reduction == "none" else _WeightedLoss
        result: torch.Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
        return result
    loss_rows: torch.Tensor = torch.ops.pyhbt.contrastive_loss(*arguments, False)[0]
    return loss_rows if reduction == "none" else _weighted_sum(loss_rows, row_weights)


def _positives(positives: Array | None, queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    num_queries, num_passages = queries.shape[0], passages.shape[0]
    if positives is None:
        if num_passages < num_queries:
            raise ValueError(
                f"passages: found {num_passages} rows, expected at least {num_queries} (one for each query) "
                "where positives are not given"
            )
        return torch.arange(num_queries, device=queries.device)
    tensor = checks.as_tensor(positives, "positives")
    checks.check_integers(tensor, "positives")
    checks.check_length(tensor, "positives", num_queries, "query")
    return tensor


def _groups(
    query_groups: Array | None, passage_groups: Array | None, queries: torch.Tensor, passages: torch.Tensor
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if query_groups is None and passage_groups is None:
        return None, None
    if query_groups is None or passage_groups is None:
        missing = "query_groups" if query_groups is None else "passage_groups"
        raise ValueError(f"{missing}: found None, expected group ids, since the other side has them")
    tensors = []
    for name, value, rows, what in (
        ("query_groups", query_groups, queries.shape[0], "query"),
        ("passage_groups", passage_groups, passages.shape[0], "passage"),
    ):
        tensor = checks.as_tensor(value, name)
        checks.check_integers(tensor, name)
        checks.check_length(tensor, name, rows, what)
        tensors.append(tensor)
    return tensors[0], tensors[1]
