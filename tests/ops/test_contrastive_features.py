"""Cosine, margin, weights, learnable temperature, higher derivatives: kernel and torch panels against the twin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from pyhbt.ops import contrastive_loss, reference
from tests.losses import ORDINARY, REDUCTIONS, check, make, relative_error, with_gradients


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("n", "m", "dim"), [(1, 1, 1), (7, 9, 5), (33, 33, 24), (129, 200, 31), (300, 517, 65)]
)
def test_cosine(n: int, m: int, dim: int, symmetric: bool) -> None:
    queries, passages, generator = make(n, m, dim)
    queries, passages = 3 * queries, 0.2 * passages
    check(queries, passages, temperature=0.2, similarity="cosine", symmetric=symmetric, reduction="mean")
    positives = torch.randint(-1, m, (n,), generator=generator)
    check(
        queries,
        passages,
        positives,
        temperature=0.2,
        similarity="cosine",
        symmetric=symmetric,
        reduction="none",
    )


def test_cosine_is_dot_of_normalised_rows() -> None:
    queries, passages, _ = make(33, 40, 24)
    found = with_gradients(contrastive_loss, queries, passages, similarity="cosine")

    def by_hand(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(normalize(q, dim=1), normalize(p, dim=1))

    truth = with_gradients(by_hand, queries.double(), passages.double())
    for value, expected in zip(found, truth, strict=True):
        assert relative_error(value, expected) <= 2 * ORDINARY


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosine_of_zero_and_tiny_rows(dtype: torch.dtype) -> None:
    queries, passages, _ = make(9, 9, 8)
    queries[3], passages[4] = 0, 0
    queries[5] = torch.finfo(torch.float32).tiny  # norm below the 1e-12 that rows are divided by at least
    check(queries.to(dtype), passages.to(dtype), temperature=0.5, similarity="cosine", reduction="mean")
    _, grad_queries, _ = with_gradients(contrastive_loss, queries, passages, similarity="cosine")
    assert float(grad_queries[3].norm()) > 1e9  # as through torch.nn.functional.normalize: divided by 1e-12


def near_duplicates(n: int, m: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some passages are closer to a query than its positive, all by clear margins."""
    generator = torch.Generator().manual_seed(0)
    queries = normalize(torch.randn(n, dim, generator=generator))
    passages = normalize(queries[torch.arange(m) % n] + 0.1 * torch.randn(m, dim, generator=generator))
    return queries, passages


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("margin", [-0.3, 0.0, 0.02])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_margin_leaves_out_passages_above_the_positive(
    margin: float, symmetric: bool, similarity: str
) -> None:
    queries, passages = near_duplicates(67, 150, 40)
    similarities = queries.double() @ passages.double().T
    excess = similarities - similarities.diagonal()[:, None] - margin
    assert (
        float(excess.abs().flatten().kthvalue(68 if margin == 0 else 1).values) > 1e-6
    )  # no case is undecided
    assert int((excess > 1e-6).sum()) >= 10
    kwargs: dict[str, Any] = {"similarity": similarity, "symmetric": symmetric, "margin": margin}
    kwargs["ordinary"] = 1e-6  # near duplicates cancel in the gradient
    check(queries, passages, temperature=0.1, reduction="none", **kwargs)
    positives = torch.arange(67).clamp(max=60)
    positives[::9] = -1
    check(queries, passages, positives, temperature=0.1, reduction="mean", **kwargs)


def test_left_out_pairs_get_no_gradient() -> None:
    queries, passages = torch.eye(3, 4), torch.eye(3, 4)
    passages = torch.cat([passages, 2 * queries[:1]])  # closer to query 0 than its positive
    _, _, filtered = with_gradients(contrastive_loss, queries, passages, margin=0.5, temperature=1)
    assert filtered[3, 0] == 0
    _, _, plain = with_gradients(contrastive_loss, queries, passages, temperature=1)
    assert plain[3, 0] > 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_weights(reduction: str, symmetric: bool) -> None:
    queries, passages, generator = make(33, 40, 24)
    positives = torch.randint(-1, 40, (33,), generator=generator)
    weights = torch.rand(33, generator=generator)
    weights[::5] = 0
    check(
        queries,
        passages,
        positives,
        temperature=0.3,
        symmetric=symmetric,
        weights=weights,
        reduction=reduction,
    )


