"""TrainingConfig and train_encoder: defaults, files, resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pyhbt.data.types import PairSet
from pyhbt.encoders import NgramEncoder, load_encoder
from pyhbt.training import TrainingConfig, train_encoder

from .toy import parallel_items, save_tiny_bert

PAIRS = PairSet.from_parallel(parallel_items(20, ("aa", "bb")))
CONFIG = TrainingConfig(steps=6, batch_size=8, learning_rate=0.01, temperature=0.05)


def small() -> NgramEncoder:
    return NgramEncoder(dim=8, num_buckets=256)


def test_defaults_suit_the_encoder(tmp_path: Path) -> None:
    ngram = TrainingConfig.for_encoder(small(), steps=None, batch_size=5)
    assert (ngram.batch_size, ngram.temperature) == (5, 0.05)
    narrow = TrainingConfig.for_encoder(load_encoder(save_tiny_bert(tmp_path / "narrow")))
    assert (narrow.learning_rate, narrow.temperature, narrow.weight_decay) == (1e-4, 0.02, 0.01)
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
    import shutil

    shutil.rmtree(tmp_path / "checkpoints/checkpoint-6")
    again = small()
    train_encoder(again, PAIRS, CONFIG, tmp_path, save_every=4, resume=True)
    assert torch.equal(again.table.weight, whole.table.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: found 0"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"temperature": 0.0}, "temperature: found 0.0, expected a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate: found nan"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig.for_encoder(small(), **options)
