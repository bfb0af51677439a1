"""The torch operator ``pyhbt::contrastive_loss`` and its gradient.

CPU and CUDA tensors of float32, bfloat16 and float16 take native kernels, all others :mod:`pyhbt.ops.panels`. The
operator computes losses and gradients in one pass, so for a weighted sum the gradient is ready after the forward pass;
a gradient that nobody wants is not computed (the temperature's comes with that of the queries). It needs no autocast
rule: each input is read in its own dtype and everything is accumulated in float32 or wider.
Forward-mode derivatives and the transforms of ``torch.func`` take :mod:`pyhbt.ops.reference`, which stores the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.autograd.forward_ad import unpack_dual

from pyhbt.ops import checks, panels, reference
from pyhbt.ops._native import core, threads
from pyhbt.ops.codes import matrix
from pyhbt.ops.cuda import contrastive as cuda
from pyhbt.ops.cuda.kernels import address, kernels
from pyhbt.ops.dtypes import DTYPES
from pyhbt.ops.loss_checks import refuse_capture

torch.library.define(
    "pyhbt::contrastive_loss",
    "(Tensor queries, Tensor passages, Tensor? positives, Tensor row_weights, Tensor temperature, float margin, "
    "bool cosine, bool symmetric, Tensor? query_groups, Tensor? passage_groups, bool query_gradient, "
    "bool passage_gradient) "
    "-> (Tensor losses, Tensor loss, Tensor grad_queries, Tensor grad_passages, Tensor grad_temperature)",
)


class Options(NamedTuple):
    """What the operator takes beyond its differentiable inputs."""

    positives: torch.Tensor | None
    """None: 0, 1, ..., n - 1, which needs no check."""
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
    wanted: panels.Wanted,
) -> panels.Losses:
    positives, *others = options
    result: panels.Losses = torch.ops.pyhbt.contrastive_loss(
        queries, passages, positives, row_weights, temperature, *others, *wanted
    )
    return result


torch.library.impl("pyhbt::contrastive_loss", "default")(panels.contrastive_loss)


@torch.library.impl("pyhbt::contrastive_loss", "cpu")
def _contrastive_loss_cpu(queries: torch.Tensor, passages: torch.Tensor, *others: Any) -> panels.Losses:
    native = queries.dtype in DTYPES and passages.dtype in DTYPES
    return (_native if native else panels.contrastive_loss)(queries, passages, *others)


@torch.library.impl("pyhbt::contrastive_loss", "cuda")
def _contrastive_loss_cuda(queries: torch.Tensor, passages: torch.Tensor, *others: Any) -> panels.Losses:
    native = kernels(queries.device) if cuda.supports(queries, passages) else None
    if native is None:
        refuse_capture(queries)
        return panels.contrastive_loss(queries, passages, *others)
    return cuda.contrastive_loss(native, queries, passages, *others)


def _native(
    queries: torch.Tensor,
    passages: torch.Tensor,
    positives: torch.Tensor | None,
    row_weights: torch.Tensor,
    temperature: torch.Tensor,
    margin: float,
    cosine: bool,
    symmetric: bool,
    query_groups: torch.Tensor | None,
    passage_groups: torch.Tensor | None,
    query_gradient: bool,
    passage_gradient: bool,
) -> panels.Losses:
    temperature_value = float(temperature.detach())
    checks.check_finite_positive(temperature_value, "temperature")
    checks.check_same_dim(passages, "passages", queries, "queries")
    positives = panels.positives_or_default(positives, queries)
    checks.check_length(positives, "positives", queries.shape[0], "query")
    checks.check_length(row_weights, "row_weights", queries.shape[0], "query")
    queries, passages = _with_dense_rows(queries), _with_dense_rows(passages)
    row_weights, positives = row_weights.float().contiguous(), positives.contiguous()
    query_ids, passage_ids = _contiguous(query_groups), _contiguous(passage_groups)
    wanted = panels.Wanted(query_gradient, passage_gradient)
    losses, loss, grad_queries, grad_passages, grad_temperature = _outputs(queries, passages, wanted)
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
            "grad_queries": grad_queries.data_ptr() if query_gradient else 0,
            "grad_passages": grad_passages.data_ptr() if passage_gradient else 0,
            "grad_temperature": grad_temperature.data_ptr() if query_gradient else 0,
            "threads": threads(),
        }
    )
    if not query_gradient:
        grad_temperature.zero_()
    return losses, loss, grad_queries, grad_passages, grad_temperature


@torch.library.register_fake("pyhbt::contrastive_loss")  # type: ignore[untyped-decorator]
def _contrastive_loss_fake(queries: torch.Tensor, passages: torch.Tensor, *others: Any) -> panels.Losses:
    return _outputs(queries, passages, panels.Wanted(*others[-2:]))


def _outputs(queries: torch.Tensor, passages: torch.Tensor, wanted: panels.Wanted) -> panels.Losses:
    dtype = torch.float64 if torch.float64 in (queries.dtype, passages.dtype) else torch.float32
    n, m, dim = queries.shape[0], passages.shape[0], queries.shape[1]
    return (
        queries.new_empty(n, dtype=dtype),
        queries.new_empty((), dtype=dtype),
        queries.new_empty((n if wanted.queries else 0, dim), dtype=dtype),
        queries.new_empty((m if wanted.passages else 0, dim), dtype=dtype),
        queries.new_empty((), dtype=torch.float64),
    )


def _with_dense_rows(x: torch.Tensor) -> torch.Tensor:
    """``x``, copied only where the elements of a row are apart; rows may lie anywhere."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _contiguous(x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else x.contiguous()


