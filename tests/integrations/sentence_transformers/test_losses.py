"""The fused losses in sentence-transformers' own trainer, beside the losses that they replace."""

from __future__ import annotations

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

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.integrations.sentence_transformers import (
    CachedFusedInBatchLoss,
    FusedInBatchLoss,
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


REPEATED = PairSet.from_pairs(
    [
        Pair(
            "who wrote hamlet", "shakespeare wrote hamlet", "aa", "aa", "h", ("goethe wrote faust", "nobody")
        ),
        Pair("who wrote faust", "goethe wrote faust", "aa", "aa", "f", ("shakespeare wrote hamlet", "faust")),
        Pair("who wrote hamlet", "it was shakespeare", "aa", "aa", "s", ("nobody", "goethe did")),
        Pair("author of faust", "goethe wrote faust", "aa", "aa", "f", ("nobody", "it was shakespeare")),
        Pair("author of emma", "austen wrote emma", "aa", "aa", "e", ("william did", "goethe did")),
        Pair("faust who", "goethe did", "aa", "aa", "f", ("nobody", "austen")),  # not in the batch
        Pair("who wrote hamlet", "william did", "aa", "aa", "w", ("nobody", "austen")),  # not in the batch
    ]
)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"margin": 0.01}], ids=str)
@pytest.mark.parametrize("cached", [False, True])
def test_equal_texts_are_one_and_no_answer_is_a_negative(
    folder: Path, cached: bool, options: dict[str, Any], grouped: bool
) -> None:
    model = tiny_model(folder, dropout=False)
    batch, chosen = features(model, REPEATED, range(5)), REPEATED[:5]
    texts = list(
        dict.fromkeys(
            [pair.passage for pair in chosen] + [text for pair in chosen for text in pair.negatives]
        )
    )
    embedded = model(model.preprocess(texts))["sentence_embedding"].detach()
    asked = model(model.preprocess([pair.query for pair in chosen]))["sentence_embedding"].detach()
    plays = {"h": 0, "s": 0, "f": 1, "e": 2}
    answers = {pair.passage: plays[pair.group] for pair in chosen}
    if grouped:  # what the batch does not say
        answers |= {"goethe did": 1, "william did": 0}
    expected = reference.contrastive_loss(
        asked,
        embedded,
        torch.tensor([texts.index(pair.passage) for pair in chosen]),
        temperature=0.05,
        similarity="cosine",
        query_groups=torch.tensor([plays[pair.group] for pair in chosen]),
        passage_groups=torch.tensor([answers.get(text, -1) for text in texts]),
        **options,
    )
    labels = torch.tensor(hybrid_dataset(REPEATED, group_labels=True)["label"][:5])
    make = CachedFusedInBatchLoss if cached else FusedInBatchLoss
    loss = make(model, group_labels=grouped, **options)
    torch.testing.assert_close(loss(batch, labels).detach(), expected, **CLOSE)


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
    ],
)
def test_mistakes(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FusedInBatchLoss(tiny_model(folder), **options)


def test_mistakes_in_batches(folder: Path) -> None:
    loss = FusedInBatchLoss(tiny_model(folder), group_labels=True)
    columns = [torch.randn(3, 4), torch.randn(3, 4)]
    with pytest.raises(ValueError, match="columns: found 1, expected at least 2"):
        loss.compute_loss_from_embeddings(columns[:1], None)
    with pytest.raises(ValueError, match=r"columns: found lengths \[3, 2\], expected one length"):
        loss.compute_loss_from_embeddings([columns[0], columns[1][:2]], None)
    for labels in (torch.zeros(3), torch.zeros(4, dtype=torch.int64), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"labels: found .*, expected \(3,\) integer group ids"):
            loss.compute_loss_from_embeddings(columns, labels)


def test_static_embeddings_are_trained_too(folder: Path) -> None:
    tokenizer = tiny_model(folder).tokenizer
    static = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    assert FusedInBatchLoss(static)(features(static, PLAIN, range(3)), None).item() > 0


def test_what_the_model_card_says(folder: Path) -> None:
    loss = FusedInBatchLoss(tiny_model(folder), 0.2, symmetric=True, margin=0.1)
    assert loss.get_config_dict() == {
        "temperature": 0.2,
        "learnable_temperature": False,
        "similarity": "cosine",
        "symmetric": True,
        "margin": 0.1,
        "group_labels": False,
        "gather_across_devices": False,
    }
    assert "oord2018cpc" in loss.citation
