"""Hybrid batches in sentence-transformers' own trainer: kinds, epochs, resume, evaluation, two processes."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("sentence_transformers", minversion="6.0")

from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.integrations.sentence_transformers import FusedInBatchLoss, HybridBatches, hybrid_dataset
from pyhbt.training.sampling import HybridBatchSampler
from tests.integrations.sentence_transformers.test_losses import arguments, tiny_model, train
from tests.integrations.sentence_transformers.test_temperature import PowerCut
from tests.ranks import run, write_script
from tests.toy import parallel_items

PAIRS = PairSet.from_parallel(parallel_items(24, ("aa", "bb", "cc")))


def kinds_of(texts: list[str]) -> set[str]:
    """Languages of the toy's words, by their endings."""
    return {{"us": "bb", "ek": "cc"}.get(text[-2:], "aa") for text in texts}


class Spy(FusedInBatchLoss):
    """Writes down the languages of every training batch, and its group ids."""

    def __init__(self, model: SentenceTransformer, **options: Any) -> None:
        super().__init__(model, group_labels=True, **options)
        self.tokenizer = model.tokenizer
        self.seen: list[tuple[str, str]] = []
        self.groups: list[list[int]] = []
        self.evaluated: list[list[int]] = []

    def forward(self, sentence_features: Any, labels: Tensor | None = None) -> Tensor:
        columns = list(sentence_features)
        assert labels is not None
        if torch.is_grad_enabled():
            texts = [
                [
                    "".join(row.split())
                    for row in self.tokenizer.batch_decode(column["input_ids"], skip_special_tokens=True)
                ]
                for column in columns[:2]
            ]
            (query_lang,), (passage_lang,) = map(kinds_of, texts)
            self.seen.append((query_lang, passage_lang))
            self.groups.append(labels.tolist())
        else:
            self.evaluated.append(labels.tolist())
        return super().forward(columns, labels)


def groups_of(pairs: PairSet, batches: list[list[int]]) -> list[list[int]]:
    return [pairs.groups[batch].tolist() for batch in batches]


def expected_batches(epochs: int, batch_size: int = 8, **options: Any) -> list[list[int]]:
    sampler = HybridBatchSampler(PAIRS, batch_size, **options)
    rows = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        rows += list(sampler)
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_trainer_takes_the_batches_of_the_sampler(folder: Path, drop_last: bool) -> None:
    model = tiny_model(folder)
    loss = Spy(model)
    batches = HybridBatches(PAIRS, ratio=0.5, steps=7)
    options = {"max_steps": -1, "num_train_epochs": 2, "seed": 3, "dataloader_drop_last": drop_last}
    _, _, trainer = train(
        folder / "out",
        model,
        loss,
        hybrid_dataset(PAIRS, group_labels=True),
        batch_sampler=batches,
        **options,
    )
    assert trainer.state.global_step == len(loss.seen) == 14
    assert loss.groups == groups_of(PAIRS, expected_batches(2, steps=7, seed=3))
    kinds = {query == passage for query, passage in loss.seen}
    assert kinds == {True, False}
    assert batches.sampler is not None
    assert batches.sampler.epoch == 1


def test_own_seed_and_mixed_pairs(folder: Path) -> None:
    batches = HybridBatches(PAIRS, ratio=1, cross_pairs="mixed", false_negatives="masked", seed=9, steps=4)
    found = list(batches(hybrid_dataset(PAIRS), 6, False, ["label"], None, 1))
    assert found == expected_batches(
        1, 6, ratio=1, cross_pairs="mixed", false_negatives="masked", seed=9, steps=4
    )


def test_resume_goes_on_in_the_same_order(folder: Path, tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 3, "max_steps": 14, "seed": 2}

    def run(output: Path, cut: int, resume: str | None = None) -> tuple[Spy, dict[str, Tensor]]:
        model = tiny_model(folder)
        loss = Spy(model)
        batches = HybridBatches(PAIRS, ratio="linear:0:1", steps=5, schedule_steps=14)
        _, weights, _ = train(
            output,
            model,
            loss,
            hybrid_dataset(PAIRS, group_labels=True),
            batch_sampler=batches,
            callbacks=[batches, PowerCut(cut)],
            resume_from_checkpoint=resume,
            **options,
        )
        return loss, weights

    whole, weights = run(tmp_path / "whole", -1)
    with pytest.raises(RuntimeError, match="power failed"):
        run(tmp_path / "parts", 10)
    resumed, found = run(tmp_path / "parts", -1, str(tmp_path / "parts" / "checkpoint-9"))
    assert whole.groups == groups_of(
        PAIRS, expected_batches(3, ratio="linear:0:1", steps=5, schedule_steps=14, seed=2)[:14]
    )
    assert resumed.groups == whole.groups[9:]
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_training_arguments_are_saved_without_the_pairs(folder: Path, tmp_path: Path) -> None:
    batches = HybridBatches(PAIRS, ratio=0.25)
    options = arguments(tmp_path, batch_sampler=batches)
    assert copy.deepcopy(options).batch_sampler is batches
    assert len(pickle.dumps(batches)) < 500
    loaded = pickle.loads(pickle.dumps(batches))
    with pytest.raises(ValueError, match="dataset: found 216 rows"):
        loaded(hybrid_dataset(PAIRS), 4)
    assert "batch_sampler" not in options.to_dict()


