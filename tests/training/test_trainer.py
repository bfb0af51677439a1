"""HybridTrainer: equal to a plain loop, logs, checkpoints, resume, both encoders."""

from __future__ import annotations

import copy
import dataclasses
import types
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import TrainerCallback, TrainingArguments

from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder, NgramEncoder, load_encoder
from pyhbt.evaluation.run import dev_scores
from pyhbt.files import FolderInUseError
from pyhbt.ops import contrastive_loss
from pyhbt.training import checkpoints
from pyhbt.training.batches import Examples, PairCollator
from pyhbt.training.objectives import Objective
from pyhbt.training.sampling import HybridBatchSampler
from pyhbt.training.trainer import HybridTrainer
from tests.toy import parallel_items, retrieval_set, save_tiny_bert

PAIRS = PairSet.from_parallel(parallel_items(40, ("aa", "bb")))


NEW = {"activation_checkpointing", "activation_checkpointing_kwargs"} - {
    field.name for field in dataclasses.fields(TrainingArguments)
}
"""What transformers before 5.23 does not take yet."""


def arguments(folder: Path, **others: Any) -> TrainingArguments:
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    if missing := NEW & others.keys():
        pytest.skip(f"transformers {transformers.__version__} has no {missing}")
    return TrainingArguments(**(options | others))


def small_ngram() -> NgramEncoder:
    return NgramEncoder(dim=16, num_buckets=512, sizes=(2, 3))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def test_checkpoints_have_one_writer(tmp_path: Path) -> None:
    def meanwhile(encoder: Any, step: int) -> dict[str, float]:
        again = HybridTrainer(small_ngram(), arguments(tmp_path, max_steps=2, save_strategy="steps"), PAIRS)
        with pytest.raises(FolderInUseError, match=f"{tmp_path} is being written by process"):
            again.train()
        HybridTrainer(small_ngram(), arguments(tmp_path, max_steps=1, save_strategy="no"), PAIRS).train()
        return {}

    options = arguments(tmp_path, max_steps=2, save_strategy="steps", eval_strategy="steps", eval_steps=2)
    HybridTrainer(small_ngram(), options, PAIRS, evaluate=meanwhile).train()
    assert not list(tmp_path.glob(".*"))


