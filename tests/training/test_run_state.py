"""A trainer goes on with its own run alone: every variant is refused or right; what an extension does."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import NgramEncoder
from pyhbt.seals import seal
from pyhbt.training.checkpoints import CheckpointError, checkpoints
from pyhbt.training.code_switching import CodeSwitching
from pyhbt.training.objectives import Objective
from pyhbt.training.record import RECORD, RunDiffersError, RunNames, RunRecord
from pyhbt.training.trainer import HybridTrainer
from tests.toy import parallel_items, save_tiny_bert
from tests.training.test_trainer import PAIRS, arguments, small_ngram

ARGUMENTS: dict[str, Any] = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "logging_steps": 2}


def trainer(folder: Path, **given: Any) -> HybridTrainer:
    """``args`` are the Trainer's; ``encoder`` and ``pairs`` may be others."""
    given = {"args": {}, "encoder": None, "pairs": PAIRS, "ratio": 0.5} | given
    args = arguments(folder, **(ARGUMENTS | given.pop("args")))
    return HybridTrainer(given.pop("encoder") or small_ngram(), args, given.pop("pairs"), **given)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trainer(folder, names=RunNames("tiny", "toy")).train()
    return folder


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> Path:
    """A training that was interrupted after step 3 of 6."""
    shutil.copytree(run_folder / "checkpoint-3", tmp_path / "checkpoint-3")
    return tmp_path


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def weight(done: HybridTrainer) -> torch.Tensor:
    assert isinstance(done.encoder, NgramEncoder)
    return done.encoder.table.weight


def one_text_more() -> PairSet:
    return PairSet.from_pairs([*PAIRS, Pair("one more", "passage", "aa", "aa", "g")])


def one_negative_more() -> PairSet:
    pairs = list(PAIRS)
    return PairSet.from_pairs([Pair(p.query, p.passage, p.query_lang, p.passage_lang, p.group, (pairs[9].passage,))
                               if i == 3 else p for i, p in enumerate(pairs)])  # fmt: skip


def other_start() -> NgramEncoder:
    return NgramEncoder(dim=16, num_buckets=512, sizes=(2, 3), seed=1)


LEXICON = {("aa", "kalo"): {"bb": ("kalous",)}}
VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "ratio": lambda: {"ratio": 0.25},
    "ratio ": lambda: {"ratio": "linear:0:1"},
    "seed": lambda: {"args": {"seed": 1}},
    "data_seed": lambda: {"args": {"data_seed": 1}},
    "temperature": lambda: {"objective": Objective(0.1)},
    "learn_temperature": lambda: {"objective": Objective(learn_temperature=True)},
    "symmetric": lambda: {"objective": Objective(symmetric=True)},
    "matryoshka_dims": lambda: {"objective": Objective(matryoshka_dims=(8, 4))},
    "parallel_passages": lambda: {"objective": Objective(parallel_passages=1)},
    "js_weight": lambda: {"objective": Objective(js_weight=0.1)},
    "pairs": lambda: {"pairs": one_text_more()},
    "pairs ": lambda: {"pairs": one_negative_more()},
    "encoder_weights": lambda: {"encoder": other_start()},
    "encoder": lambda: {"encoder": NgramEncoder(dim=8, num_buckets=512, sizes=(2, 3))},
    "max_length": lambda: {"encoder": NgramEncoder(dim=16, num_buckets=512, sizes=(2, 3), max_length=9)},
    "learning_rate": lambda: {"args": {"learning_rate": 0.1}},
    "weight_decay": lambda: {"args": {"weight_decay": 0.1}},
    "warmup_steps": lambda: {"args": {"warmup_steps": 2}},
    "lr_scheduler_type": lambda: {"args": {"lr_scheduler_type": "cosine"}},
    "optim": lambda: {"args": {"optim": "adafactor"}},
    "gradient_accumulation_steps": lambda: {"args": {"gradient_accumulation_steps": 2}},
    "bf16": lambda: {"args": {"bf16": True}},
    "batch_size": lambda: {"args": {"per_device_train_batch_size": 4}},
    "steps": lambda: {"args": {"max_steps": 5}},
    "steps ": lambda: {"args": {"max_steps": 12}},
    "mini_batch_size": lambda: {"mini_batch_size": 4},
    "language_sampling": lambda: {"language_sampling": "size"},
    "cross_pairs": lambda: {"cross_pairs": "mixed"},
    "false_negatives": lambda: {"false_negatives": "masked"},
    "code_switching": lambda: {"code_switching": CodeSwitching(LEXICON, 0.3)},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_another_training_is_refused_and_leaves_no_trace(name: str, folder: Path) -> None:
    before = content(folder)
    other = trainer(folder, **VARIANTS[name]())
    start = {key: value.clone() for key, value in other.encoder.state_dict().items()}
    with pytest.raises(
        RunDiffersError, match=rf"checkpoint-3 is of another training: (.*; )?{name.strip()}: found "
    ):
        other.train(resume_from_checkpoint=True)
    assert content(folder) == before
    assert other.state.global_step == 0
    assert all(torch.equal(value, start[key]) for key, value in other.encoder.state_dict().items())


