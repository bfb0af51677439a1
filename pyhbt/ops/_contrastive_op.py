"""The torch operator ``pyhbt::contrastive_loss`` and its gradient.

CPU and CUDA tensors of float32, bfloat16 and float16 take native kernels, all others :mod:`pyhbt.ops.panels`. The
operator computes losses and gradients in one pass, so for a weighted sum the gradient is ready after the forward pass.
It needs no autocast rule: each input is read in its own dtype and everything is accumulated in float32 or wider.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from pyhbt.ops import checks, panels, reference
from pyhbt.ops._native import core, threads
from pyhbt.ops.codes import matrix
from pyhbt.ops.cuda import contrastive as cuda
from pyhbt.ops.cuda.kernels import address, kernels
from pyhbt.ops.dtypes import DTYPES

_Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

torch.library.define(
    "pyhbt::contrastive_loss",
    "(Tensor queries, Tensor passages, Tensor positives, Tensor row_weights, Tensor temperature, float margin, "
    "bool cosine, bool symmetric, Tensor? query_groups, Tensor? passage_groups, bool with_gradients) "
    "-> (Tensor losses, Tensor loss, Tensor grad_queries, Tensor grad_passages, Tensor grad_temperature)",
)


class Options(NamedTuple):
    """What the operator takes beyond its differentiable inputs."""

    positives: torch.Tensor
    margin: float
    cosine: bool
    symmetric: bool
    query_groups: torch.Tensor | None
    passage_groups: torch.Tensor | None


def _operator(
    queries: torch.Tensor,
    passages: torch.Tensor,
    temperature: torch.Tensor,
    row_weights: torch.Tensor,
    options: Options,
    with_gradients: bool,
) -> panels.Losses:
    positives, *others = options
    result: panels.Losses = torch.ops.pyhbt.contrastive_loss(
        queries, passages, positives, row_weights, temperature, *others, with_gradients
    )
    return result


torch.library.impl("pyhbt::contrastive_loss", "default")(panels.contrastive_loss)


@torch.library.impl("pyhbt::contrastive_loss", "cpu")
def _contrastive_loss_cpu(queries: torch.Tensor, passages: torch.Tensor, *others: Any) -> panels.Losses:
    native = queries.dtype in DTYPES and passages.dtype in DTYPES
    return (_native if native else panels.contrastive_loss)(queries, passages, *others)


@torch.library.impl("pyhbt::contrastive_loss", "cuda")
def _contrastive_loss_cuda(queries: torch.Tensor, passages: torch.Tensor, *others: Any) -> panels.Losses:
    native = kernels() if cuda.supports(queries, passages) else None
    if native is None:
        return panels.contrastive_loss(queries, passages, *others)
    return cuda.contrastive_loss(native, queries, passages, *others)


def _native(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor,
    row_weights: torch.Tensor,
    temperature: torch.Tensor,
    margin: float,
    cosine: bool,
    symmetric: bool,
    query_groups: torch.Tensor | None,
    passage_groups: torch.Tensor | None,
    with_gradients: bool,
) -> panels.Losses:
    temperature_value = float(temperature.detach())
    checks.check_finite_positive(temperature_value, "temperature")
    checks.check_same_dim(passages, "passages", queries, "queries")
    checks.check_length(positives, "positives", queries.shape[0], "query")
    checks.check_length(row_weights, "row_weights", queries.shape[0], "query")
    queries, passages = _with_dense_rows(queries), _with_dense_rows(passages)
    row_weights, positives = row_weights.float().contiguous(), positives.contiguous()
    query_ids, passage_ids = _contiguous(query_groups), _contiguous(passage_groups)
    losses, loss, grad_queries, grad_passages, grad_temperature = _outputs(queries, passages, with_gradients)
    core.contrastive_loss(
        {
            "queries": matrix(queries),
            "passages": matrix(passages),
            "positives": positives.data_ptr(),
            "row_weights": row_weights.data_ptr(),
            "query_groups": address(query_ids),
            "passage_groups": address(passage_ids),
            "temperature": temperature_value,
            "margin": margin,
            "cosine": cosine,
            "symmetric": symmetric,
            "retained_scores": panels.RETAINED_BYTES // 4,
            "loss_rows": losses.data_ptr(),
            "loss": loss.data_ptr(),
            "grad_queries": grad_queries.data_ptr() if with_gradients else 0,
            "grad_passages": grad_passages.data_ptr() if with_gradients else 0,
            "grad_temperature": grad_temperature.data_ptr() if with_gradients else 0,
            "threads": threads(),
        }
    )
    return losses, loss, grad_queries, grad_passages, grad_temperature


@torch.library.register_fake("pyhbt::contrastive_loss")  # type: ignore[untyped-decorator]
def _contrastive_loss_fake(queries: torch.Tensor, passages: torch.Tensor, *others: Any) -> panels.Losses:
    *_, with_gradients = others
    return _outputs(queries, passages, with_gradients)


def _outputs(queries: torch.Tensor, passages: torch.Tensor, with_gradients: bool) -> panels.Losses:
    dtype = torch.float64 if torch.float64 in (queries.dtype, passages.dtype) else torch.float32
    n, m, dim = queries.shape[0], passages.shape[0], queries.shape[1]
    return (
        queries.new_empty(n, dtype=dtype),
        queries.new_empty((), dtype=dtype),
        queries.new_empty((n if with_gradients else 0, dim), dtype=dtype),
        queries.new_empty((m if with_gradients else 0, dim), dtype=dtype),
        queries.new_empty((), dtype=torch.float64),
    )


def _with_dense_rows(x: torch.Tensor) -> torch.Tensor:
    """``x``, copied only where the elements of a row are apart; rows may lie anywhere."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _contiguous(x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else x.contiguous()


