"""The fused losses in sentence-transformers' own trainer, beside the losses that they replace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sentence_transformers", minversion="6.0")

from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.modules import (
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
)
from sentence_transformers.util import dot_score
from transformers import TrainerCallback

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.integrations.sentence_transformers import (
    CachedFusedInBatchLoss,
    FusedInBatchLoss,
    TemperatureCallback,
    hybrid_dataset,
)
from pyhbt.ops import reference
from tests.toy import parallel_items, save_tiny_bert

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
ITEMS = parallel_items(40, ("aa", "bb"))
PLAIN = PairSet.from_pairs(
    Pair(item.queries["aa"], item.passages["bb"], "aa", "bb", item.group) for item in ITEMS
)
HARD = PairSet.from_pairs(
    Pair(
        item.queries["aa"],
        item.passages["aa"],
        "aa",
        "aa",
        item.group,
        (ITEMS[row - 1].passages["aa"] + " x", ITEMS[row - 2].passages["bb"]),
    )
    for row, item in enumerate(ITEMS)
)


def tiny_model(folder: Path, *, dropout: bool = True) -> SentenceTransformer:
    bert = folder / "bert"
    if not bert.exists():
        save_tiny_bert(bert)
    torch.manual_seed(0)  # a pooler, which nothing uses, is made anew
    encoder = Transformer(str(bert))
    modules = [encoder, Pooling(encoder.get_embedding_dimension()), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu")
    if not dropout:
        without_dropout(model)
    return model


def without_dropout(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def arguments(output: Path, **others: Any) -> SentenceTransformerTrainingArguments:
    options: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": 8,
        "max_steps": 5,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return SentenceTransformerTrainingArguments(**(options | others))


def train(
    output: Path, model: SentenceTransformer, loss: torch.nn.Module, dataset: Dataset, **others: Any
) -> tuple[list[float], dict[str, torch.Tensor], SentenceTransformerTrainer]:
    resume = others.pop("resume_from_checkpoint", None)
    callbacks = others.pop("callbacks", [])
    trainer = SentenceTransformerTrainer(
        model, arguments(output, **others), train_dataset=dataset, loss=loss, callbacks=callbacks
    )
    trainer.train(resume_from_checkpoint=resume)
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return logged, {name: value.detach() for name, value in model.state_dict().items()}, trainer


def same_training(
    folder: Path,
    ours: Callable[[SentenceTransformer], torch.nn.Module],
    theirs: Callable[[SentenceTransformer], torch.nn.Module],
    pairs: PairSet,
    **others: Any,
) -> None:
    """Losses of every step and final weights, dropout on: both draw the same masks.

    SGD, since Adam makes whole steps of the rounding of gradients that are almost 0.
    """
    results = []
    others = {"optim": "sgd", "learning_rate": 0.05} | others
    for make in (ours, theirs):
        model = tiny_model(folder)
        results.append(train(folder / "out", model, make(model), hybrid_dataset(pairs), **others))
    assert len(results[0][0]) == 5
    assert results[0][0][0] != pytest.approx(results[0][0][-1], abs=1e-4)  # something was learned
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], **CLOSE)


THEIRS = losses.MultipleNegativesRankingLoss
PER_DIRECTION = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}


@pytest.mark.parametrize("pairs", [PLAIN, HARD], ids=["pairs", "hard negatives"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"temperature": 0.05}, {"scale": 20.0}),
        ({"temperature": 0.1, "symmetric": True}, {"scale": 10.0} | PER_DIRECTION),
        ({"temperature": 0.5, "similarity": "dot"}, {"scale": 2.0, "similarity_fct": dot_score}),
    ],
    ids=["cosine", "symmetric", "dot"],
)
def test_trains_as_multiple_negatives_ranking_loss(
    folder: Path, ours: dict[str, Any], theirs: dict[str, Any], pairs: PairSet
) -> None:
    same_training(
        folder, lambda model: FusedInBatchLoss(model, **ours), lambda model: THEIRS(model, **theirs), pairs
    )


def test_trains_as_the_cached_one(folder: Path) -> None:
    same_training(
        folder,
        lambda model: CachedFusedInBatchLoss(model, mini_batch_size=3),
        lambda model: losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3),
        HARD,
        gradient_accumulation_steps=2,
        max_grad_norm=0.5,
    )


@pytest.mark.parametrize("cached", [False, True])
def test_trains_as_theirs_inside_matryoshka(folder: Path, cached: bool) -> None:
    options = {"matryoshka_dims": [32, 8, 5], "matryoshka_weights": [1, 0.5, 2]}
    ours, theirs = (
        (CachedFusedInBatchLoss, losses.CachedMultipleNegativesRankingLoss)
        if cached
        else (FusedInBatchLoss, losses.MultipleNegativesRankingLoss)
    )
    sizes = {"mini_batch_size": 3} if cached else {}
    same_training(
        folder,
        lambda model: losses.MatryoshkaLoss(model, ours(model, **sizes), **options),
        lambda model: losses.MatryoshkaLoss(model, theirs(model, **sizes), **options),
        HARD,
    )


def features(model: SentenceTransformer, pairs: PairSet, rows: range) -> list[dict[str, torch.Tensor]]:
    chosen = [pairs[row] for row in rows]
    columns = [[pair.query for pair in chosen], [pair.passage for pair in chosen]]
    columns += [[pair.negatives[place] for pair in chosen] for place in range(len(chosen[0].negatives))]
    return [model.preprocess(column) for column in columns]


def gradients(
    loss: torch.nn.Module,
    batch: list[dict[str, torch.Tensor]],
    labels: torch.Tensor | None = None,
    *,
    times: float = 1,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss.zero_grad()
    torch.manual_seed(5)
    value = loss([dict(column) for column in batch], labels)
    (value * times).backward()
    found = {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}
    return value.detach(), found


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


def test_groups_mask_false_negatives_and_hard_negatives_have_none(folder: Path) -> None:
    model = tiny_model(folder, dropout=False)
    batch = features(model, HARD, range(6))
    labels = torch.tensor([3, 3, -1, -1, 0, 3])
    vectors = [model(dict(column))["sentence_embedding"].detach() for column in batch]
    for options in ({}, {"symmetric": True}, {"margin": 0.01}):
        expected = reference.contrastive_loss(
            vectors[0],
            torch.cat(vectors[1:]),
            temperature=0.05,
            similarity="cosine",
            query_groups=labels,
            passage_groups=torch.cat([labels, torch.full((12,), -1)]),
            **options,
        )
        grouped = FusedInBatchLoss(model, group_labels=True, **options)
        torch.testing.assert_close(grouped(batch, labels).detach(), expected, **CLOSE)
        ungrouped = FusedInBatchLoss(model, **options)
        assert float(ungrouped(batch, labels).detach()) > float(expected) + 1e-3
        assert float(ungrouped(batch, labels).detach()) == float(ungrouped(batch, None).detach())


def test_groups_reach_the_loss_through_the_trainer(folder: Path) -> None:
    """Texts of one group in every batch: with groups there are no negatives but the hard ones."""
    one_group = PairSet.from_pairs(
        Pair(pair.query, pair.passage, "aa", "aa", "g", pair.negatives[:1]) for pair in HARD
    )
    model = tiny_model(folder)
    loss = FusedInBatchLoss(model, group_labels=True)
    logged, _, _ = train(
        folder / "out", model, loss, hybrid_dataset(one_group, group_labels=True), max_steps=1
    )
    plain, _, _ = train(
        folder / "out", tiny_model(folder), FusedInBatchLoss(model), hybrid_dataset(one_group), max_steps=1
    )
    assert logged[0] < plain[0] - 0.3
    with pytest.raises(ValueError, match="labels: found None, expected a label column"):
        train(folder / "out", model, loss, hybrid_dataset(one_group), max_steps=1)


def test_temperature_is_trained_without_decay(folder: Path) -> None:
    model = tiny_model(folder)
    loss = FusedInBatchLoss(model, 0.3, learnable_temperature=True)
    options = {"weight_decay": 0.1, "learning_rate_mapping": {"log_bias": 0.02}}
    _, _, trainer = train(folder / "out", model, loss, hybrid_dataset(PLAIN), **options)
    assert loss.temperature != pytest.approx(0.3, rel=1e-3)
    assert loss.get_config_dict()["temperature"] == loss.temperature
    (own,) = [
        group
        for group in trainer.optimizer.param_groups
        if any(p is loss._temperature.log_bias for p in group["params"])
    ]
    assert own["weight_decay"] == 0.0
    assert own["initial_lr"] == 0.02
    other = FusedInBatchLoss(model, 0.3, learnable_temperature=True)
    other.load_state_dict(loss.state_dict())
    assert other.temperature == loss.temperature


def test_temperature_has_a_floor(folder: Path) -> None:
    model = tiny_model(folder)
    loss = FusedInBatchLoss(model, learnable_temperature=True)
    with torch.no_grad():
        loss._temperature.log_bias.fill_(-50.0)
    assert loss.temperature == pytest.approx(0.01)
    assert torch.isfinite(loss(features(model, PLAIN, range(4)), None))
    assert FusedInBatchLoss(model, 0.004, learnable_temperature=True).temperature == pytest.approx(0.004)


class PowerCut(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.step:
            raise RuntimeError("power failed")


@pytest.mark.parametrize("strategy", ["steps", pytest.param("epoch", marks=pytest.mark.slow)])
def test_temperature_resumes(folder: Path, tmp_path: Path, strategy: str) -> None:
    options = {"save_strategy": strategy, "save_steps": 3, "max_steps": 8, "seed": 4}
    checkpoint = tmp_path / "parts" / ("checkpoint-3" if strategy == "steps" else "checkpoint-5")

    def run(
        output: Path, cut: int, resume: Path | None
    ) -> tuple[list[float], float, dict[str, torch.Tensor]]:
        model = tiny_model(folder)
        loss = FusedInBatchLoss(model, learnable_temperature=True)
        callbacks = [TemperatureCallback(losses.MatryoshkaLoss(model, loss, [32])), PowerCut(cut)]
        resume_from = None if resume is None else str(resume)
        logged, weights, _ = train(
            output,
            model,
            loss,
            hybrid_dataset(PLAIN),
            callbacks=callbacks,
            resume_from_checkpoint=resume_from,
            **options,
        )
        return logged, loss.temperature, weights

    whole = run(tmp_path / "whole", -1, None)
    with pytest.raises(RuntimeError, match="power failed"):
        run(tmp_path / "parts", 6, None)
    resumed = run(tmp_path / "parts", -1, checkpoint)
    assert resumed[:2] == whole[:2]
    assert whole[1] != 0.05
    assert all(torch.equal(resumed[2][name], value) for name, value in whole[2].items())


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


def test_a_copy_keeps_its_own_temperature(folder: Path) -> None:
    loss = FusedInBatchLoss(tiny_model(folder), learnable_temperature=True)
    copied = copy.deepcopy(loss)
    with torch.no_grad():
        loss._temperature.log_bias += 1
    assert copied.temperature == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: found 0.0, expected a finite number above 0"),
        ({"temperature": float("nan")}, "temperature: found nan"),
        ({"similarity": "l2"}, "similarity: found 'l2', expected one of cosine, dot"),
        (
            {"margin": 0.1, "symmetric": True, "gather_across_devices": True},
            "margin: found 0.1, expected None where symmetric scores are gathered",
        ),
        ({"mini_batch_size": 0}, "mini_batch_size: found 0, expected at least 1"),
        ({"mini_batch_num_tokens": -1}, "mini_batch_num_tokens: found -1, expected at least 1"),
    ],
)
def test_mistakes(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CachedFusedInBatchLoss(tiny_model(folder), **options)


def test_mistakes_in_batches_and_models(folder: Path) -> None:
    model = tiny_model(folder)
    loss = FusedInBatchLoss(model, group_labels=True)
    columns = [torch.randn(3, 4), torch.randn(3, 4)]
    with pytest.raises(ValueError, match="columns: found 1, expected at least 2"):
        loss.compute_loss_from_embeddings(columns[:1], None)
    with pytest.raises(ValueError, match=r"columns: found lengths \[3, 2\], expected one length"):
        loss.compute_loss_from_embeddings([columns[0], columns[1][:2]], None)
    for labels in (torch.zeros(3), torch.zeros(4, dtype=torch.int64), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"labels: found .*, expected \(3,\) integer group ids"):
            loss.compute_loss_from_embeddings(columns, labels)
    with pytest.raises(ValueError, match="loss: found 0 learnable temperatures, expected 1"):
        TemperatureCallback(loss)
    static = SentenceTransformer(modules=[StaticEmbedding(model.tokenizer, embedding_dim=8)], device="cpu")
    with pytest.raises(ValueError, match="model: found a StaticEmbedding"):
        CachedFusedInBatchLoss(static)
    assert FusedInBatchLoss(static)(features(static, PLAIN, range(3)), None).item() > 0