def test_equal_to_a_plain_loop(tmp_path: Path) -> None:
    encoder = small_ngram()
    plain = copy.deepcopy(encoder)
    options = {"max_steps": 6, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "seed": 3}
    trainer = HybridTrainer(
        encoder, arguments(tmp_path, **options), PAIRS, ratio=0.5, objective=Objective(temperature=0.1)
    )
    trainer.train()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.0)
    collate = PairCollator(plain)
    losses = []
    for batch in HybridBatchSampler(PAIRS, 8, ratio=0.5, steps=6, seed=3):
        inputs = collate(Examples.of(PAIRS, batch))
        queries, passages = plain(inputs["texts"])[inputs["order"]].split(8)
        loss = contrastive_loss(queries, passages, temperature=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert logged == pytest.approx(losses, abs=1e-6)
    # two AdamW implementations (foreach or not) differ in the last bits of float32
    torch.testing.assert_close(encoder.table.weight, plain.table.weight, atol=1e-6, rtol=0)


def test_logs_kind_and_throughput(tmp_path: Path) -> None:
    trainer = HybridTrainer(
        small_ngram(), arguments(tmp_path, max_steps=20, logging_steps=5), PAIRS, ratio=0.5
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    for block, row in enumerate(rows):
        kinds = [trainer.sampler.kind(step) for step in range(5 * block, 5 * block + 5)]
        share = kinds.count("cross-lingual") / 5
        assert row["cross_lingual_share"] == pytest.approx(share)
        assert ("loss_cross_lingual" in row) == (share > 0)
        assert ("loss_monolingual" in row) == (share < 1)
        parts = [share * row.get("loss_cross_lingual", 0.0), (1 - share) * row.get("loss_monolingual", 0.0)]
        assert row["loss"] == pytest.approx(sum(parts), abs=1e-5)
        assert row["examples_per_second"] > 0


def test_training_learns(tmp_path: Path) -> None:
    trainer = HybridTrainer(small_ngram(), arguments(tmp_path, max_steps=60), PAIRS, ratio=0.5)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_evaluates_when_the_trainer_says(tmp_path: Path) -> None:
    seen = []

    def measured(encoder: Encoder, step: int) -> dict[str, float]:
        seen.append(step)
        return {"mAP": step / 10}

    options = {"max_steps": 7, "eval_strategy": "steps", "eval_steps": 3, "eval_on_start": True}
    trainer = HybridTrainer(small_ngram(), arguments(tmp_path, **options), PAIRS, evaluate=measured)
    trainer.train()
    assert seen == [0, 3, 6, 7]  # and at the end
    assert [row["eval_mAP"] for row in trainer.state.log_history if "eval_mAP" in row] == [0.0, 0.3, 0.6, 0.7]
    with pytest.raises(ValueError, match="evaluate: found None"):
        HybridTrainer(small_ngram(), arguments(tmp_path), PAIRS).evaluate()


def test_epochs_become_steps(tmp_path: Path) -> None:
    given = arguments(tmp_path, num_train_epochs=2, gradient_accumulation_steps=2)
    trainer = HybridTrainer(small_ngram(), given, PAIRS)
    # 80 distinct queries in batches of 8: ten batches an epoch, five updates
    assert trainer.args.max_steps == 10
    assert len(trainer.sampler) == 20
    assert given.max_steps == -1  # the caller's arguments are left alone
    trainer.train()
    assert trainer.state.global_step == 10


class _Power(TrainerCallback):
    def __init__(self, fails_at: int) -> None:
        self.fails_at = fails_at

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.fails_at:
            raise RuntimeError("power failed")


@pytest.mark.parametrize("kind", ["ngram", "transformer"])
def test_resume_is_bit_identical(kind: str, tmp_path: Path, bert: Path) -> None:
    """Stop after a checkpoint and go on: losses and weights equal those of an uninterrupted run."""

    def train(folder: Path, fails_at: int, resume: bool) -> tuple[HybridTrainer, Encoder]:
        encoder = small_ngram() if kind == "ngram" else load_encoder(bert)
        options = {
            "max_steps": 8,
            "save_strategy": "steps",
            "save_steps": 3,
            "learning_rate": 1e-3,
            "seed": 1,
        }
        trainer = HybridTrainer(
            encoder, arguments(folder, **options), PAIRS, ratio="linear:0:1", callbacks=[_Power(fails_at)]
        )
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-3") if resume else None)
        return trainer, encoder

    whole, expected = train(tmp_path / "whole", -1, False)
    with pytest.raises(RuntimeError, match="power failed"):
        train(tmp_path / "parts", 5, False)
    resumed, found = train(tmp_path / "parts", -1, True)
    losses = [
        {row["step"]: row["loss"] for row in t.state.log_history if "loss" in row} for t in (whole, resumed)
    ]
    assert losses[0] == losses[1]
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_checkpoints_are_encoders(tmp_path: Path, bert: Path) -> None:
    encoder = load_encoder(bert)
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    HybridTrainer(encoder, arguments(tmp_path, **options), PAIRS).train()
    loaded = load_encoder(tmp_path / "checkpoint-2")
    assert torch.equal(loaded.encode(["kalo"]), encoder.encode(["kalo"]))


def test_gradient_reaches_every_weight(tmp_path: Path, bert: Path) -> None:
    encoder = load_encoder(bert)
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    HybridTrainer(
        encoder, arguments(tmp_path, max_steps=2), PAIRS, objective=Objective(symmetric=True)
    ).train()
    unchanged = [name for name, value in encoder.named_parameters() if torch.equal(value, before[name])]
    assert unchanged == []


# evaluation, cards, the hub


def test_evaluates_what_it_is_given(tmp_path: Path) -> None:
    calls: list[int] = []

    def measured(encoder: Encoder, step: int) -> dict[str, float]:
        calls.append(step)
        return {"mAP": 0.5}

    trainer = HybridTrainer(small_ngram(), arguments(tmp_path), PAIRS, evaluate=measured)
    assert trainer.evaluate() == {"eval_mAP": 0.5}
    assert calls == [0]
    first, second = retrieval_set(4), retrieval_set(6, seed=2)
    scores = trainer.evaluate(first)
    expected = dev_scores(first)(trainer.encoder, 0)
    assert scores == {f"eval_{name}": value for name, value in expected.items()}
    assert "eval_cross-lingual mAP" in scores
    assert trainer.state.log_history[-1].items() >= scores.items()
    both = trainer.evaluate({"one": first, "two": second}, metric_key_prefix="test")
    assert {name.split("_")[1] for name in both} == {"one", "two"}
    assert both == {
        f"test_{prefix}_{name}": value
        for prefix, data in (("one", first), ("two", second))
        for name, value in dev_scores(data)(trainer.encoder, 0).items()
    }
    assert calls == [0]  # the callback has no part in it


def test_evaluates_nothing_else(tmp_path: Path) -> None:
    trainer = HybridTrainer(small_ngram(), arguments(tmp_path), PAIRS)
    assert trainer.evaluate(retrieval_set(3))["eval_monolingual mAP"] > 0  # without a callback too
    logged = len(trainer.state.log_history)
    with pytest.raises(TypeError, match="eval_dataset: found PairSet, expected a RetrievalSet"):
        trainer.evaluate(PAIRS)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"eval_dataset\['b'\]: found list, expected a RetrievalSet"):
        trainer.evaluate({"a": retrieval_set(3), "b": []})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="evaluate: found None"):
        trainer.evaluate()
    with pytest.raises(ValueError, match=r"ignore_keys: found \['x'\], expected None"):
        trainer.evaluate(ignore_keys=["x"])
    with pytest.raises(TypeError, match="nonsense"):
        trainer.evaluate(nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="nonsense"):
        trainer.train(nonsense=1)
    with pytest.raises(ValueError, match=r"predict: .+ expected encoder.encode\(texts\)"):
        trainer.predict(retrieval_set(3))
    assert len(trainer.state.log_history) == logged