def test_all_differences_stand_in_one_message(folder: Path) -> None:
    other = trainer(
        folder, args={"learning_rate": 0.1, "seed": 3}, objective=Objective(0.1, learn_temperature=True)
    )
    with pytest.raises(RunDiffersError) as refused:
        other.train(resume_from_checkpoint=True)
    for phrase in (
        "temperature: found 0.1, the run has 0.05",
        "learn_temperature: found True, the run has False",
        "learning_rate: found 0.1, the run has 0.01",
        "seed: found 3, the run has 42",
    ):
        assert phrase in str(refused.value)


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"ratio": "0.5"},
        {"language_sampling": 0.0},
        {"args": {"logging_steps": 1, "disable_tqdm": False, "run_name": "x"}},
        {"args": {"dataloader_num_workers": 1}},
        {"args": {"save_steps": 2, "save_total_limit": 1}},
        {"objective": Objective()},
        {"names": RunNames("called otherwise")},
    ],
)
def test_the_same_training_goes_on(same: dict[str, Any], folder: Path, run_folder: Path) -> None:
    resumed = trainer(folder, **same)
    resumed.train(resume_from_checkpoint=True)
    expected = NgramEncoder.load(run_folder / "checkpoint-6")
    assert torch.equal(weight(resumed), expected.table.weight)


def test_output_is_as_often_as_is_asked_now(folder: Path) -> None:
    resumed = trainer(folder, args={"logging_steps": 1, "save_steps": 1})
    resumed.train(resume_from_checkpoint=True)
    assert [row["step"] for row in resumed.state.log_history if "loss" in row] == [2, 4, 5, 6]
    assert [path.name for path in checkpoints(folder)] == [f"checkpoint-{step}" for step in (6, 5, 4, 3)]


def test_what_a_trainer_made_of_its_encoder_does_not_count(tmp_path: Path) -> None:
    """Interrupted and taken up again in one process, with one trainer."""
    again = trainer(tmp_path)
    again.train()
    expected = weight(again).clone()
    shutil.rmtree(tmp_path / "checkpoint-6")
    again.train(resume_from_checkpoint=True)
    assert torch.equal(weight(again), expected)
    again.args.learning_rate = 0.1
    with pytest.raises(RunDiffersError, match="learning_rate: found 0.1"):
        again.train(resume_from_checkpoint=True)


