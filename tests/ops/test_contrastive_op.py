"""The operator: dtypes, autocast, compilation, opcheck, repeated and second derivatives."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

from pyhbt.ops import contrastive_loss, reference
from tests.losses import REDUCTIONS, make, relative_error, with_gradients


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cosine", [False, True])
def test_half_precision_inputs_accumulate_in_float32(dtype: torch.dtype, cosine: bool) -> None:
    similarity = "cosine" if cosine else "dot"
    queries, passages = (x.to(dtype) for x in make(129, 140, 65)[:2])
    found = with_gradients(contrastive_loss, queries, passages, similarity=similarity)
    expected = with_gradients(contrastive_loss, queries.float(), passages.float(), similarity=similarity)
    assert torch.equal(found[0], expected[0])  # the same numbers go in: the same bits come out
    for gradient, other in zip(found[1:], expected[1:], strict=True):
        assert gradient.dtype == dtype
        assert torch.equal(gradient, other.to(dtype))


def test_every_half_precision_number_is_read_exactly() -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.bfloat16, torch.float16):
        values = bits.view(dtype)
        values = values[values.isfinite() & (values.float().abs() < 1e30)][:, None]
        one = torch.ones(1, 1)
        # A single passage, and a negative of zero: the score is the value itself where it is large.
        rows = contrastive_loss(
            values,
            torch.cat([one, 0 * one]),
            torch.zeros(len(values), dtype=torch.int64),
            reduction="none",
            temperature=1,
        )
        truth = torch.logaddexp(-values.double(), torch.zeros(1))[:, 0]
        torch.testing.assert_close(rows.double(), truth, rtol=1e-6, atol=1e-37)


def test_float64_takes_torch_panels() -> None:
    queries, passages = (x.double() for x in make(9, 9, 8)[:2])
    found = with_gradients(contrastive_loss, queries, passages)
    truth = with_gradients(reference.contrastive_loss, queries, passages)
    for value, expected in zip(found, truth, strict=True):
        assert value.dtype == torch.float64
        assert relative_error(value, expected) <= 1e-13


def test_mixed_dtypes() -> None:
    queries, passages, _ = make(9, 9, 8)
    found = with_gradients(contrastive_loss, queries.bfloat16(), passages)
    assert found[0].dtype == torch.float32
    assert (found[1].dtype, found[2].dtype) == (torch.bfloat16, torch.float32)
    expected = with_gradients(contrastive_loss, queries.bfloat16().float(), passages)
    assert torch.equal(found[2], expected[2])


def test_under_autocast() -> None:
    queries, passages, _ = make(9, 9, 8)
    expected = contrastive_loss(queries, passages)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(queries, passages), expected)
        assert contrastive_loss(queries.bfloat16(), passages.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    queries, passages = (x.to(dtype) for x in make(9, 12, 8)[:2])
    tensors = (queries, passages, torch.arange(9), torch.full((9,), 0.5), torch.tensor(0.1))
    groups = torch.zeros(9, dtype=torch.int64), torch.arange(12)
    operator = torch.ops.pyhbt.contrastive_loss.default
    for wanted in itertools.product((False, True), repeat=2):
        torch.library.opcheck(operator, (*tensors, 0.1, True, True, *groups, *wanted))
        torch.library.opcheck(operator, (*tensors, math.inf, False, False, None, None, *wanted))


@pytest.mark.filterwarnings("ignore")  # of the compiler stack itself
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiles_without_graph_break(reduction: str) -> None:
    queries, passages, _ = make(9, 12, 8)
    positives = torch.arange(9)

    def loss(q: torch.Tensor, p: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(q * 2, p, positives, symmetric=True, reduction=reduction)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = with_gradients(loss, queries, passages, positives)
    found = with_gradients(compiled, queries, passages, positives)
    for value, other in zip(found, expected, strict=True):
        assert torch.equal(value, other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_compiles_with_everything(reduction: str) -> None:
    queries, passages, generator = make(9, 12, 8)
    weights = torch.rand(9, generator=generator)
    groups = {"query_groups": torch.arange(9) // 2, "passage_groups": torch.arange(12) // 2}

    def loss(q: torch.Tensor, p: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(
            q,
            p.bfloat16(),
            temperature=torch.exp(-log_scale),
            similarity="cosine",
            margin=0.3,
            weights=weights,
            reduction=reduction,
            **groups,
        )

    results = []
    for call in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        inputs = [x.clone().requires_grad_() for x in (queries, passages, torch.tensor(1.5))]
        call(*inputs).sum().backward()
        results.append([x.grad for x in inputs])
    for value, other in zip(*results, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-9)


def test_operator_checks_sizes_itself() -> None:
    positives, temperature = torch.tensor([0, 7, 1]), torch.tensor(0.1)
    for dtype in (torch.float32, torch.float64):
        queries, passages = torch.zeros(3, 4, dtype=dtype), torch.zeros(5, 4, dtype=dtype)
        tensors = (queries, passages, positives, torch.ones(3), temperature)
        with pytest.raises(ValueError, match="positives: found 7 in row 1, expected -1 or an index below 5"):
            torch.ops.pyhbt.contrastive_loss(*tensors, math.inf, False, False, None, None, False, False)


def test_second_derivative() -> None:
    queries, passages, _ = make(5, 7, 4)
    for reduction in REDUCTIONS:

        def loss(
            q: torch.Tensor, p: torch.Tensor, t: torch.Tensor, reduction: str = reduction
        ) -> torch.Tensor:
            return contrastive_loss(
                q, p, temperature=t, similarity="cosine", symmetric=True, reduction=reduction
            )

        inputs = [x.double().requires_grad_() for x in (queries, passages, torch.tensor(0.4))]
        assert torch.autograd.gradcheck(loss, inputs)
        assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivative_without_passages(dtype: torch.dtype) -> None:
    queries, passages = torch.randn(2, 4, dtype=dtype, requires_grad=True), torch.zeros(0, 4, dtype=dtype)
    loss = contrastive_loss(queries, passages, torch.tensor([-1, -1]))
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    assert not gradient.any()


def test_gradient_penalty_in_float32() -> None:
    queries, passages, _ = make(9, 9, 8)

    def penalty(loss: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        q = queries.to(dtype, copy=True).requires_grad_()
        (first,) = torch.autograd.grad(loss(q, passages.to(dtype)), q, create_graph=True)
        first.square().sum().backward()
        assert q.grad is not None
        return first.detach(), q.grad

    found, truth = (
        penalty(contrastive_loss, torch.float32),
        penalty(reference.contrastive_loss, torch.float64),
    )
    for value, expected in zip(found, truth, strict=True):
        assert relative_error(value, expected) <= 1e-5


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_backward_twice_and_scaled(reduction: str) -> None:
    queries, passages, _ = make(9, 12, 8)
    queries.requires_grad_()
    loss = contrastive_loss(queries, passages, reduction=reduction).sum()
    (once,) = torch.autograd.grad(loss, queries, retain_graph=True)
    kept = once.clone()
    (again,) = torch.autograd.grad(3 * loss, queries)
    assert torch.equal(once, kept)
    torch.testing.assert_close(again, 3 * once)


def jvp(loss: Any, q: torch.Tensor, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    tangents = torch.ones_like(q), p.cos(), torch.ones_like(t)
    result: torch.Tensor = torch.func.jvp(loss, (q, p, t), tangents)[1]
    return result


def dual(loss: Any, q: torch.Tensor, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    with forward_ad.dual_level():
        result: torch.Tensor = forward_ad.unpack_dual(loss(forward_ad.make_dual(q, q.sin()), p, t)).tangent
        return result


TRANSFORMS: dict[str, Any] = {
    "jvp": jvp,
    "dual": dual,
    "grad": lambda loss, q, p, t: torch.func.grad(loss)(q, p, t),
    "grad of passages": lambda loss, q, p, t: torch.func.grad(loss, argnums=1)(q, p, t),
    "jacrev": lambda loss, q, p, t: torch.func.jacrev(loss)(q, p, t),
    "jacfwd": lambda loss, q, p, t: torch.func.jacfwd(loss, argnums=2)(q, p, t),
    "hessian": lambda loss, q, p, t: torch.func.hessian(loss)(q, p, t),
    "vmap": lambda loss, q, p, t: torch.func.vmap(loss)(*(torch.stack([x, x * 2]) for x in (q, p, t))),
    "vmap over passages": lambda loss, q, p, t: torch.func.vmap(loss, (None, 0, None))(
        q, p.expand(3, -1, -1), t
    ),
    "grads of a batch": lambda loss, q, p, t: torch.func.vmap(torch.func.grad(loss), (0, None, None))(
        torch.stack([q, q * 2]), p, t
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.filterwarnings(
    "ignore:There is a performance drop", "ignore:`torch.jit.script`:DeprecationWarning"
)
def test_transforms_are_right(name: str, similarity: str) -> None:
    q, p, _ = make(5, 7, 4)
    found, truth = (
        TRANSFORMS[name](
            lambda q, p, t, loss=loss: loss(q, p, temperature=t, similarity=similarity, symmetric=True),
            *(x.to(dtype) for x in (q, p, torch.tensor(0.4))),
        )
        for loss, dtype in (
            (contrastive_loss, torch.float32),
            (reference.contrastive_loss, torch.float64),
        )
    )
    assert found.abs().max() > 0
    assert relative_error(found, truth) <= 1e-4