@pytest.mark.parametrize("hybrid", [True, False])
def test_evaluation_data(folder: Path, tmp_path: Path, hybrid: bool) -> None:
    """Pairs of the evaluation set are served too, always in the same order; a set unknown is refused."""
    model = tiny_model(folder)
    loss = Spy(model)
    held_out = PairSet.from_parallel(parallel_items(9, ("aa", "bb", "cc"), seed=5))
    batches = HybridBatches(PAIRS, eval_pairs=held_out if hybrid else None, steps=4)
    trainer = SentenceTransformerTrainer(
        model,
        arguments(tmp_path, max_steps=4, batch_sampler=batches, per_device_eval_batch_size=5),
        train_dataset=hybrid_dataset(PAIRS, group_labels=True),
        eval_dataset=hybrid_dataset(held_out, group_labels=True),
        loss=loss,
        callbacks=[batches],
    )
    trainer.train()
    if not hybrid:
        with pytest.raises(ValueError, match="dataset: found 81 rows, expected the 216 pairs given"):
            trainer.evaluate()
        return
    first, second = trainer.evaluate()["eval_loss"], trainer.evaluate()["eval_loss"]
    assert first == second
    sampler = HybridBatchSampler(held_out, 5, seed=42, steps=None)
    assert loss.evaluated == 2 * groups_of(held_out, list(sampler))
    assert batches.sampler is not None
    assert batches.sampler.pairs is PAIRS


def uneven() -> PairSet:
    """A language with fewer pairs than a batch."""
    return PairSet.from_pairs(
        [Pair(f"q{i}", f"p{i}", "en", "en", f"g{i}") for i in range(50)]
        + [Pair(f"r{i}", f"s{i}", "yo", "yo", f"h{i}") for i in range(3)]
    )


@pytest.mark.parametrize("even_batches", [False, True])
def test_short_batches_reach_every_rank(monkeypatch: pytest.MonkeyPatch, even_batches: bool) -> None:
    pairs = uneven()
    monkeypatch.setattr("pyhbt.integrations.sentence_transformers.batches.world_size", lambda: 2)
    made = HybridBatches(pairs, ratio=0, steps=40)(hybrid_dataset(pairs), 8)
    assert len(made) == 80
    shards = [
        list(BatchSamplerShard(made, 2, rank, split_batches=False, even_batches=even_batches))
        for rank in (0, 1)
    ]
    assert [len(shard) for shard in shards] == [40, 40]
    sizes = {"en": set(), "yo": set()}
    for parts in zip(*shards, strict=True):
        (lang,) = {pairs[row].query_lang for part in parts for row in part}
        sizes[lang].add(tuple(map(len, parts)))
    assert sizes == {"en": {(8, 8)}, "yo": {(2, 1)}}


def test_dataset_rows_are_the_pairs() -> None:
    pairs = PairSet.from_pairs(
        [
            Pair("q0", "p0", "aa", "aa", "g", ("n0", "p1", "n2")),
            Pair("q1", "p1", "aa", "bb", "h", ("n0", "n1")),
            Pair("q0", "p2", "bb", "bb", "g", ("n3", "p0")),
        ]
    )
    rows = hybrid_dataset(pairs, num_negatives=2, group_labels=True)
    assert rows.column_names == ["query", "passage", "negative_1", "negative_2", "label"]
    assert rows.to_list() == [
        {"query": "q0", "passage": "p0", "negative_1": "n0", "negative_2": "p1", "label": [0, -1, 1]},
        {"query": "q1", "passage": "p1", "negative_1": "n0", "negative_2": "n1", "label": [1, -1, -1]},
        {"query": "q0", "passage": "p2", "negative_1": "n3", "negative_2": "p0", "label": [0, -1, 0]},
    ]
    assert hybrid_dataset(pairs, num_negatives=0).column_names == ["query", "passage"]
    assert hybrid_dataset(pairs, num_negatives=0, group_labels=True)["label"][:] == [0, 1, 0]
    with pytest.raises(ValueError, match="pairs: found 2 to 3 negatives a pair, expected one number"):
        hybrid_dataset(pairs)
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=f"num_negatives: found {wrong}, expected 0 to 2"):
            hybrid_dataset(pairs, num_negatives=wrong)
    empty = hybrid_dataset(PairSet.from_pairs([]), group_labels=True)
    assert (len(empty), empty.column_names) == (0, ["query", "passage", "label"])


