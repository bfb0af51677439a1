"""TrainingConfig and train_encoder: defaults, files, resume."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import NgramEncoder, load_encoder
from pyhbt.files import FolderInUseError
from pyhbt.options import changed, read_config, write_config
from pyhbt.training.checkpoints import MANIFEST, checkpoints
from pyhbt.training.config import TrainingConfig
from pyhbt.training.record import RunDiffersError
from pyhbt.training.run import make_trainer, train_encoder
from tests.ranks import command, environment, write_script
from tests.toy import parallel_items, save_tiny_bert

PAIRS = PairSet.from_parallel(parallel_items(20, ("aa", "bb")))
CONFIG = TrainingConfig.of(steps=6, batch_size=8, learning_rate=0.01, temperature=0.05)


def small() -> NgramEncoder:
    return NgramEncoder(dim=8, num_buckets=256)


def test_defaults_suit_the_encoder(tmp_path: Path) -> None:
    ngram = TrainingConfig.for_encoder(small(), steps=None, batch_size=5)
    assert (ngram.batch_size, ngram.objective.temperature) == (5, 0.05)
    narrow = TrainingConfig.for_encoder(load_encoder(save_tiny_bert(tmp_path / "narrow")))
    assert (narrow.learning_rate, narrow.objective.temperature) == (1e-4, 0.02)
    assert narrow.trainer_arguments(tmp_path, 0).weight_decay == 0.01
    wide = TrainingConfig.for_encoder(load_encoder(save_tiny_bert(tmp_path / "wide", hidden=400)))
    assert wide.learning_rate == 3e-5


def test_files(tmp_path: Path) -> None:
    encoder = small()
    saved = train_encoder(encoder, PAIRS, CONFIG, tmp_path, save_every=2)
    assert saved == tmp_path / "encoder"
    assert torch.equal(load_encoder(saved).encode(["kalo"]), encoder.encode(["kalo"]))
    assert sorted(p.name for p in (tmp_path / "checkpoints").glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-6",
    ]
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_resume(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        train_encoder(small(), PAIRS, CONFIG, tmp_path, resume=True)
    whole = small()
    train_encoder(whole, PAIRS, CONFIG, tmp_path, save_every=4)
    with pytest.raises(FileExistsError, match="checkpoint-6 is there: resume from it"):
        train_encoder(small(), PAIRS, CONFIG, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/checkpoint-6")
    again = small()
    train_encoder(again, PAIRS, CONFIG, tmp_path, save_every=4, resume=True)
    assert torch.equal(again.table.weight, whole.table.weight)


def test_card_and_language_means(tmp_path: Path) -> None:
    encoder = load_encoder(save_tiny_bert(tmp_path / "bert"))
    saved = train_encoder(
        encoder,
        PAIRS,
        CONFIG,
        tmp_path / "out",
        ratio="linear:0:1",
        evaluate=lambda encoder, step: {"monolingual mAP": step / 10},
        eval_every=3,
        language_means=True,
        base="tiny",
        data_name="toy",
        scored_on="toy dev",
    )
    card = (saved / "README.md").read_text()
    for phrase in (
        "| base | tiny |",
        "| languages | aa bb |",
        "| data | toy: 80 pairs, 20 groups |",
        "| cross-lingual ratio | linear:0:1 |",
        "| learning_rate | 0.01 |",
        "## Scores on toy dev",
        "| monolingual | 0.6000 |",
    ):
        assert phrase in card
    loaded = load_encoder(saved)
    assert loaded.language_means is not None
    assert loaded.language_means.means.keys() == {(k, c) for k in ("query", "passage") for c in ("aa", "bb")}
    passages = sorted({(pair.passage, pair.passage_lang) for pair in PAIRS})
    here = loaded.encode([text for text, lang in passages if lang == "aa"]).double().mean(0)
    torch.testing.assert_close(loaded.language_means.means["passage", "aa"].double(), here, atol=1e-6, rtol=0)
    AutoModel.from_pretrained(saved)


def test_a_second_training_replaces_the_encoder_whole(tmp_path: Path) -> None:
    train_encoder(small(), PAIRS, CONFIG, tmp_path, save_every=3)
    (tmp_path / "encoder/stale").write_text("of the first")
    again = small()
    train_encoder(again, PAIRS, CONFIG, tmp_path, save_every=3, resume=True)
    assert not (tmp_path / "encoder/stale").exists()
    assert torch.equal(load_encoder(tmp_path / "encoder").encode(["kalo"]), again.encode(["kalo"]))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 steps that was interrupted after step 4."""
    out = tmp_path_factory.mktemp("stopped")
    train_encoder(small(), PAIRS, CONFIG, out, save_every=4, base="tiny", data_name="toy")
    shutil.rmtree(out / "checkpoints/checkpoint-6")
    return out