class _WeightedLoss(torch.autograd.Function):
    """sum_i row_weights[i] * loss_i, with the gradients computed on the way forward.

    They are handed out, scaled in place, by the first backward pass; a second one (``retain_graph``) computes them
    again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        passages: torch.Tensor,
        temperature: torch.Tensor,
        row_weights: torch.Tensor,
        options: Options,
    ) -> torch.Tensor:
        _, loss, *gradients = _operator(queries, passages, temperature, row_weights, options, True)
        ctx.options = options
        if torch.compiler.is_compiling():
            ctx.save_for_backward(*gradients)
        else:
            ctx.save_for_backward(queries, passages, temperature, row_weights)
            ctx.gradients = gradients
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.compiler.is_compiling():
            grad_queries, grad_passages, grad_temperature = ctx.saved_tensors
            scaled = grad_queries * grad_output, grad_passages * grad_output, grad_temperature * grad_output
            return *scaled, None, None
        queries, passages, temperature, row_weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            weights = row_weights * grad_output
            return *_differentiable(queries, passages, temperature, weights, ctx.options), None, None
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            _, _, *gradients = _operator(queries, passages, temperature, row_weights, ctx.options, True)
        if grad_output.device.type != "cpu" or grad_output.item() != 1.0:
            for gradient in gradients:
                gradient.mul_(grad_output)
        return *_cast(gradients, queries, passages, temperature), None, None


class _LossRows(torch.autograd.Function):
    """loss_i for every row; the gradient needs the incoming one, so the operator runs again on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        passages: torch.Tensor,
        temperature: torch.Tensor,
        row_weights: torch.Tensor,
        options: Options,
    ) -> torch.Tensor:
        ctx.save_for_backward(queries, passages, temperature)
        ctx.options = options
        return _operator(queries, passages, temperature, row_weights, options, False)[0]

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        queries, passages, temperature = ctx.saved_tensors
        if not torch.compiler.is_compiling() and torch.is_grad_enabled():
            return *_differentiable(queries, passages, temperature, grad_output, ctx.options), None, None
        _, _, *gradients = _operator(queries, passages, temperature, grad_output, ctx.options, True)
        return *_cast(gradients, queries, passages, temperature), None, None


def _cast(gradients: list[torch.Tensor], *inputs: torch.Tensor) -> list[torch.Tensor]:
    return [gradient.to(x) for gradient, x in zip(gradients, inputs, strict=True)]


def _differentiable(
    queries: torch.Tensor,
    passages: torch.Tensor,
    temperature: torch.Tensor,
    row_weights: torch.Tensor,
    options: Options,
) -> _Gradients:
    """The gradients as functions of the inputs: torch code that can be differentiated again and stores the scores."""
    inputs = [x if x.requires_grad else x.detach().requires_grad_() for x in (queries, passages, temperature)]
    losses = reference.contrastive_loss(
        inputs[0],
        inputs[1],
        options.positives,
        temperature=inputs[2],
        similarity="cosine" if options.cosine else "dot",
        symmetric=options.symmetric,
        query_groups=options.query_groups,
        passage_groups=options.passage_groups,
        margin=None if options.margin == float("inf") else options.margin,
        reduction="none",
    )
    total = (losses * row_weights).sum()
    grad_queries, grad_passages, grad_temperature = torch.autograd.grad(
        total, inputs, create_graph=True, materialize_grads=True
    )
    return grad_queries, grad_passages, grad_temperature


def loss(
    queries: torch.Tensor,
    passages: torch.Tensor,
    temperature: torch.Tensor,
    row_weights: torch.Tensor,
    options: Options,
    *,
    by_row: bool,
) -> torch.Tensor:
    """sum_i row_weights[i] * loss_i, or all loss_i, differentiable in the first three."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in (queries, passages, temperature)):
        function = _LossRows if by_row else _WeightedLoss
        result: torch.Tensor = function.apply(queries, passages, temperature, row_weights, options)  # type: ignore[no-untyped-call]
        return result
    losses, total, *_ = _operator(queries, passages, temperature, row_weights, options, False)
    return losses if by_row else total
