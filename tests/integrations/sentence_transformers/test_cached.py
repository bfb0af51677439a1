"""Gradient caching around the fused loss: equal to the loss without it, in any mini-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sentence_transformers", minversion="6.0")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from pyhbt.integrations.sentence_transformers import (
    CachedFusedInBatchLoss,
    FusedInBatchLoss,
    hybrid_dataset,
)
from tests.integrations.sentence_transformers.test_losses import (
    CLOSE,
    HARD,
    PLAIN,
    features,
    gradients,
    same_training,
    tiny_model,
    train,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_trains_as_the_cached_one(folder: Path) -> None:
    same_training(
        folder,
        lambda model: CachedFusedInBatchLoss(model, mini_batch_size=3),
        lambda model: losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3),
        HARD,
        gradient_accumulation_steps=2,
        max_grad_norm=0.5,
    )


def same_gradients(
    found: tuple[torch.Tensor, dict[str, torch.Tensor]],
    expected: tuple[torch.Tensor, dict[str, torch.Tensor]],
) -> None:
    """Up to 1e-5 of all gradients' norm: a bias sums over all tokens terms that all but cancel."""
    torch.testing.assert_close(found[0], expected[0], **CLOSE)
    assert found[1].keys() == expected[1].keys()
    norm = torch.stack([gradient.norm() for gradient in expected[1].values()]).norm()
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).norm()) <= 1e-5 * float(norm), name


OPTIONS: list[dict[str, Any]] = [
    {},
    {"learnable_temperature": True, "temperature": 0.2},
    {"symmetric": True, "learnable_temperature": True},
    {"margin": -0.05},
    {"group_labels": True, "similarity": "dot"},
]


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cached_equals_uncached(folder: Path, options: dict[str, Any], size: int) -> None:
    model = tiny_model(folder, dropout=False)
    batch, labels = features(model, HARD, range(size)), torch.arange(size) // 2
    plain = gradients(FusedInBatchLoss(model, **options), batch, labels, times=3)
    for mini_batch_size in (4, 32):
        cached = CachedFusedInBatchLoss(model, mini_batch_size=mini_batch_size, **options)
        same_gradients(gradients(cached, batch, labels, times=3), plain)
    tokens = CachedFusedInBatchLoss(model, mini_batch_num_tokens=60, **options)
    same_gradients(gradients(tokens, batch, labels, times=3), plain)
    with torch.no_grad():
        torch.testing.assert_close(cached([dict(column) for column in batch], labels), plain[0], **CLOSE)


def test_cached_equals_uncached_with_dropout(folder: Path) -> None:
    model = tiny_model(folder)
    model.train()
    batch = features(model, PLAIN, range(8))
    plain = gradients(FusedInBatchLoss(model), batch)
    same_gradients(gradients(CachedFusedInBatchLoss(model, mini_batch_size=8), batch), plain)
    model.eval()
    assert abs(float(gradients(FusedInBatchLoss(model), batch)[0] - plain[0])) > 1e-4  # dropout was on


@pytest.mark.parametrize("weights", [None, [0.5, 2.0]])
def test_a_learnable_temperature_inside_matryoshka(folder: Path, weights: list[float] | None) -> None:
    model = tiny_model(folder, dropout=False)
    batch = features(model, HARD, range(8))
    found = []
    for make, options in ((FusedInBatchLoss, {}), (CachedFusedInBatchLoss, {"mini_batch_size": 3})):
        inner = make(model, learnable_temperature=True, **options)
        wrapped = losses.MatryoshkaLoss(model, inner, [32, 4], weights)
        found.append(gradients(wrapped, batch, times=2))
    assert any(name.endswith("log_bias") for name in found[0][1])
    same_gradients(found[1], found[0])


