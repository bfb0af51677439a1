"""Checkpoints: sealed, found, faults named, old ones discarded."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyhbt.seals import MANIFEST, seal
from pyhbt.training import checkpoints
from pyhbt.training.checkpoints import CheckpointError


def make(folder: Path, step: int, *, sealed: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "inner").mkdir(parents=True)
    (checkpoint / "weights").write_bytes(bytes(range(256)) * step)
    (checkpoint / "inner/config.json").write_text("{}")
    if sealed:
        seal(checkpoint)
    return checkpoint


def _truncate(checkpoint: Path) -> None:
    (checkpoint / "weights").write_bytes(b"short")


def _flip(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "weights").read_bytes())
    content[100] ^= 1
    (checkpoint / "weights").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: (c / MANIFEST).unlink(), "it was not finished"),
        (lambda c: (c / "inner/config.json").unlink(), "inner/config.json is missing"),
        (_truncate, "weights has 5 bytes, expected 1024"),
        (_flip, "weights is damaged"),
        (lambda c: (c / MANIFEST).write_text("{"), f"{MANIFEST} cannot be read"),
        (lambda c: (c / MANIFEST).write_text('{"files": 3}'), f"{MANIFEST} cannot be read"),
    ],
)
def test_faults_are_named(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    checkpoint = make(tmp_path, 4)
    checkpoints.check(checkpoint)
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=f"^{checkpoint}: {message}"):
        checkpoints.check(checkpoint)


def test_the_last_whole_one_is_found_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checkpoints.last_whole(tmp_path) is None
    make(tmp_path, 9)
    make(tmp_path, 10)
    _flip(make(tmp_path, 11))
    make(tmp_path, 100, sealed=False)
    (tmp_path / "checkpoint-x").mkdir()
    with caplog.at_level(logging.WARNING):
        assert checkpoints.last_whole(tmp_path) == tmp_path / "checkpoint-10"
    assert "checkpoint-100: it was not finished; resuming from checkpoint-10" in caplog.text
    assert "checkpoint-11: weights is damaged; resuming from checkpoint-10" in caplog.text


def test_old_ones_go_in_the_order_of_their_seals(tmp_path: Path) -> None:
    for step in (9, 3, 6):  # resumed from 3, after 9
        make(tmp_path, step)
        time.sleep(0.02)
    make(tmp_path, 12, sealed=False)
    best = make(tmp_path, 1)
    os.utime(best / MANIFEST, (0, 0))
    checkpoints.keep_last(tmp_path, None)
    checkpoints.keep_last(tmp_path, 0)
    assert len(checkpoints.checkpoints(tmp_path)) == 5
    checkpoints.keep_last(tmp_path, 2, str(best))
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == [
        "checkpoint-6",
        "checkpoint-1",
    ]