@pytest.fixture
def stopped(stopped_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped_run, tmp_path / "run"))


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OTHER = PairSet.from_parallel(parallel_items(20, ("aa", "bb"), seed=1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ratio": 0.25}, "ratio: found 0.25, the run has 0.5"),
        ({"seed": 1}, "seed: found 1, the run has 0"),
        ({"temperature": 0.1}, "temperature: found 0.1, the run has 0.05"),
        ({"learn_temperature": True}, "learn_temperature: found True, the run has False"),
        ({"learning_rate": 0.1}, "learning_rate: found 0.1, the run has 0.01"),
        ({"steps": 3}, "steps: found 3, the run has 6; a run is never shortened"),
        ({"steps": 12}, "steps: found 12, the run has 6; more steps take extend"),
        ({"steps": 12, "batch_size": 4, "extend": True}, "batch_size: found 4, the run has 8"),
        ({"steps": 3, "extend": True}, "steps: found 3, the run has 6; a run is never shortened"),
        ({"pairs": OTHER}, "pairs: found {'pairs': 80, 'groups': 20, 'blake2b': "),
        ({"encoder": NgramEncoder(dim=8, num_buckets=256, seed=1)}, "encoder_weights: found "),
    ],
)
@pytest.mark.parametrize("lost", ["run.json", f"checkpoints/checkpoint-4/{MANIFEST}"])
def test_another_run_is_refused(given: dict[str, Any], message: str, lost: str, stopped: Path) -> None:
    """By the checkpoint alone; and where it was killed before it had one, and would begin anew, by the folder."""
    (stopped / lost).unlink()
    before = content(stopped)
    given = {"encoder": small(), "pairs": PAIRS, **given}
    own = {name: given.pop(name) for name in ("ratio", "seed", "extend") if name in given}
    encoder, pairs = given.pop("encoder"), given.pop("pairs")
    with pytest.raises(RunDiffersError, match=re.escape(message)):
        train_encoder(encoder, pairs, changed(CONFIG, **given), stopped, save_every=4, resume=True, **own)
    assert content(stopped) == before


def test_output_may_change(stopped: Path, tmp_path: Path) -> None:
    whole = small()
    train_encoder(whole, PAIRS, CONFIG, tmp_path / "whole")
    again = small()
    saved = train_encoder(
        again,
        PAIRS,
        CONFIG,
        stopped,
        save_every=1,
        resume=True,
        language_means=True,
        evaluate=lambda encoder, step: {"monolingual mAP": 0.5},
        scored_on="dev",
    )
    assert torch.equal(again.table.weight, whole.table.weight)
    card = (saved / "README.md").read_text()
    for phrase in (
        "| base | tiny |",
        "| data | toy: 80 pairs",
        "## Scores on dev",
        "| resumed | at step 4 |",
    ):
        assert phrase in card
    steps = [path.name for path in checkpoints(stopped / "checkpoints")]
    assert steps == ["checkpoint-6", "checkpoint-5"]


def test_extended(stopped: Path) -> None:
    """Options that follow from the number of steps stay those of the run: 1 step of warm-up, not 3."""
    out = stopped
    write_config(
        out / "config.yaml", {**read_config(out / "config.yaml"), "data": "toy"}, "as the command writes it"
    )
    longer = changed(CONFIG, steps=12)
    with pytest.raises(ValueError, match="extend: found True, expected False where no run is resumed"):
        train_encoder(small(), PAIRS, longer, out, extend=True)
    saved = train_encoder(small(), PAIRS, longer, out, save_every=4, resume=True, extend=True)
    record = json.loads((out / "run.json").read_text())
    assert record["arguments"]["warmup_steps"] == 1
    assert record["options"]["steps"] == 12
    rate = 0.01 * (12 - 4) / (12 - 1)
    assert record["segments"][1]["learning_rate"] == [pytest.approx(0.01 * 2 / 5), pytest.approx(rate)]
    config = read_config(out / "config.yaml")
    assert (config["steps"], config["data"]) == (12, "toy")
    card = (saved / "README.md").read_text()
    assert "| steps | 12 of 12 |" in card
    assert (
        f"| extended | at step 4 from 6 to 12 steps; learning rate there 0.004 -> {rate:g} (linear over"
        in card
    )
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 13))


def test_an_extension_that_was_killed_before_its_first_checkpoint_goes_on(
    stopped: Path, stopped_run: Path, tmp_path: Path
) -> None:
    def killed(encoder: Any, step: int) -> dict[str, float]:
        raise KeyboardInterrupt

    out, longer = stopped, changed(CONFIG, steps=12)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(small(), PAIRS, longer, out, resume=True, extend=True, evaluate=killed, eval_every=5)
    train_encoder(small(), PAIRS, longer, out, save_every=12, resume=True)
    expected = small()
    other = Path(shutil.copytree(stopped_run, tmp_path / "other"))
    train_encoder(expected, PAIRS, longer, other, save_every=12, resume=True, extend=True)
    assert (out / "encoder/model.safetensors").read_bytes() == (
        other / "encoder/model.safetensors"
    ).read_bytes()


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    seen = []

    def meanwhile(encoder: Any, step: int) -> dict[str, float]:
        with pytest.raises(FolderInUseError, match=f"{tmp_path} is being written by process {os.getpid()}"):
            train_encoder(small(), PAIRS, CONFIG, tmp_path, resume=True)
        seen.append(step)
        return {}

    train_encoder(small(), PAIRS, CONFIG, tmp_path, evaluate=meanwhile, eval_every=3)
    assert seen == [3, 6]


