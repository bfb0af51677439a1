"""Gradient caching: equal to the plain step, with dropout, mixed precision, accumulation and every objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder, LoraOptions, load_encoder
from pyhbt.training.batches import BatchOfOne, PairCollator
from pyhbt.training.gradient_cache import GradientCache, RandomState
from pyhbt.training.objectives import Objective
from pyhbt.training.trainer import HybridTrainer
from tests.toy import save_tiny_bert
from tests.training.test_trainer import PAIRS, arguments, small_ngram


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def without_dropout(encoder: Encoder) -> Encoder:
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    return encoder


def train(
    encoder: Encoder,
    folder: Path,
    mini_batch_size: int | None,
    *,
    objective: Objective | None = None,
    collate_by: int | None = None,
    pairs: PairSet = PAIRS,
    **options: Any,
) -> tuple[list[float], dict[str, Tensor], float]:
    """Losses, weights and temperature after three steps of SGD, whose steps are proportional to the gradient."""
    options = {"max_steps": 3, "max_grad_norm": 0.0, "lr_scheduler_type": "constant", "seed": 5} | options
    trainer = HybridTrainer(
        encoder,
        arguments(folder, optim="sgd", learning_rate=0.5, **options),
        pairs,
        objective=objective,
        mini_batch_size=mini_batch_size,
    )
    if collate_by is not None:
        trainer.data_collator = BatchOfOne(PairCollator(encoder, collate_by))
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}
    return losses, weights, trainer.temperature


def assert_equal(first: Any, second: Any, atol: float = 1e-5) -> None:
    assert first[0] == pytest.approx(second[0], abs=atol)
    assert first[2] == pytest.approx(second[2], abs=atol)
    for name, value in first[1].items():
        torch.testing.assert_close(value, second[1][name], atol=atol, rtol=0, msg=name)


@pytest.mark.parametrize("mini_batch_size", [1, 3, 7, 16, 100])
def test_equal_to_the_plain_step(mini_batch_size: int, tmp_path: Path, bert: Path) -> None:
    plain, cached = (
        train(without_dropout(load_encoder(bert)), tmp_path, size) for size in (None, mini_batch_size)
    )
    assert_equal(cached, plain)
    start = load_encoder(bert).state_dict()
    assert max((cached[1][name] - value).abs().max() for name, value in start.items()) > 1e-3


@pytest.mark.parametrize(
    "objective",
    [
        Objective(symmetric=True),
        Objective(matryoshka_dims=(8, 32)),
        Objective(0.2, learn_temperature=True),
        Objective(parallel_passages=1, alignment_weight=0.5, js_weight=0.5),
    ],
)
def test_every_objective(objective: Objective, tmp_path: Path, bert: Path) -> None:
    plain, cached = (
        train(without_dropout(load_encoder(bert)), tmp_path, size, objective=objective) for size in (None, 5)
    )
    assert_equal(cached, plain)
    if objective.learn_temperature:
        assert abs(cached[2] - 0.2) > 1e-3


def test_dropout_is_drawn_again(tmp_path: Path, bert: Path) -> None:
    """With the mini-batches of the cached step in one graph, a plain step draws the same dropout."""
    cached = train(load_encoder(bert), tmp_path, 3)
    plain = train(load_encoder(bert), tmp_path, None, collate_by=3)
    assert_equal(cached, plain)
    undropped = train(without_dropout(load_encoder(bert)), tmp_path, 3)
    assert abs(cached[0][0] - undropped[0][0]) > 1e-3  # dropout was on


def test_accumulated(tmp_path: Path, bert: Path) -> None:
    plain, cached = (
        train(without_dropout(load_encoder(bert)), tmp_path, size, gradient_accumulation_steps=2)
        for size in (None, 3)
    )
    assert_equal(cached, plain)


def test_mixed_precision(tmp_path: Path, bert: Path) -> None:
    """bfloat16 rounds each mini-batch's weight gradient: equal to a few of its steps of 2^-8."""
    full, plain, cached = (
        train(without_dropout(load_encoder(bert)), tmp_path, size, collate_by=3, bf16=bf16)
        for size, bf16 in ((None, False), (None, True), (3, True))
    )
    assert cached[0][0] == plain[0][0]  # the same mini-batches give the same vectors
    assert cached[0] != full[0]
    assert_equal(cached, plain, atol=2e-2)


def test_adapters(tmp_path: Path, bert: Path) -> None:
    def adapted() -> Encoder:
        encoder = without_dropout(load_encoder(bert))
        encoder.add_lora(LoraOptions(2, 16), seed=1)
        return encoder

    plain, cached = (train(adapted(), tmp_path, size) for size in (None, 3))
    assert_equal(cached, plain)
    start = adapted().state_dict()
    moved = {name for name, value in start.items() if not torch.equal(value, plain[1][name])}
    assert moved == {name for name in start if "lora_" in name}


def test_encoder_without_padding(tmp_path: Path) -> None:
    plain, cached = (train(small_ngram(), tmp_path, size) for size in (None, 3))
    assert_equal(cached, plain)


def test_random_state_is_left_as_it_was() -> None:
    state = RandomState(torch.device("cpu"))
    first = torch.rand(3)
    with state():
        assert torch.equal(torch.rand(3), first)
    second = torch.rand(3)
    with state():
        torch.rand(3)
        assert torch.equal(torch.rand(3), second)


def test_all_but_the_last_group_without_sync() -> None:
    weight = torch.ones(2, requires_grad=True)
    mini_batches = [{"x": torch.full((size, 2), float(size))} for size in (2, 1, 3)]
    cache = GradientCache(lambda some: some[0]["x"] * weight, mini_batches, torch.device("cpu"))
    assert cache.vectors.shape == (6, 2)
    assert not cache.vectors.grad_fn
    depth, seen = [0], []

    class NoSync:
        def __enter__(self) -> None:
            depth[0] += 1

        def __exit__(self, *error: object) -> None:
            depth[0] -= 1

    def surrogate(index: int, part: Tensor) -> Tensor:
        seen.append((index, len(part), depth[0]))
        return (mini_batches[index]["x"] * weight * part).sum()

    cache.backward(surrogate, torch.ones(6, 2), lambda loss: loss.backward(), NoSync)
    assert seen == [(0, 2, 1), (1, 1, 1), (2, 3, 0)]
    assert weight.grad is not None
    assert weight.grad.tolist() == [14.0, 14.0]
