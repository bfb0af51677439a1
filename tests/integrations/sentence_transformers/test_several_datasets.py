"""Hybrid batches in sentence-transformers' multi-dataset samplers: order, epochs, resume, two processes."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("sentence_transformers", minversion="6.0")

from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.base.sampler import (
    BatchSamplers,
    DefaultBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)
from torch.utils.data import ConcatDataset, RandomSampler, SequentialSampler

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.integrations.sentence_transformers import FusedInBatchLoss, HybridBatches, hybrid_dataset
from pyhbt.training.sampling import HybridBatchSampler
from tests.integrations.sentence_transformers.test_losses import arguments, tiny_model, train
from tests.integrations.sentence_transformers.test_temperature import PowerCut
from tests.ranks import run, write_script
from tests.toy import parallel_items

FIRST = PairSet.from_parallel(parallel_items(24, ("aa", "bb", "cc")))
SECOND = PairSet.from_parallel(parallel_items(15, ("aa", "bb"), seed=7))
PLAIN = Dataset.from_dict({"a": [f"plain{i}" for i in range(21)], "b": [f"answer{i}" for i in range(21)]})
BOTH = pytest.mark.parametrize("mixed", ["round_robin", "proportional"])

Texts = list[tuple[str, str]]


class Spy(FusedInBatchLoss):
    """Writes down the texts of every training batch, without their spaces."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__(model)
        self.tokenizer = model.tokenizer
        self.seen: list[Texts] = []

    def forward(self, sentence_features: Any, labels: Tensor | None = None) -> Tensor:
        columns = list(sentence_features)
        if torch.is_grad_enabled():
            decoded = [
                self.tokenizer.batch_decode(column["input_ids"], skip_special_tokens=True)
                for column in columns[:2]
            ]
            self.seen.append(
                [("".join(q.split()), "".join(p.split())) for q, p in zip(*decoded, strict=True)]
            )
        return super().forward(columns, labels)


def hybrid_texts(pairs: PairSet, epochs: int, batch_size: int = 8, **options: Any) -> list[Texts]:
    """The batches of the sampler, epoch after epoch."""
    sampler = HybridBatchSampler(pairs, batch_size, **options)
    found: list[Texts] = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for rows in sampler:
            drawn = [pairs[row] for row in rows]
            found.append([(pair.query, pair.passage.replace(" ", "")) for pair in drawn])
    return found