class _Call(NamedTuple):
    """What a call keeps for its backward pass beside tensors."""

    margin: float
    cosine: bool
    symmetric: bool
    wanted: panels.Wanted
    temperature_wanted: bool

    def results(
        self, gradients: Sequence[torch.Tensor], *inputs: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """For each argument of ``forward``: its gradient in its dtype, None where it is not wanted."""
        parts = zip((*self.wanted, self.temperature_wanted), gradients, inputs, strict=True)
        return *(gradient.to(x) if asked else None for asked, gradient, x in parts), None, None, None


def _save(ctx: Any, call: _Call, options: Options, *inputs: torch.Tensor) -> None:
    """All tensors go through autograd, which refuses the backward pass where one was changed in place meanwhile."""
    ctx.save_for_backward(*inputs, options.positives, options.query_groups, options.passage_groups)
    ctx.call = call


def _saved(ctx: Any) -> tuple[list[torch.Tensor], Options]:
    *inputs, positives, query_groups, passage_groups = ctx.saved_tensors
    call = ctx.call
    return inputs, Options(positives, call.margin, call.cosine, call.symmetric, query_groups, passage_groups)


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
        call: _Call,
    ) -> torch.Tensor:
        _, loss, *gradients = _operator(queries, passages, temperature, row_weights, options, call.wanted)
        if torch.compiler.is_compiling():
            ctx.save_for_backward(*gradients)
            ctx.call = call
        else:
            _save(ctx, call, options, queries, passages, temperature, row_weights)
            ctx.gradients = gradients
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        call: _Call = ctx.call
        if torch.compiler.is_compiling():
            gradients = [gradient * grad_output for gradient in ctx.saved_tensors]
            return call.results(gradients, *gradients)
        (queries, passages, temperature, row_weights), options = _saved(ctx)
        inputs = queries, passages, temperature
        if torch.is_grad_enabled():  # create_graph
            return _differentiable(inputs, row_weights * grad_output, options, call)
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            _, _, *gradients = _operator(*inputs, row_weights, options, call.wanted)
        if _is_stacked(grad_output):
            gradients = [gradient * grad_output for gradient in gradients]
        elif grad_output.device.type != "cpu" or grad_output.item() != 1.0:
            for asked, gradient in zip((*call.wanted, call.temperature_wanted), gradients, strict=True):
                if asked:
                    gradient.mul_(grad_output)
        return call.results(gradients, *inputs)


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
        call: _Call,
    ) -> torch.Tensor:
        _save(ctx, call, options, queries, passages, temperature)
        return _operator(queries, passages, temperature, row_weights, options, panels.NONE_WANTED)[0]

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, options = _saved(ctx)
        queries, passages, temperature = inputs
        if not torch.compiler.is_compiling() and torch.is_grad_enabled():
            return _differentiable(inputs, grad_output, options, ctx.call)
        _, _, *gradients = _operator(queries, passages, temperature, grad_output, options, ctx.call.wanted)
        results: tuple[torch.Tensor | None, ...] = ctx.call.results(gradients, *inputs)
        return results


