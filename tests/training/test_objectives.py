"""Objective: each term against its formula in float64, gradients, options, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import NgramEncoder
from pyhbt.training.batches import Batch, Examples, PairCollator
from pyhbt.training.objectives import Objective

TEMPERATURE = 0.1


def batch(n: int, translated: int = 0, parallel: int = 0, negatives: int = 0) -> Batch:
    pairs = [
        Pair(
            f"q{i}",
            f"p{i}",
            "en",
            "en",
            f"g{i // 2}" if parallel == 0 else f"g{i}",
            tuple(f"n{i}{j}" for j in range(negatives)),
            parallel_query=f"t{i}" if i < translated else None,
            parallel_passages=tuple(f"x{i}{j}" for j in range(parallel if i % 2 == 0 else 0)),
        )
        for i in range(n)
    ]
    found = PairSet.from_pairs(pairs)
    return PairCollator(NgramEncoder(dim=2))(Examples(pairs, found.group_ids[found.groups]))


def vectors(inputs: Batch, dim: int = 12, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(0)
    return F.normalize(torch.randn(len(inputs["order"]), dim, dtype=dtype), dim=1).requires_grad_()


def info_nce(x: Tensor, inputs: Batch, temperature: float = TEMPERATURE) -> Tensor:
    """Row by row from the definition, in float64."""
    n, t = inputs["num_queries"], len(inputs["translated"])
    queries, passages = x[:n], x[n + t :]
    by_query: list[list[Tensor]] = [[] for _ in range(n)]
    for query, positive in zip(inputs["query_of"].tolist(), inputs["positives"].tolist(), strict=True):
        scores = passages @ queries[query] / temperature
        kept = (inputs["passage_groups"] != inputs["query_groups"][query]) | (inputs["passage_groups"] < 0)
        kept[positive] = True
        by_query[query].append(scores[kept].logsumexp(0) - scores[positive])
    return torch.stack([torch.stack(losses).mean() for losses in by_query]).mean()


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("negatives", [0, 2])
@pytest.mark.parametrize("parallel", [0, 1, 3])
def test_contrastive(n: int, negatives: int, parallel: int) -> None:
    inputs = batch(n, parallel=parallel, negatives=negatives)
    x = vectors(inputs)
    found = Objective(TEMPERATURE).loss(x, inputs, TEMPERATURE)
    expected = info_nce(x, inputs)
    torch.testing.assert_close(found.value, expected)
    gradients = [torch.autograd.grad(value, x)[0] for value in (found.value, expected)]
    torch.testing.assert_close(*gradients)
    assert found.terms == {}


def test_symmetric_is_the_mean_of_both_directions() -> None:
    inputs = batch(6, parallel=1)
    x = vectors(inputs)
    n = inputs["num_queries"]
    queries, passages = x[:n][inputs["query_of"]], x[n:]
    weights = 1 / torch.bincount(inputs["query_of"]).double()[inputs["query_of"]] / n
    scores = passages[inputs["positives"]] @ queries.T / TEMPERATURE
    own = torch.eye(len(queries), dtype=torch.bool)
    same = (
        inputs["passage_groups"][inputs["positives"]][:, None] == inputs["query_groups"][inputs["query_of"]]
    )
    masked = scores.masked_fill(same & ~own, -torch.inf)
    back = ((masked.logsumexp(1) - scores.diagonal()) * weights).sum()
    found = Objective(TEMPERATURE, symmetric=True).loss(x, inputs, TEMPERATURE)
    torch.testing.assert_close(found.value, (info_nce(x, inputs) + back) / 2)


def test_matryoshka_is_the_mean_over_dims_of_unit_prefixes() -> None:
    inputs = batch(5, negatives=1)
    x = vectors(inputs)
    expected = torch.stack([info_nce(F.normalize(x[:, :dim], dim=1), inputs) for dim in (3, 12)]).mean()
    found = Objective(TEMPERATURE, matryoshka_dims=(3, 12)).loss(x, inputs, TEMPERATURE)
    torch.testing.assert_close(found.value, expected)


def test_alignment_pulls_translations_together() -> None:
    inputs = batch(4, translated=3, parallel=2)
    x = vectors(inputs)
    n, t = 4, 3
    pairs = [(x[i], x[n + i]) for i in range(t)]
    pairs += [
        (x[n + t + query], x[n + t + positive])
        for query, positive in zip(inputs["query_of"].tolist(), inputs["positives"].tolist(), strict=True)
        if positive >= n
    ]
    assert len(pairs) == 3 + 4
    distance = torch.stack([(a - b).square().sum() for a, b in pairs]).mean()
    found = Objective(TEMPERATURE, alignment_weight=0.3, parallel_passages=2).loss(x, inputs, TEMPERATURE)
    torch.testing.assert_close(found.value, info_nce(x, inputs) + 0.3 * distance)
    torch.testing.assert_close(found.terms["alignment"], distance.detach())
    torch.testing.assert_close(found.terms["contrastive"], info_nce(x, inputs).detach())


@pytest.mark.parametrize("n", [1, 3, 300])  # 300: more rows than are scored at a time
def test_js_divergence(n: int) -> None:
    inputs = batch(n, translated=n)
    x = vectors(inputs)
    p = (x[:n] @ x[2 * n :].T / TEMPERATURE).softmax(1)
    q = (x[n : 2 * n] @ x[2 * n :].T / TEMPERATURE).softmax(1)
    mean = (p + q) / 2
    expected = ((p * (p / mean).log()).sum(1) + (q * (q / mean).log()).sum(1)).mean() / 2
    found = Objective(TEMPERATURE, js_weight=2.0).loss(x, inputs, TEMPERATURE)
    torch.testing.assert_close(found.value, info_nce(x, inputs) + 2.0 * expected)
    gradients = [
        torch.autograd.grad(value, x)[0] for value in (found.value, info_nce(x, inputs) + 2.0 * expected)
    ]
    torch.testing.assert_close(*gradients)
    assert 0 <= found.terms["js"] <= torch.log(torch.tensor(2.0))


def test_js_of_equal_translations_is_zero_and_of_opposite_ones_log_2() -> None:
    inputs = batch(2, translated=2)
    unit = torch.eye(2, dtype=torch.float64)
    same = torch.cat([unit, unit, unit])
    swapped = torch.cat([unit, unit.flip(0), unit])
    objective = Objective(0.01, js_weight=1.0)
    assert objective.loss(same, inputs, 0.01).terms["js"] == 0
    torch.testing.assert_close(
        objective.loss(swapped, inputs, 0.01).terms["js"], torch.tensor(2.0, dtype=torch.float64).log()
    )


def test_terms_without_translations_are_zero() -> None:
    inputs = batch(3)
    x = vectors(inputs)
    found = Objective(TEMPERATURE, alignment_weight=1.0, js_weight=1.0).loss(x, inputs, TEMPERATURE)
    torch.testing.assert_close(found.value, info_nce(x, inputs))
    assert found.terms["alignment"] == found.terms["js"] == 0


def test_float32_is_within_its_budget() -> None:
    inputs = batch(40, translated=20, negatives=1)
    x = vectors(inputs, dim=64)
    objective = Objective(TEMPERATURE, alignment_weight=0.1, js_weight=0.5, symmetric=True)
    truth = objective.loss(x, inputs, TEMPERATURE).value
    single = objective.loss(x.detach().float(), inputs, TEMPERATURE).value
    assert single.dtype == torch.float32
    assert abs(single.item() - truth.item()) < 4e-6  # 10 x the rounding of one score of size 1 / temperature


def test_gradient_of_a_learnt_temperature() -> None:
    inputs = batch(5, translated=5)
    x = vectors(inputs)
    temperature = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    objective = Objective(0.2, learn_temperature=True, js_weight=1.0)
    (gradient,) = torch.autograd.grad(objective.loss(x, inputs, temperature).value, temperature)
    step = 1e-6
    high, low = (info_nce(x, inputs, 0.2 + sign * step) for sign in (1, -1))  # js does not count: no gradient
    torch.testing.assert_close(gradient, (high - low) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: found 0.0, expected a number above 0"),
        ({"temperature": float("nan")}, "temperature: found nan"),
        (
            {"temperature": 0.005, "learn_temperature": True},
            "temperature: found 0.005, expected at least 0.01",
        ),
        ({"alignment_weight": -1.0}, "alignment_weight: found -1.0"),
        ({"js_weight": float("inf")}, "js_weight: found inf"),
        ({"parallel_passages": -1}, "parallel_passages: found -1"),
        ({"matryoshka_dims": (4, 0)}, r"matryoshka_dims: found \[4, 0\]"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**options)


def test_matryoshka_dims_fit_the_embeddings() -> None:
    inputs = batch(2)
    with pytest.raises(ValueError, match="matryoshka_dims: found 13, expected at most 12"):
        Objective(matryoshka_dims=(13,)).loss(vectors(inputs), inputs, 0.1)