def is_plain(batch: Texts) -> bool:
    return all(query.startswith("plain") for query, _ in batch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize(
    ("mixed", "hybrid_first"),
    [
        pytest.param("round_robin", True, marks=pytest.mark.slow),
        ("round_robin", False),
        ("proportional", True),
        pytest.param("proportional", False, marks=pytest.mark.slow),
    ],
)
def test_a_hybrid_and_a_plain_dataset(folder: Path, mixed: str, hybrid_first: bool) -> None:
    model = tiny_model(folder)
    loss = Spy(model)
    batches = HybridBatches(FIRST, ratio=0.5, steps=5, others=BatchSamplers.NO_DUPLICATES)
    parts = {"hybrid": hybrid_dataset(FIRST), "plain": PLAIN}
    data = DatasetDict(parts if hybrid_first else dict(reversed(parts.items())))
    options = {"max_steps": -1, "num_train_epochs": 2, "seed": 3, "multi_dataset_batch_sampler": mixed}
    _, _, trainer = train(
        folder / "out", model, loss, data, batch_sampler=batches, callbacks=[batches], **options
    )
    hybrid = [batch for batch in loss.seen if not is_plain(batch)]
    plain = [batch for batch in loss.seen if is_plain(batch)]
    expected = hybrid_texts(FIRST, 2, steps=5, seed=3)
    order = [is_plain(batch) for batch in loss.seen]
    if mixed == "round_robin":
        assert order == [not hybrid_first, hybrid_first] * 6
        assert hybrid == expected[:3] + expected[5:8]
    else:
        assert hybrid == expected
        assert order[:8] != order[8:]  # epochs are mixed anew
    assert trainer.state.global_step == len(loss.seen)
    assert Counter(query for batch in plain for query, _ in batch) == Counter(2 * list(PLAIN["a"]))


@pytest.mark.slow
@BOTH
def test_two_hybrid_datasets(folder: Path, mixed: str) -> None:
    model = tiny_model(folder)
    loss = Spy(model)
    batches = HybridBatches([FIRST, SECOND], ratio=0.5, steps=4, seed=5)
    data = DatasetDict(second=hybrid_dataset(SECOND), first=hybrid_dataset(FIRST))
    options = {"max_steps": -1, "num_train_epochs": 2, "multi_dataset_batch_sampler": mixed}
    train(folder / "out", model, loss, data, batch_sampler=batches, **options)
    first, second = (hybrid_texts(pairs, 2, steps=4, seed=5) for pairs in (FIRST, SECOND))
    if mixed == "round_robin":
        assert loss.seen == [batch for both in zip(second, first, strict=True) for batch in both]
    else:
        assert len(loss.seen) == 16
        assert [batch for batch in loss.seen if batch in first] == first
        assert [batch for batch in loss.seen if batch in second] == second
    assert [sampler.pairs for sampler in batches.samplers] == [FIRST, SECOND]
    assert batches.sampler is batches.samplers[0]


@pytest.mark.slow
def test_several_evaluation_sets(folder: Path, tmp_path: Path) -> None:
    model = tiny_model(folder)
    held_out = PairSet.from_parallel(parallel_items(7, ("aa", "bb"), seed=9))
    batches = HybridBatches([FIRST, SECOND], eval_pairs=[held_out], others="batch_sampler", steps=2)
    trainer = SentenceTransformerTrainer(
        model,
        arguments(tmp_path, max_steps=2, batch_sampler=batches, eval_strategy="steps", eval_steps=2),
        train_dataset=DatasetDict(a=hybrid_dataset(FIRST), b=hybrid_dataset(SECOND)),
        eval_dataset=DatasetDict(hybrid=hybrid_dataset(held_out), plain=PLAIN),
        loss=FusedInBatchLoss(model),
    )
    trainer.train()
    evaluated = {name: value for row in trainer.state.log_history for name, value in row.items()}
    assert {"eval_hybrid_loss", "eval_plain_loss"} <= evaluated.keys()
    assert evaluated["eval_hybrid_loss"] == trainer.evaluate()["eval_hybrid_loss"]


@pytest.mark.slow
@BOTH
def test_resume_goes_on_in_the_same_order(folder: Path, tmp_path: Path, mixed: str) -> None:
    options = {"save_strategy": "steps", "save_steps": 5, "max_steps": 20, "seed": 2}

    def trained(output: Path, cut: int, resume: str | None = None) -> tuple[Spy, dict[str, Tensor]]:
        model = tiny_model(folder)
        loss = Spy(model)
        batches = HybridBatches([FIRST, SECOND], ratio="linear:0:1", steps=4, schedule_steps=10)
        _, weights, _ = train(
            output,
            model,
            loss,
            DatasetDict(a=hybrid_dataset(FIRST), b=hybrid_dataset(SECOND)),
            batch_sampler=batches,
            multi_dataset_batch_sampler=mixed,
            callbacks=[batches, PowerCut(cut)],
            resume_from_checkpoint=resume,
            **options,
        )
        return loss, weights

    whole, weights = trained(tmp_path / "whole", -1)
    with pytest.raises(RuntimeError, match="power failed"):
        trained(tmp_path / "parts", 12)
    resumed, found = trained(tmp_path / "parts", -1, str(tmp_path / "parts" / "checkpoint-10"))
    assert len(whole.seen) == 20
    assert resumed.seen == whole.seen[10:]
    assert all(torch.equal(found[name], value) for name, value in weights.items())


@BOTH
def test_their_samplers_alone(mixed: str) -> None:
    """Also beside a sampler that somebody else made; lengths are those announced."""
    sampler = {"round_robin": RoundRobinBatchSampler, "proportional": ProportionalBatchSampler}[mixed]
    rows = hybrid_dataset(SECOND)
    plain = DefaultBatchSampler(SequentialSampler(PLAIN), batch_size=6, drop_last=False)
    for place in (0, 1):
        parts: list[Any] = [plain]
        parts.insert(place, HybridBatches(SECOND, steps=5)(rows, 6))
        data = [PLAIN]
        data.insert(place, rows)
        made = sampler(ConcatDataset(data), parts, torch.Generator(), 4)
        epochs = []
        for epoch in (0, 1):
            made.set_epoch(epoch)
            epochs.append(list(made))
            assert len(epochs[-1]) == len(made) == {"round_robin": 8, "proportional": 9}[mixed]
        assert epochs[0] != epochs[1]
        drawn = HybridBatchSampler(SECOND, 6, steps=5)
        offset = 0 if place == 0 else len(PLAIN)
        for epoch, found in enumerate(epochs):
            drawn.set_epoch(epoch)
            own = [
                [row - offset for row in batch] for batch in found if offset <= batch[0] < offset + len(rows)
            ]
            assert own == list(drawn)[: len(own)]


def in_order(dataset: Dataset, *, batch_size: int, drop_last: bool, **others: Any) -> DefaultBatchSampler:
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def test_short_batches_reach_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language with fewer pairs than a batch, beside a plain dataset, whose last batch drop_last leaves out."""
    small = PairSet.from_pairs(
        [Pair(f"q{i}", f"p{i}", "en", "en", f"g{i}") for i in range(50)]
        + [Pair(f"r{i}", f"s{i}", "yo", "yo", f"h{i}") for i in range(3)]
    )
    monkeypatch.setattr("pyhbt.integrations.sentence_transformers.batches.world_size", lambda: 2)
    rows = hybrid_dataset(small)
    for order in ((rows, PLAIN), (PLAIN, rows)):
        batches = HybridBatches(small, ratio=0, steps=20, others=in_order)
        parts = [batches(part, 8, True, None, torch.Generator(), 0) for part in order]
        made = ProportionalBatchSampler(ConcatDataset(order), parts, torch.Generator(), 0)
        assert len(made) == 42
        shards = [
            list(BatchSamplerShard(made, 2, rank, split_batches=False, even_batches=False)) for rank in (0, 1)
        ]
        assert [len(shard) for shard in shards] == [21, 21]
        dealt = [batch for both in zip(*shards, strict=True) for batch in both]
        assert dealt == list(made)
        assert {len(batch) for batch in dealt} == {1, 2, 8}


def test_other_datasets() -> None:
    generator = torch.Generator()
    options = {"drop_last": False, "valid_label_columns": ["label"], "generator": generator, "seed": 1}
    labelled = PLAIN.add_column("label", [i % 3 for i in range(len(PLAIN))])
    for name in ("batch_sampler", "no_duplicates", "no_duplicates_hashed", "group_by_label"):
        if name.endswith("hashed"):
            pytest.importorskip("xxhash")
        found = []
        for choice in (name, BatchSamplers(name)):
            generator.manual_seed(0)
            found.append(list(HybridBatches(FIRST, others=choice)(labelled, 6, **options)))
        assert found[0] == found[1]
        assert len({row for batch in found[0] for row in batch}) >= 18
    asked = []

    def own(dataset: Dataset, **given: Any) -> DefaultBatchSampler:
        asked.append((dataset, given))
        return DefaultBatchSampler(RandomSampler(dataset), given["batch_size"], given["drop_last"])

    made = HybridBatches(FIRST, others=own)(PLAIN, 6, **options)
    assert asked == [(PLAIN, {"batch_size": 6, **options})]
    assert len(made) == len(list(made)) == 4
    assert pickle.loads(pickle.dumps(HybridBatches(FIRST, others=own))).samplers == ()


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="pairs: found no set of pairs, expected at least 1"):
        HybridBatches([])
    with pytest.raises(ValueError, match="others: found 'random', expected one of batch_sampler, no_dup"):
        HybridBatches(FIRST, others="random")
    with pytest.raises(ValueError, match="ratio: found 0.5, expected 0: no pair joins two of"):
        HybridBatches([FIRST, PairSet.from_parallel(parallel_items(4, ("aa",)))])
    with pytest.raises(ValueError, match="dataset: found 21 rows, expected the 216 or 60 pairs given"):
        HybridBatches([FIRST, SECOND])(PLAIN, 4)


_TWO_PROCESSES = """
    import json
    from pathlib import Path

    import torch
    from datasets import DatasetDict
    from pyhbt.integrations.sentence_transformers import HybridBatches, hybrid_dataset
    from tests.integrations.sentence_transformers.test_losses import tiny_model, train
    from tests.integrations.sentence_transformers.test_several_datasets import FIRST, PLAIN, Spy

    folder = Path(sys.argv[1])

    def trained(mixed, resume=None):
        model = tiny_model(folder)
        loss = Spy(model)
        batches = HybridBatches(FIRST, ratio=0.5, steps=3, others="batch_sampler")
        train(
            folder / mixed, model, loss, DatasetDict(a=hybrid_dataset(FIRST), b=PLAIN.select(range(16))),
            batch_sampler=batches, callbacks=[batches], resume_from_checkpoint=resume, max_steps=12,
            per_device_train_batch_size=4, multi_dataset_batch_sampler=mixed, save_strategy="steps", save_steps=8,
            seed=1,
        )
        return {"seen": loss.seen, "weights": [value.double().sum().item() for value in model.state_dict().values()]}

    found = {}
    for mixed in ("round_robin", "proportional"):
        found[mixed] = [trained(mixed), trained(mixed, str(folder / mixed / "checkpoint-8"))]
    Path(folder, f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """Both ranks take as many steps, every batch of an epoch is somebody's, and a resumed training is the same."""
    tiny_model(tmp_path)
    run(write_script(tmp_path / "train.py", _TWO_PROCESSES), 2, str(tmp_path), timeout=400)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for mixed in ("round_robin", "proportional"):
        whole, resumed = zip(*(rank[mixed] for rank in ranks), strict=True)
        assert whole[0]["weights"] == whole[1]["weights"] == resumed[0]["weights"] == resumed[1]["weights"]
        for before, after in zip(whole, resumed, strict=True):
            assert len(before["seen"]) == 12
            assert after["seen"] == before["seen"][8:]
        dealt = [batch for both in zip(*(run["seen"] for run in whole), strict=True) for batch in both]
        dealt = [[tuple(pair) for pair in batch] for batch in dealt]
        hybrid = [batch for batch in dealt if not is_plain(batch)]
        if mixed == "proportional":
            expected = hybrid_texts(FIRST, 3, 4, steps=3, num_ranks=2, seed=1)
            assert hybrid == expected[: len(hybrid)]
            assert len(hybrid) >= 12
            assert len(dealt) == 24