def _differentiable(
    inputs: Sequence[torch.Tensor], row_weights: torch.Tensor, options: Options, call: _Call
) -> tuple[torch.Tensor | None, ...]:
    """The gradients as functions of the inputs: torch code that can be differentiated again and stores the scores.

    Each is differentiated by an alias of its own, since one may be made of another, or be the same tensor.
    """
    asked = (*call.wanted, call.temperature_wanted)
    own = [x.view_as(x) for x in inputs]
    total = (_reference(own[0], own[1], own[2], options) * row_weights).sum()
    chosen = [x for x, needed in zip(own, asked, strict=True) if needed and x.requires_grad]
    found = iter(torch.autograd.grad(total, chosen, create_graph=True, materialize_grads=True))
    gradients = (
        next(found) if needed and x.requires_grad else None for x, needed in zip(own, asked, strict=True)
    )
    return *gradients, None, None, None


def _reference(
    queries: torch.Tensor, passages: torch.Tensor, temperature: torch.Tensor, options: Options
) -> torch.Tensor:
    """(n,) losses from torch code."""
    return reference.contrastive_loss(
        queries,
        passages,
        options.positives,
        temperature=temperature,
        similarity="cosine" if options.cosine else "dot",
        symmetric=options.symmetric,
        query_groups=options.query_groups,
        passage_groups=options.passage_groups,
        margin=None if options.margin == float("inf") else options.margin,
        reduction="none",
    )


def _transformed(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether one of them carries a tangent, or stands for a tensor inside one of torch.func's transforms."""
    if torch.compiler.is_compiling():
        return False
    return any(x is not None and (is_functorch_wrapped_tensor(x) or has_tangent(x)) for x in tensors)


def has_tangent(x: torch.Tensor) -> bool:
    """Whether forward-mode differentiation goes through a tensor."""
    return unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def _is_stacked(x: torch.Tensor) -> bool:
    """Whether a tensor is one of the gradients of ``torch.autograd.grad(..., is_grads_batched=True)``."""
    batched = torch._C._dispatch_keys(x).has(torch._C._dispatch_key_parse("Batched"))
    return bool(batched) or is_functorch_wrapped_tensor(x)


def _check_values(positives: torch.Tensor | None, temperature: torch.Tensor, num_passages: int) -> None:
    """As the operator does, of what stands below all transforms."""
    with (
        torch._C._DisableFuncTorch()
    ):  # else operations wrap their results, whose numbers torch 2.8 cannot read
        if positives is not None:
            checks.check_indices(_unwrapped(positives).reshape(-1), "positives", num_passages, "passages")
        for value in _unwrapped(temperature).reshape(-1).tolist():
            checks.check_finite_positive(value, "temperature")


def _unwrapped(x: torch.Tensor) -> torch.Tensor:
    while is_functorch_wrapped_tensor(x):
        x = get_unwrapped(x)
    return x.detach()


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
    others = options.positives, options.query_groups, options.passage_groups
    if _transformed((queries, passages, temperature, row_weights, *others)):
        _check_values(options.positives, temperature, len(passages))
        rows = _reference(queries, passages, temperature, options)
        return rows if by_row else (rows * row_weights).sum()
    if torch.is_grad_enabled() and any(x.requires_grad for x in (queries, passages, temperature)):
        learnt = temperature.requires_grad
        wanted = panels.Wanted(queries.requires_grad or learnt, passages.requires_grad)
        call = _Call(options.margin, options.cosine, options.symmetric, wanted, learnt)
        function = _LossRows if by_row else _WeightedLoss
        result: torch.Tensor = function.apply(queries, passages, temperature, row_weights, options, call)  # type: ignore[no-untyped-call]
        return result
    losses, total, *_ = _operator(queries, passages, temperature, row_weights, options, panels.NONE_WANTED)
    return losses if by_row else total
