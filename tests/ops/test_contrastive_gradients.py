"""Gradients of the contrastive loss: dependent and frozen inputs, changes in place, transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt.ops import _contrastive_op, contrastive_loss, panels, reference
from tests.losses import REDUCTIONS, make, relative_error

Make = Callable[[torch.Tensor], dict[str, Any]]
DEPENDENT: dict[str, Make] = {
    "passages are the queries": lambda x: {"queries": x, "passages": x},
    "passages made of queries": lambda x: {
        "queries": x,
        "passages": torch.cat([2 * x.roll(1, 1), x.flip(0)]),
    },
    "queries made of passages": lambda x: {"queries": x.sin(), "passages": x},
    "both made of one": lambda x: {"queries": x * x, "passages": x.exp()},
    "one a view of the other": lambda x: {"queries": x[:4], "passages": x},
    "temperature made of queries": lambda x: {
        "queries": x,
        "passages": x.roll(1, 0),
        "temperature": x.norm() / 4,
    },
    "frozen passages, temperature made of queries": lambda x: {
        "queries": x,
        "passages": x.detach().roll(1, 0),
        "temperature": x.norm() / 4,
    },
    "only the temperature": lambda x: {
        "queries": x.detach(),
        "passages": x.detach().flip(0),
        "temperature": x.norm() / 4,
    },
    "weights and false negatives": lambda x: {
        "queries": x,
        "passages": torch.cat([x, x.cos()]),
        "positives": torch.tensor([3, -1, 0, 3, 7, 11]),
        "weights": x.detach().norm(dim=1),
        "query_groups": torch.tensor([0, 1, -1, 2, 3, 3]),
        "passage_groups": torch.arange(12) // 3,
        "margin": 0.4,
    },
}
OPTIONS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.5},
    {"temperature": 0.3, "similarity": "cosine", "symmetric": True},
)
INPUT = torch.randn(6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 2


def derivatives(
    loss: Callable[..., torch.Tensor], dtype: torch.dtype, given: Make, create_graph: bool, **options: Any
) -> list[torch.Tensor]:
    x = INPUT.to(dtype, copy=True).requires_grad_()
    arguments = options | given(x)
    value = loss(arguments.pop("queries"), arguments.pop("passages"), **arguments)
    value = (value * torch.arange(1, value.numel() + 1).reshape(value.shape)).sum()
    (first,) = torch.autograd.grad(value, x, create_graph=create_graph)
    if not create_graph:
        return [first]
    (second,) = torch.autograd.grad((first * INPUT.to(dtype).cos()).sum() + value, x)
    return [first.detach(), second]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("given", DEPENDENT.values(), ids=DEPENDENT)
def test_gradients_of_dependent_inputs(given: Make, options: dict[str, Any], reduction: str) -> None:
    options = {**options, "reduction": reduction}
    for create_graph in (False, True):
        truth = derivatives(reference.contrastive_loss, torch.float64, given, create_graph, **options)
        for dtype, budget in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
            found = derivatives(contrastive_loss, dtype, given, create_graph, **options)
            for value, expected in zip(found, truth, strict=True):
                assert relative_error(value, expected) <= budget


CHANGED = ("queries", "passages", "positives", "temperature", "query_groups", "passage_groups")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("changed", CHANGED)
def test_arguments_changed_before_the_backward_pass(changed: str, reduction: str, dtype: torch.dtype) -> None:
    queries, passages, _ = make(4, 5, 3)
    arguments: dict[str, Any] = {
        "queries": queries.to(dtype),
        "passages": passages.to(dtype),
        "positives": torch.arange(4),
        "temperature": torch.tensor(0.5),
        "query_groups": torch.arange(4),
        "passage_groups": torch.arange(5),
    }
    weight = torch.ones(3, dtype=dtype, requires_grad=True)
    loss = contrastive_loss(arguments.pop("queries") * weight, **arguments, reduction=reduction)
    if changed == "queries":
        arguments["queries"] = queries = queries.to(dtype, copy=True) * weight
        loss = contrastive_loss(queries, **{k: v for k, v in arguments.items() if k != "queries"})
    with torch.no_grad():
        arguments[changed].mul_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_arrays_and_weights_changed_before_the_backward_pass(reduction: str) -> None:
    def gradient(change: bool) -> torch.Tensor:
        queries, passages, _ = make(4, 5, 3)
        queries.requires_grad_()
        array, positives, weights = (
            passages.numpy(),
            np.arange(4),
            torch.rand(4, generator=torch.manual_seed(0)),
        )
        call: Any = contrastive_loss  # an array beside a tensor
        loss = call(queries, array, positives, weights=weights, reduction=reduction)
        if change:
            array[:] = 0
            positives[:] = 0
            weights.zero_()
        loss.sum().backward()
        assert queries.grad is not None
        return queries.grad

    assert torch.equal(gradient(change=True), gradient(change=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("frozen", ["queries", "passages", "temperature", "all but temperature"])
def test_frozen_inputs_cost_nothing(
    frozen: str, options: dict[str, Any], reduction: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    operator = _contrastive_op._operator

    def watched(*args: Any) -> panels.Losses:
        result = operator(*args)
        sizes.append((len(result[2]), len(result[3])))
        return result

    monkeypatch.setattr(_contrastive_op, "_operator", watched)
    queries, passages, _ = make(300, 310, 20)
    found = {}
    for name in ("none", frozen):
        inputs = {
            "queries": queries.to(dtype, copy=True),
            "passages": passages.to(dtype, copy=True),
            "temperature": torch.tensor(options["temperature"], dtype=torch.float64),
        }
        for key, x in inputs.items():
            x.requires_grad_(key != name and not (name == "all but temperature" and key != "temperature"))
        contrastive_loss(**{**options, **inputs}, reduction=reduction).sum().backward()
        found[name] = {key: x.grad for key, x in inputs.items()}
    for key, gradient in found[frozen].items():
        if gradient is None:
            assert key == frozen or frozen == "all but temperature"
        else:
            expected = found["none"][key]
            assert expected is not None
            assert torch.equal(gradient, expected)
    rows = {
        "queries": (300, 310),  # the temperature's gradient comes with that of the queries
        "passages": (300, 0),
        "temperature": (300, 310),
        "all but temperature": (300, 0),
    }
    assert sizes[-1] == rows[frozen]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cosine", [False, True])
def test_the_operator_computes_what_is_wanted(cosine: bool, dtype: torch.dtype, symmetric: bool) -> None:
    queries, passages = (x.to(dtype) for x in make(300, 310, 20)[:2])
    tensors = (queries, passages, torch.arange(300), torch.ones(300), torch.tensor(0.1))
    both = torch.ops.pyhbt.contrastive_loss(*tensors, 0.2, cosine, symmetric, None, None, True, True)
    for wanted in ((True, False), (False, True), (False, False)):
        found = torch.ops.pyhbt.contrastive_loss(*tensors, 0.2, cosine, symmetric, None, None, *wanted)
        assert torch.equal(found[0], both[0])
        assert torch.equal(found[1], both[1])
        for want, gradient, expected in zip(wanted, found[2:4], both[2:4], strict=True):
            assert torch.equal(gradient, expected) if want else len(gradient) == 0
        assert torch.equal(found[4], both[4] if wanted[0] else torch.zeros_like(both[4]))


def scalar(loss: Callable[..., torch.Tensor], **options: Any) -> Callable[..., torch.Tensor]:
    """The loss as a function of queries, passages and temperature, its rows summed with weights 1, 2, ..."""

    def value(q: torch.Tensor, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        rows = loss(q, p, temperature=t, **options)
        return (rows * torch.arange(1, rows.numel() + 1).reshape(rows.shape)).sum()

    return value


@pytest.mark.filterwarnings("ignore")  # of torch's own decompositions
@pytest.mark.parametrize("passages", [1, 7])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_forward_mode(symmetric: bool, reduction: str, passages: int) -> None:
    forward_ad: Any = torch.autograd.forward_ad
    generator = torch.Generator().manual_seed(0)
    n = min(5, passages)
    primals = [torch.randn(n, 4, generator=generator), torch.randn(passages, 4, generator=generator)]
    primals.append(torch.tensor(0.6))
    tangents = [torch.randn(x.shape, generator=generator) for x in primals]
    options = {"reduction": reduction, "symmetric": symmetric, "similarity": "cosine"}
    inputs = [x.double().requires_grad_() for x in primals]
    gradients = torch.autograd.grad(scalar(reference.contrastive_loss, **options)(*inputs), inputs)
    truth = sum(float((g * t).sum()) for g, t in zip(gradients, tangents, strict=True))
    function = scalar(contrastive_loss, **options)
    functional = torch.func.jvp(function, tuple(primals), tuple(tangents))[1]
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(primals, tangents, strict=True)]
        dual = forward_ad.unpack_dual(function(*duals)).tangent
        with_graph = [x.requires_grad_() for x in duals]
        other = forward_ad.unpack_dual(function(*with_graph)).tangent
    for found in (functional, dual, other):
        assert found is not None
        assert float(found.detach()) == pytest.approx(truth, rel=1e-5, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_functional_transforms(reduction: str) -> None:
    queries, passages, generator = make(5, 7, 4)
    temperature = torch.tensor(0.6)
    function = scalar(contrastive_loss, reduction=reduction, similarity="cosine", symmetric=True)
    inputs = [x.clone().requires_grad_() for x in (queries, passages, temperature)]
    expected = torch.autograd.grad(function(*inputs), inputs)
    found = torch.func.grad(function, argnums=(0, 1, 2))(queries, passages, temperature)
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-6)
    stacked = torch.stack([queries, queries + 0.1, queries * 2])
    for call in (function, lambda q, p, t: torch.func.grad(function)(q, p, t)):
        together = torch.func.vmap(call, in_dims=(0, None, None))(stacked, passages, temperature)
        one_by_one = torch.stack([call(q, passages, temperature) for q in stacked])
        torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-6)
    targets = torch.randint(-1, 7, (3, 5), generator=generator)
    together = torch.func.vmap(lambda q, t: contrastive_loss(q, passages, t))(stacked, targets)
    one_by_one = torch.stack(
        [contrastive_loss(q, passages, t) for q, t in zip(stacked, targets, strict=True)]
    )
    torch.testing.assert_close(together, one_by_one)
    functional: Any = torch.func
    hessian = functional.hessian(lambda q: function(q, passages, temperature))(queries.double())
    reverse: Any = torch.autograd.functional
    truth = reverse.hessian(
        lambda q: scalar(
            reference.contrastive_loss, reduction=reduction, similarity="cosine", symmetric=True
        )(q, passages.double(), temperature.double()),
        queries.double(),
    )
    torch.testing.assert_close(hessian, truth)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_vectorized_jacobian(reduction: str) -> None:
    queries, passages, _ = make(5, 7, 4)

    def rows(q: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(q, passages, reduction=reduction).reshape(-1)

    reverse: Any = torch.autograd.functional
    slow, fast = (reverse.jacobian(rows, queries, vectorize=v) for v in (False, True))
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_functional_call() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = contrastive_loss(self.head(x), x)
            return loss

    model, (x, _, _) = Model(), make(5, 5, 4)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    found = torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)))(parameters)
    model(x).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_transforms_check_values_too() -> None:
    queries, passages, _ = make(4, 5, 3)
    with pytest.raises(ValueError, match="positives: found 9 in row 1, expected -1 or an index below 5"):
        torch.func.grad(lambda q: contrastive_loss(q, passages, torch.tensor([0, 9, 1, 2])))(queries)
    with pytest.raises(ValueError, match=r"temperature: found -1\.0, expected a finite number above 0"):
        torch.func.grad(lambda t: contrastive_loss(queries, passages, temperature=t))(torch.tensor(-1.0))
    with pytest.raises(ValueError, match="weights: found a tensor that requires a gradient"):
        torch.func.jvp(
            lambda w: contrastive_loss(queries, passages, weights=w), (torch.ones(4),), (torch.ones(4),)
        )
