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

torch.library.define(
    "pyhbt::contrastive_loss",
    "(Tensor queries, Tensor passages, Tensor positives, Tensor row_weights, Tensor temperature, float margin, "
    "bool cosine, bool symmetric, Tensor? query_groups, Tensor? passage_groups, bool of_queries, bool of_passages) "
    "-> (Tensor losses, Tensor loss, Tensor grad_queries, Tensor grad_passages, Tensor grad_temperature)",
)


class Batch(NamedTuple):
    """The tensors of a call; the loss is differentiable in the first three."""

    queries: torch.Tensor
    passages: torch.Tensor
    temperature: torch.Tensor
    row_weights: torch.Tensor
    positives: torch.Tensor
    query_groups: torch.Tensor | None
    passage_groups: torch.Tensor | None


class Options(NamedTuple):
    """What else the operator takes."""

    margin: float
    cosine: bool
    symmetric: bool


class _Wanted(NamedTuple):
    """Which gradients somebody waits for; the others are not computed."""

    queries: bool
    passages: bool
    temperature: bool

    @classmethod
    def of(cls, batch: Batch) -> _Wanted:
        return cls(*(x.requires_grad for x in batch[:3]))


_NONE = _Wanted(False, False, False)
_Gradients = tuple[torch.Tensor | None, ...]


def _operator(batch: Batch, options: Options, wanted: _Wanted) -> panels.Losses:
    result: panels.Losses = torch.ops.pyhbt.contrastive_loss(
        batch.queries,
        batch.passages,
        batch.positives,
        batch.row_weights,
        batch.temperature,
        *options,
        batch.query_groups,
        batch.passage_groups,
        wanted.queries or wanted.temperature,  # the temperature's comes with them
        wanted.passages,
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
    of_queries: bool,
    of_passages: bool,
) -> panels.Losses:
    temperature_value = float(temperature.detach())
    checks.check_finite_positive(temperature_value, "temperature")
    checks.check_same_dim(passages, "passages", queries, "queries")
    checks.check_length(positives, "positives", queries.shape[0], "query")
    checks.check_length(row_weights, "row_weights", queries.shape[0], "query")
    queries, passages = _with_dense_rows(queries), _with_dense_rows(passages)
    row_weights, positives = row_weights.float().contiguous(), positives.contiguous()
    query_ids, passage_ids = _contiguous(query_groups), _contiguous(passage_groups)
    losses, loss, grad_queries, grad_passages, grad_temperature = _outputs(
        queries, passages, of_queries, of_passages
    )
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
            "grad_queries": grad_queries.data_ptr() if of_queries else 0,
            "grad_passages": grad_passages.data_ptr() if of_passages else 0,
            "grad_temperature": grad_temperature.data_ptr() if of_queries else 0,
            "threads": threads(),
        }
    )
    return losses, loss, grad_queries, grad_passages, grad_temperature


@torch.library.register_fake("pyhbt::contrastive_loss")  # type: ignore[untyped-decorator]
def _contrastive_loss_fake(queries: torch.Tensor, passages: torch.Tensor, *others: Any) -> panels.Losses:
    *_, of_queries, of_passages = others
    return _outputs(queries, passages, of_queries, of_passages)


def _outputs(
    queries: torch.Tensor, passages: torch.Tensor, of_queries: bool, of_passages: bool
) -> panels.Losses:
    dtype = torch.float64 if torch.float64 in (queries.dtype, passages.dtype) else torch.float32
    n, m, dim = queries.shape[0], passages.shape[0], queries.shape[1]
    return (
        queries.new_empty(n, dtype=dtype),
        queries.new_empty((), dtype=dtype),
        queries.new_empty((n if of_queries else 0, dim), dtype=dtype),
        queries.new_empty((m if of_passages else 0, dim), dtype=dtype),
        queries.new_zeros((), dtype=torch.float64),
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
    def forward(ctx: Any, options: Options, wanted: _Wanted, *tensors: Any) -> torch.Tensor:
        batch = Batch(*tensors)
        _, loss, *gradients = _operator(batch, options, wanted)
        ctx.options, ctx.wanted = options, wanted
        if torch.compiler.is_compiling():
            ctx.save_for_backward(*gradients)
        else:
            ctx.save_for_backward(*batch)
            ctx.gradients = gradients
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> _Gradients:
        wanted = ctx.wanted
        if torch.compiler.is_compiling():
            scaled = [
                x * grad_output if want else None for x, want in zip(ctx.saved_tensors, wanted, strict=True)
            ]
            return None, None, *scaled, None, None, None, None
        batch = Batch(*ctx.saved_tensors)
        if torch.is_grad_enabled():  # create_graph
            gradients = _differentiable(batch, ctx.options, wanted, batch.row_weights * grad_output)
            return None, None, *gradients, None, None, None, None
        computed, ctx.gradients = ctx.gradients, None
        if computed is None:
            _, _, *computed = _operator(batch, ctx.options, wanted)
        if is_transformed(grad_output) or _is_stacked(grad_output):
            computed = [gradient * grad_output for gradient in computed]
        elif grad_output.device.type != "cpu" or grad_output.item() != 1.0:
            for gradient in computed:
                gradient.mul_(grad_output)
        return None, None, *_given(computed, batch, wanted), None, None, None, None


class _LossRows(torch.autograd.Function):
    """loss_i for every row; the gradient needs the incoming one, so the operator runs again on the way back."""

    @staticmethod
    def forward(ctx: Any, options: Options, wanted: _Wanted, *tensors: Any) -> torch.Tensor:
        batch = Batch(*tensors)
        ctx.save_for_backward(*batch)
        ctx.options, ctx.wanted = options, wanted
        return _operator(batch, options, _NONE)[0]

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> _Gradients:
        batch, wanted = Batch(*ctx.saved_tensors), ctx.wanted
        if not torch.compiler.is_compiling() and (torch.is_grad_enabled() or is_transformed(grad_output)):
            gradients = _differentiable(batch, ctx.options, wanted, grad_output)
            return None, None, *gradients, None, None, None, None
        _, _, *computed = _operator(batch._replace(row_weights=grad_output), ctx.options, wanted)
        return None, None, *_given(computed, batch, wanted), None, None, None, None


def _given(gradients: list[torch.Tensor], batch: Batch, wanted: _Wanted) -> _Gradients:
    """In the dtypes of the inputs, None where nobody waits."""
    inputs = zip(gradients, batch, wanted, strict=False)
    return tuple(gradient.to(x) if x is not None and want else None for gradient, x, want in inputs)


def is_transformed(*tensors: torch.Tensor | None) -> bool:
    """Whether a tensor is inside a transform of ``torch.func`` or carries a tangent of forward-mode differentiation."""
    given = [x for x in tensors if x is not None]
    if any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in given):
        return True
    return any(map(has_tangent, given))