def test_model_card_names_the_loss(folder: Path, tmp_path: Path) -> None:
    model = tiny_model(folder)
    loss = CachedFusedInBatchLoss(model, symmetric=True)
    _, _, trainer = train(tmp_path, model, loss, hybrid_dataset(PLAIN), max_steps=1)
    trainer.save_model(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert '"temperature": 0.05' in card
    assert '"symmetric": true' in card
    assert "gao2021gradcache" in card
    assert "oord2018cpc" in FusedInBatchLoss(model).citation


@pytest.mark.parametrize("mini_batch_size", [1, 3, 5, 6, 100])
def test_no_more_texts_are_embedded_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mini_batch_size: int
) -> None:
    """Each text twice: without a graph, then with one."""
    model = tiny_model(folder, dropout=False)
    seen: list[tuple[int, bool]] = []
    forward = SentenceTransformer.forward

    def counted(self: SentenceTransformer, inputs: dict[str, Any], **options: Any) -> Any:
        seen.append((len(inputs["input_ids"]), torch.is_grad_enabled()))
        return forward(self, inputs, **options)

    monkeypatch.setattr(SentenceTransformer, "forward", counted)
    batch = features(model, PLAIN, range(6))
    gradients(CachedFusedInBatchLoss(model, mini_batch_size=mini_batch_size), batch)
    assert max(count for count, _ in seen) == min(6, mini_batch_size)
    for with_graph in (False, True):
        assert sum(count for count, graph in seen if graph == with_graph) == 2 * 6
    seen.clear()
    with torch.no_grad():
        CachedFusedInBatchLoss(model, mini_batch_size=mini_batch_size)([dict(one) for one in batch])
    assert sum(count for count, _ in seen) == 2 * 6  # once


def test_the_loss_alone_has_no_gradient(folder: Path) -> None:
    model = tiny_model(folder, dropout=False)
    loss = CachedFusedInBatchLoss(model, mini_batch_size=2, learnable_temperature=True)
    batch = features(model, PLAIN, range(3))
    with torch.no_grad():
        assert not loss([dict(column) for column in batch]).requires_grad
    embeddings = [[torch.randn(2, 4), torch.randn(1, 4)] for _ in range(2)]
    plain = loss.calculate_loss(embeddings)
    whole = FusedInBatchLoss(model).compute_loss_from_embeddings([torch.cat(column) for column in embeddings])
    torch.testing.assert_close(plain.detach(), whole.detach(), **CLOSE)


def test_the_graph_that_is_left_leads_to_the_temperature(folder: Path) -> None:
    """``calculate_loss`` with its backward done: value and gradient of the plain loss."""
    loss = CachedFusedInBatchLoss(tiny_model(folder), learnable_temperature=True, temperature=0.3)
    column = [torch.randn(2, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)]
    other = [torch.randn(5, 4, requires_grad=True)]
    left = loss.calculate_loss([column, other], with_backward=True)
    given = [part.grad.clone() for part in (*column, *other) if part.grad is not None]
    (found,) = torch.autograd.grad(left, [loss._temperature.log_bias])
    for part in (*column, *other):
        part.grad = None
    plain = loss.compute_loss_from_embeddings([torch.cat(column), *other])
    expected = torch.autograd.grad(plain, [loss._temperature.log_bias, *column, *other])
    torch.testing.assert_close(left, plain)
    torch.testing.assert_close([found, *given], list(expected))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mini_batch_size": 0}, "mini_batch_size: found 0, expected at least 1"),
        ({"mini_batch_num_tokens": -1}, "mini_batch_num_tokens: found -1, expected at least 1"),
        ({"temperature": 0.0}, "temperature: found 0.0, expected a finite number above 0"),
        ({"similarity": "l2"}, "similarity: found 'l2', expected one of cosine, dot"),
    ],
)
def test_mistakes(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CachedFusedInBatchLoss(tiny_model(folder), **options)


def test_inputs_that_cannot_be_split_are_refused(folder: Path) -> None:
    tokenizer = tiny_model(folder).tokenizer
    static = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    with pytest.raises(ValueError, match="model: found a StaticEmbedding, expected inputs that can be split"):
        CachedFusedInBatchLoss(static)


def test_what_the_model_card_says(folder: Path) -> None:
    model = tiny_model(folder)
    loss = CachedFusedInBatchLoss(model, 0.2, mini_batch_num_tokens=9, margin=0.1)
    expected = FusedInBatchLoss(model, 0.2, margin=0.1).get_config_dict()
    assert loss.get_config_dict() == {**expected, "mini_batch_size": 32, "mini_batch_num_tokens": 9}