def test_lexicons_and_dev_pairs_count(tmp_path: Path) -> None:
    dev = [PairSet.from_parallel(parallel_items(10, ("aa", "bb"), seed=seed)) for seed in (5, 6)]
    lexicons = [LEXICON, {("aa", "kalo"): {"bb": ("kala",)}}]
    options: dict[str, Any] = {"ratio": "adaptive:0.1:0.9", "adapt_every": 2}

    def adaptive(dev_pairs: PairSet, lexicon: Any, **more: Any) -> HybridTrainer:
        switching = CodeSwitching(lexicon, 0.5)
        return trainer(tmp_path, dev_pairs=dev_pairs, code_switching=switching, **(options | more))

    adaptive(dev[0], lexicons[0]).train()
    adaptive(dev[0], lexicons[0]).train(resume_from_checkpoint=True)
    for other, name in (
        (adaptive(dev[1], lexicons[0]), "dev_pairs"),
        (adaptive(dev[0], lexicons[1]), "lexicon"),
        (adaptive(dev[0], lexicons[0], adapt_every=3), "adapt_every"),
        (adaptive(dev[0], lexicons[0], args={"dataloader_num_workers": 1}), "dataloader_num_workers"),
    ):
        with pytest.raises(RunDiffersError, match=rf"training: {name}: found "):
            other.train(resume_from_checkpoint=True)


def test_a_checkpoint_without_record_is_refused(folder: Path) -> None:
    (folder / "checkpoint-3" / RECORD).unlink()
    seal(folder / "checkpoint-3")
    with pytest.raises(
        CheckpointError, match=f"checkpoint-3: found no {RECORD}, expected the record of its run"
    ):
        trainer(folder).train(resume_from_checkpoint=True)


def test_extending_takes_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="extend: found True, expected False where no run is resumed"):
        trainer(tmp_path).train(extend=True)
    assert list(tmp_path.iterdir()) == []


def test_extended_with_constant_schedules_is_the_longer_run(tmp_path: Path) -> None:
    """Then nothing depends on how many steps are planned, and the order of batches begins alike."""
    constant = {"lr_scheduler_type": "constant"}
    longer = trainer(tmp_path / "longer", args={"max_steps": 12, **constant})
    longer.train()
    trainer(tmp_path / "run", args=constant).train()
    extended = trainer(tmp_path / "run", args={"max_steps": 12, **constant})
    extended.train(resume_from_checkpoint=True, extend=True)
    assert torch.equal(weight(extended), weight(longer))
    assert extended.exposure.state() == longer.exposure.state()