def _is_stacked(x: torch.Tensor) -> bool:
    """Whether a tensor is one of the gradients of ``torch.autograd.grad(..., is_grads_batched=True)``."""
    return torch._C._dispatch_keys(x).has(torch._C._dispatch_key_parse("Batched"))


def has_tangent(x: torch.Tensor) -> bool:
    """Whether forward-mode differentiation goes through a tensor."""
    forward: Any = torch.autograd.forward_ad
    return bool(forward._current_level >= 0 and forward.unpack_dual(x).tangent is not None)


def _check_values(batch: Batch) -> None:
    """What the operator checks itself, where it is not called."""
    checks.check_indices(
        _unwrapped(batch.positives).reshape(-1), "positives", len(batch.passages), "passages"
    )
    for value in _unwrapped(batch.temperature).reshape(-1).tolist():
        checks.check_finite_positive(value, "temperature")


def _unwrapped(x: torch.Tensor) -> torch.Tensor:
    """The values inside the wrappers of ``torch.func``."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.detach()


def _in_torch(batch: Batch, options: Options) -> torch.Tensor:
    """Losses of the rows in torch code that can be differentiated and transformed at will, and stores the scores."""
    return reference.contrastive_loss(
        batch.queries,
        batch.passages,
        batch.positives,
        temperature=batch.temperature,
        similarity="cosine" if options.cosine else "dot",
        symmetric=options.symmetric,
        query_groups=batch.query_groups,
        passage_groups=batch.passage_groups,
        margin=None if options.margin == float("inf") else options.margin,
        reduction="none",
    )


def _differentiable(batch: Batch, options: Options, wanted: _Wanted, row_weights: torch.Tensor) -> _Gradients:
    """The gradients as functions of the inputs.

    They are partial: aliases stand for the inputs, since one may be made of another.
    """
    with torch.enable_grad():
        aliases = [
            x.view_as(x) if x.requires_grad else x.detach()
            for x in (batch.queries, batch.passages, batch.temperature)
        ]
        losses = _in_torch(
            batch._replace(queries=aliases[0], passages=aliases[1], temperature=aliases[2]), options
        )
        total = (losses * row_weights).sum()
        inputs = [x for x, want in zip(aliases, wanted, strict=True) if want]
        found = iter(torch.autograd.grad(total, inputs, create_graph=True, materialize_grads=True))
    return tuple(next(found) if want else None for want in wanted)


def loss(batch: Batch, options: Options, *, by_row: bool) -> torch.Tensor:
    """sum_i row_weights[i] * loss_i, or all loss_i, differentiable in queries, passages and temperature.

    Inside transforms of ``torch.func`` and forward-mode differentiation torch code takes the operator's place.
    """
    if not torch.compiler.is_compiling() and is_transformed(*batch):
        _check_values(batch)
        rows = _in_torch(batch, options)
        return rows if by_row else (rows * batch.row_weights).sum()
    wanted = _Wanted.of(batch) if torch.is_grad_enabled() else _NONE
    if any(wanted):
        function = _LossRows if by_row else _WeightedLoss
        result: torch.Tensor = function.apply(options, wanted, *batch)  # type: ignore[no-untyped-call]
        return result
    losses, total, *_ = _operator(batch, options, wanted)
    return losses if by_row else total