def test_mean_divides_by_the_sum_of_weights() -> None:
    queries, passages, _ = make(4, 4, 8)
    rows = contrastive_loss(queries, passages, reduction="none")
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0])
    assert torch.allclose(contrastive_loss(queries, passages, weights=weights), (rows * weights).sum() / 4)
    ones = contrastive_loss(queries, passages, weights=torch.ones(4))
    assert torch.equal(ones, contrastive_loss(queries, passages))
    assert contrastive_loss(queries, passages, weights=torch.zeros(4)) == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_learnable_temperature(reduction: str, similarity: str, symmetric: bool, dtype: torch.dtype) -> None:
    queries, passages, generator = make(67, 90, 24)
    weights = torch.randn(67 if reduction == "none" else 1, generator=generator).squeeze()

    def gradient(loss: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        # Learnt as CLIP does: the logarithm of 1 / temperature.
        log_scale = torch.tensor([1.2], dtype=dtype, requires_grad=True)
        inputs = queries.to(dtype), passages.to(dtype)
        value = loss(
            *inputs,
            temperature=torch.exp(-log_scale),
            similarity=similarity,
            symmetric=symmetric,
            reduction=reduction,
        )
        (value * weights.to(dtype)).sum().backward()
        assert log_scale.grad is not None
        return value.detach(), log_scale.grad

    value, found = gradient(contrastive_loss, dtype)
    truth_value, truth = gradient(reference.contrastive_loss, torch.float64)
    assert relative_error(value, truth_value) <= ORDINARY
    assert found.shape == (1,)
    assert found.dtype == dtype
    assert relative_error(found, truth) <= 10 * ORDINARY  # a sum over pairs of both signs


def test_temperature_alone_needs_a_gradient() -> None:
    queries, passages, _ = make(9, 9, 8)
    temperature = torch.tensor(0.3, requires_grad=True)
    contrastive_loss(queries, passages, temperature=temperature).backward()  # type: ignore[no-untyped-call]
    assert temperature.grad is not None
    fixed = contrastive_loss(queries, passages, temperature=0.3)
    assert float(contrastive_loss(queries, passages, temperature=temperature.detach())) == pytest.approx(
        float(fixed), rel=1e-6
    )


@pytest.mark.parametrize("temperature", [1e-30, 1e-4, 1e4, 1e30, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    queries, passages, _ = make(31, 33, 24)
    found = with_gradients(contrastive_loss, queries, passages, temperature=temperature)
    truth = with_gradients(
        reference.contrastive_loss, queries.double(), passages.double(), temperature=temperature
    )
    assert float(found[0]) == pytest.approx(float(truth[0]), rel=1e-5)
    if 1e-4 <= temperature <= 1e30:  # beyond, float32 holds no gradient
        for value, expected in zip(found[1:], truth[1:], strict=True):
            torch.testing.assert_close(
                value.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
            )


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    extra=st.integers(0, 20),
    dim=st.integers(1, 40),
    cosine=st.booleans(),
    symmetric=st.booleans(),
    grouped=st.booleans(),
    weighted=st.booleans(),
    reduction=st.sampled_from(REDUCTIONS),
    seed=st.integers(0, 1000),
)
def test_any_features_together(
    n: int,
    extra: int,
    dim: int,
    cosine: bool,
    symmetric: bool,
    grouped: bool,
    weighted: bool,
    reduction: str,
    seed: int,
) -> None:
    m = n + extra
    queries, passages, generator = make(n, m, dim, seed)
    positives = torch.randint(-1, m, (n,), generator=generator)
    kwargs: dict[str, Any] = {"similarity": "cosine" if cosine else "dot", "symmetric": symmetric}
    if grouped:
        kwargs["query_groups"] = torch.randint(-1, 3, (n,), generator=generator)
        kwargs["passage_groups"] = torch.randint(-1, 3, (m,), generator=generator)
    if weighted:
        kwargs["weights"] = torch.rand(n, generator=generator)
    check(queries, passages, positives, temperature=0.5, reduction=reduction, **kwargs)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_numbers_spread_as_in_cross_entropy(bad: float, symmetric: bool) -> None:
    for side in (0, 1):
        inputs = [*make(9, 9, 8)[:2]]
        inputs[side][4, 3] = bad
        rows = contrastive_loss(*inputs, symmetric=symmetric, reduction="none")
        scores = inputs[0] @ inputs[1].T / 0.05
        labels = torch.arange(9)
        expected = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
        if symmetric:
            expected = (expected + torch.nn.functional.cross_entropy(scores.T, labels, reduction="none")) / 2
        torch.testing.assert_close(rows, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