def test_a_dataset_longer_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyhbt.integrations.sentence_transformers.batches._CHUNK_ROWS", 7)
    rows = hybrid_dataset(PAIRS)
    assert [(row["query"], row["passage"]) for row in rows] == [(pair.query, pair.passage) for pair in PAIRS]


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="batch_size: found 8, expected none: the trainer gives it"):
        HybridBatches(PAIRS, batch_size=8)
    with pytest.raises(ValueError, match="ratio: found 2.0"):
        HybridBatches(PAIRS, ratio=2.0)
    with pytest.raises(TypeError, match="often"):
        HybridBatches(PAIRS, often=1)
    batches = HybridBatches(PAIRS)
    rows = hybrid_dataset(PAIRS)
    for wrong in (
        rows.select(range(20)),
        rows.select(range(len(rows) - 1, -1, -1)),
        rows.remove_columns("query"),
    ):
        with pytest.raises(
            ValueError, match=f"dataset: found {len(wrong)} rows, expected the 216 pairs given"
        ):
            batches(wrong, 4)
    renamed = Dataset.from_dict({"a": rows["query"], "b": rows["passage"], "label": list(range(len(rows)))})
    assert len(list(batches(renamed, 4))) == len(batches(rows, 4)) == -(-72 // 4)


_TWO_PROCESSES = """
    import json
    from pathlib import Path

    import torch
    from sentence_transformers.sentence_transformer import losses
    from pyhbt.integrations.sentence_transformers import (
        CachedFusedInBatchLoss, FusedInBatchLoss, HybridBatches, TemperatureCallback, hybrid_dataset,
    )
    from tests.integrations.sentence_transformers.test_losses import HARD, tiny_model, train
    from tests.integrations.sentence_transformers.test_batches import PAIRS, Spy

    folder = Path(sys.argv[1])
    found = {}

    def weights_of(model):
        return [value.double().sum().item() for value in model.state_dict().values()]

    def hybrid(steps, resume=None):
        model = tiny_model(folder)
        loss = Spy(model, learnable_temperature=True)
        batches = HybridBatches(PAIRS, ratio=0.5, steps=5)
        train(
            folder / "out", model, loss, hybrid_dataset(PAIRS, group_labels=True), batch_sampler=batches,
            callbacks=[batches, TemperatureCallback(loss)], resume_from_checkpoint=resume, max_steps=steps,
            per_device_train_batch_size=4, save_strategy="steps", save_steps=8, lr_scheduler_type="constant",
        )
        return {"seen": loss.seen, "groups": loss.groups, "temperature": loss.temperature, "weights": weights_of(model)}

    found["whole"] = hybrid(12)
    found["resumed"] = hybrid(12, str(folder / "out" / "checkpoint-8"))

    def plain(make):
        model = tiny_model(folder)
        logged, _, _ = train(
            folder / "other", model, make(model), hybrid_dataset(HARD), per_device_train_batch_size=4,
            optim="sgd", learning_rate=0.05,
        )
        return {"logged": logged, "weights": weights_of(model)}

    options = {"gather_across_devices": True}
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    found["ours"] = plain(lambda model: FusedInBatchLoss(model, **options))
    found["theirs"] = plain(lambda model: losses.MultipleNegativesRankingLoss(model, **options))
    found["ours cached"] = plain(
        lambda model: CachedFusedInBatchLoss(model, mini_batch_size=3, symmetric=True, **options)
    )
    found["theirs cached"] = plain(
        lambda model: losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3, **options, **both)
    )
    found["local"] = plain(lambda model: FusedInBatchLoss(model))
    Path(folder, f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    run(write_script(tmp_path / "train.py", _TWO_PROCESSES), 2, str(tmp_path), timeout=400)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert len(first["whole"]["seen"]) == 12
    assert first["whole"]["seen"] == second["whole"]["seen"]  # one kind and one language pair on both ranks
    assert {query == passage for query, passage in first["whole"]["seen"]} == {True, False}
    union = [one + two for one, two in zip(first["whole"]["groups"], second["whole"]["groups"], strict=True)]
    assert union == groups_of(PAIRS, expected_batches(3, 8, steps=5, seed=42))[:12]
    for rank in (first, second):
        assert rank["resumed"]["groups"] == rank["whole"]["groups"][8:]
        for name in ("temperature", "weights"):
            assert rank["resumed"][name] == rank["whole"][name] == first["whole"][name]
        assert rank["whole"]["temperature"] != 0.05
        for name in ("", " cached"):
            ours, theirs = rank[f"ours{name}"], rank[f"theirs{name}"]
            assert ours["weights"] == first[f"ours{name}"]["weights"]
            for key in ("logged", "weights"):
                assert ours[key] == pytest.approx(theirs[key], abs=1e-4 if key == "weights" else 1e-5), (
                    name,
                    key,
                )
        assert first["ours"]["logged"][0] > first["local"]["logged"][0] + 0.3  # twice as many negatives