def test_its_card_and_its_folder(tmp_path: Path) -> None:
    options = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1}
    trainer = HybridTrainer(
        small_ngram(),
        arguments(tmp_path / "out", **options),
        PAIRS,
        ratio=0.25,
        evaluate=lambda encoder, step: {"cross-lingual mAP": step / 4},
    )
    trainer.train()
    trainer.create_model_card(model_name="a name")
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "# a name" in card
    assert "| cross-lingual ratio | 0.25 |" in card
    assert "0.5000" in card
    with pytest.raises(TypeError, match="license"):
        trainer.create_model_card(license="mit")  # type: ignore[call-arg]
    trainer.save_model(str(tmp_path / "saved"))
    assert torch.equal(load_encoder(tmp_path / "saved").encode(["kalo"]), trainer.encoder.encode(["kalo"]))


class Hub:
    """In the hub's place: what was made and what was uploaded, with the files as they were."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.uploads: list[dict[str, Any]] = []
        self.files: list[set[str]] = []

    def create_repo(self, name: str, **options: Any) -> Any:
        self.made = {"name": name, **options}
        return types.SimpleNamespace(repo_id=f"me/{name}")

    def upload_folder(self, *, folder_path: str, **options: Any) -> Any:
        self.uploads.append(options)
        self.files.append({path.name for path in Path(folder_path).glob("*")})
        done: Future[None] = Future()
        done.set_result(None)
        return done


@pytest.mark.parametrize(
    ("strategy", "paths"),
    [
        ("end", [None]),
        ("every_save", [None, None, None]),
        ("checkpoint", [None, "last-checkpoint", None, "last-checkpoint", None]),
        ("all_checkpoints", [None, "checkpoint-2", None, "checkpoint-4", None]),
    ],
)
def test_whole_encoders_go_to_the_hub(
    strategy: str, paths: list[str | None], tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub)
    given = arguments(
        tmp_path / "out",
        max_steps=4,
        save_strategy="steps",
        save_steps=2,
        push_to_hub=True,
        hub_strategy=strategy,
        hub_model_id="named",
        hub_token="secret",
        hub_private_repo=True,
        hub_revision="branch",
        hub_always_push=True,
    )
    trainer = HybridTrainer(load_encoder(bert), given, PAIRS)
    assert hub.made == {"name": "named", "token": "secret", "private": True, "exist_ok": True}
    trainer.train()
    trainer.push_to_hub()
    assert [upload.get("path_in_repo") for upload in hub.uploads] == paths
    assert {(upload["repo_id"], upload["token"], upload["revision"]) for upload in hub.uploads} == {
        ("me/named", "secret", "branch")
    }
    whole = {path.name for path in (tmp_path / "out/checkpoint-4").glob("*")}
    assert checkpoints.MANIFEST in whole
    for files, path in zip(hub.files, paths, strict=True):
        if path is None:
            assert files >= {
                "model.safetensors",
                "modules.json",
                "tokenizer.json",
                "config.json",
                "1_Pooling",
            }
        else:
            assert files == whole
    assert "README.md" in hub.files[-1]
    assert load_encoder(tmp_path / "out").dim == 32


def test_arguments_of_wrong_types_are_named(tmp_path: Path) -> None:
    pairs = PairSet.from_parallel(parallel_items(4))
    with pytest.raises(TypeError, match="pairs: found list, expected PairSet"):
        HybridTrainer(small_ngram(), arguments(tmp_path), [1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="args: found dict, expected TrainingArguments"):
        HybridTrainer(small_ngram(), {}, pairs)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="encoder: found str"):
        HybridTrainer("ngram", arguments(tmp_path), pairs)  # type: ignore[arg-type]
    assert len(repr(HybridTrainer(small_ngram(), arguments(tmp_path), pairs))) < 500