def test_what_is_refused_leaves_no_record(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        train_encoder(small(), PAIRS, CONFIG, tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_train_command_on_two_ranks(tmp_path: Path) -> None:
    """torchrun pyhbt train: one encoder, one log, one voice, and the losses of one process with the union batch."""
    script = write_script(tmp_path / "run.py", "from pyhbt.cli import main\nmain()\n")
    losses = []
    for ranks, batch_size in ((2, 8), (1, 16)):
        out = tmp_path / str(ranks)
        options = ["train", "--data", "cldr", "--languages", "en,de,fr", "--steps", "6"]
        options += ["--batch-size", str(batch_size), "--eval-every", "3", "--out", str(out)]
        done = subprocess.run(
            command(script, ranks, *options),
            check=True,
            env=environment(),
            timeout=300,
            capture_output=True,
            text=True,
        )
        assert done.stdout.count("encoder: ") == 1
        assert done.stdout.count("'train_runtime'") == 1
        rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
        assert [row["step"] for row in rows if "eval_monolingual mAP" in row] == [3, 6]
        losses.append([row["loss"] for row in rows if "loss" in row])
        load_encoder(out / "encoder")
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_processes_that_are_not_joined_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = CONFIG.trainer_arguments(tmp_path, 0)
    assert arguments.world_size == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="args: found world_size 1 in one of 2 processes"):
        make_trainer(CONFIG, small(), arguments, PAIRS, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code_switching": 0.3}, "lexicon: found None, expected a file: code_switching is 0.3"),
        ({"code_switching": 1.3}, r"code_switching: found 1.3, expected a number in \[0, 1\]"),
        ({"js_weight": -1.0}, "js_weight: found -1.0"),
        ({"steps": 0}, "steps: found 0"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"temperature": 0.0}, "temperature: found 0.0, expected a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate: found nan"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig.for_encoder(small(), **options)


@pytest.mark.parametrize("merged", [False, True])
def test_adapters_are_trained_kept_in_checkpoints_and_merged_on_request(merged: bool, tmp_path: Path) -> None:
    bert = save_tiny_bert(tmp_path / "bert")
    config = TrainingConfig.of(
        steps=4, batch_size=4, learning_rate=1e-2, lora="r=2,alpha=32", merge_lora=merged
    )
    pairs = PairSet.from_parallel(parallel_items(12, ("aa", "bb")))
    encoder = load_encoder(bert)
    saved = train_encoder(encoder, pairs, config, tmp_path / "out", save_every=2)
    names = {path.name for path in (tmp_path / "out/checkpoints/checkpoint-4").iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    assert (saved / "adapter_model.safetensors").is_file() == (not merged)
    assert (saved / "model.safetensors").is_file() == merged
    assert ("| adapters | added to the weights |" in (saved / "README.md").read_text()) == merged
    loaded = load_encoder(saved)
    torch.testing.assert_close(loaded.encode(["kalo"]), encoder.encode(["kalo"]), atol=1e-6, rtol=0)
    assert not torch.allclose(loaded.encode(["kalo"]), load_encoder(bert).encode(["kalo"]), atol=1e-4)
    checkpoint = load_encoder(tmp_path / "out/checkpoints/checkpoint-4")
    torch.testing.assert_close(checkpoint.encode(["kalo"]), loaded.encode(["kalo"]), atol=1e-6, rtol=0)


def test_what_is_refused_leaves_no_adapter(tmp_path: Path) -> None:
    encoder = load_encoder(save_tiny_bert(tmp_path / "bert"))
    pairs = PairSet.from_parallel(parallel_items(12, ("aa", "bb")))
    config = TrainingConfig.of(steps=2, batch_size=4, learning_rate=1e-2, lora="r=2")
    before, trained = encoder.describe(), [weight.requires_grad for weight in encoder.parameters()]
    with pytest.raises(ValueError, match="matryoshka_dims: found 64"):
        train_encoder(encoder, pairs, changed(config, matryoshka_dims=(64,)), tmp_path / "out")
    train_encoder(load_encoder(tmp_path / "bert"), pairs, config, tmp_path / "out")
    with pytest.raises(RunDiffersError, match="LoRA r=3"):
        train_encoder(encoder, pairs, changed(config, lora="r=3"), tmp_path / "out", resume=True)
    assert encoder.describe() == before
    assert [weight.requires_grad for weight in encoder.parameters()] == trained


def test_no_adapters_for_ngrams(tmp_path: Path) -> None:
    config = TrainingConfig.of(steps=2, batch_size=4, learning_rate=1e-2, lora="r=2")
    with pytest.raises(ValueError, match="NgramEncoder has no linear layers"):
        train_encoder(
            NgramEncoder(dim=4, num_buckets=16),
            PairSet.from_parallel(parallel_items(12, ("aa", "bb"))),
            config,
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()