def test_extended_rates_are_those_of_the_longer_schedule(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rates: list[float] = []

    def rate_of(folder: Path, steps: int, **options: Any) -> HybridTrainer:
        done = trainer(folder, args={"max_steps": steps, "warmup_steps": 2, "logging_steps": 1})
        done.train(**options)
        rates[:] = [row["learning_rate"] for row in done.state.log_history if "learning_rate" in row]
        return done

    rate_of(tmp_path / "longer", 12)
    expected = list(rates)
    rate_of(tmp_path / "run", 6)
    assert rates[5] < expected[5]
    with caplog.at_level(logging.WARNING):
        done = rate_of(tmp_path / "run", 12, resume_from_checkpoint=True, extend=True)
    assert rates[6:] == expected[6:]
    assert (
        "extended at step 6 from 6 to 12 steps; learning rate there 0 -> 0.006 (linear over 12 steps)"
        in caplog.text
    )
    segments = RunRecord.read(tmp_path / "run/checkpoint-12" / RECORD).segments
    assert [(part.from_step, part.steps) for part in segments] == [(0, 6), (6, 12)]
    assert segments[1].learning_rate == (0.0, pytest.approx(0.006))
    assert done.run_record.segments == segments
    # the extended run goes on like any other, and is not extended twice
    shutil.rmtree(tmp_path / "run/checkpoint-12")
    caplog.clear()
    again = rate_of(tmp_path / "run", 12, resume_from_checkpoint=True)
    assert rates[6:] == expected[6:]
    assert "extended" not in caplog.text
    assert torch.equal(weight(again), weight(done))
    with pytest.raises(RunDiffersError, match="steps: found 6, the run has 12; a run is never shortened"):
        rate_of(tmp_path / "run", 6, resume_from_checkpoint=True, extend=True)


def card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_every_checkpoint_has_a_card_of_its_own(run_folder: Path, folder: Path) -> None:
    for step in (3, 6):
        text = card(run_folder / f"checkpoint-{step}")
        for phrase in (
            f"| steps | {step} of 6 |",
            "| base | tiny |",
            "| data | toy: 160 pairs, 40 groups |",
            f"| all | {step} | {8 * step} | 8.0 | 0 |",
            f"# checkpoint-{step}",
        ):
            assert phrase in text
        assert "| resumed |" not in text
    assert "README.md" in (run_folder / "checkpoint-3/pyhbt_manifest.json").read_text()
    trainer(folder).train(resume_from_checkpoint=True)
    assert "| resumed | at step 3 |" in card(folder / "checkpoint-6")


def test_a_card_tells_the_temperature_and_the_scores_of_its_step(tmp_path: Path) -> None:
    done = trainer(
        tmp_path,
        args={"save_steps": 2, "eval_strategy": "steps", "eval_steps": 2},
        objective=Objective(0.05, learn_temperature=True),
        evaluate=lambda encoder, step: {"monolingual mAP": step / 10},
    )
    done.train()
    texts = [card(tmp_path / f"checkpoint-{step}") for step in (2, 4, 6)]
    assert [
        f"| monolingual | 0.{step}000 |" in text for step, text in zip((2, 4, 6), texts, strict=True)
    ] == [True] * 3
    learnt = [next(row for row in text.splitlines() if row.startswith("| temperature |")) for text in texts]
    assert len(set(learnt)) == 3
    assert learnt[-1] == f"| temperature | {done.temperature:.4f}, learnt from 0.05 |"


def test_the_card_of_the_best_model_is_of_its_step(tmp_path: Path) -> None:
    done = trainer(
        tmp_path,
        args={
            "save_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "load_best_model_at_end": True,
            "metric_for_best_model": "monolingual mAP",
        },
        evaluate=lambda encoder, step: {"monolingual mAP": {4: 0.9}.get(step, 0.1)},
    )
    done.train()
    facts = done.card_facts()
    assert facts.training["steps"] == "4 of 6"
    assert facts.scores["monolingual mAP"] == 0.9
    assert facts.exposure is not None
    assert facts.exposure.total.batches == 4


def test_the_log_says_what_batches_held(tmp_path: Path) -> None:
    done = trainer(tmp_path, args={"per_device_train_batch_size": 64, "gradient_accumulation_steps": 2})
    done.train()
    rows = [row for row in done.state.log_history if "loss" in row]
    assert [row["short_batches"] for row in rows] == [4, 8, 12]
    assert {row["pairs_per_batch"] for row in rows} == {40.0}
    assert done.exposure.total.pairs == 40 * 12


def test_a_live_model_goes_on_whatever_its_unread_pooler_is(tmp_path: Path) -> None:
    """transformers draws a pooler that the checkpoint lacks at random, anew in every process."""
    bert = save_tiny_bert(tmp_path / "bert")

    def made(out: str, seed: int) -> HybridTrainer:
        torch.manual_seed(seed)
        model = SentenceTransformer(str(bert), device="cpu")
        assert model[0].model.pooler is not None
        return trainer(tmp_path / out, encoder=model, args={"learning_rate": 1e-3, "seed": 1})

    whole = made("run", 1)
    whole.train()
    shutil.copytree(tmp_path / "run" / "checkpoint-3", tmp_path / "resumed" / "checkpoint-3")
    resumed = made("resumed", 2)
    resumed.train(resume_from_checkpoint=True)
    found, wanted = (done.encoder.encode(["kalo", "ten ru"]) for done in (resumed, whole))
    assert torch.equal(found, wanted)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-6"))
