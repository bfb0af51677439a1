"""Sealed folders: what was damaged later is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pyhbt.seals import MANIFEST, fault, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights").write_bytes(bytes(range(256)))
    (tmp_path / "inner/config.json").write_text("{}")
    return tmp_path


def _flip(folder: Path) -> None:
    content = bytearray((folder / "weights").read_bytes())
    content[100] ^= 1
    (folder / "weights").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / MANIFEST).unlink(), "it was not finished"),
        (lambda f: (f / "inner/config.json").unlink(), "inner/config.json is missing"),
        (lambda f: (f / "weights").write_bytes(b""), "weights has 0 bytes, expected 256"),
        (lambda f: (f / "weights").write_bytes(b"short"), "weights has 5 bytes, expected 256"),
        (_flip, "weights is damaged"),
        *(
            (lambda f, text=text: (f / MANIFEST).write_text(text), f"{MANIFEST} cannot be read")
            for text in ("", "{", '{"files": 3}', '{"files": {"weights": 3}}', "[" * 100_000)
        ),
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    seal(folder)
    assert fault(folder) is None
    damage(folder)
    found = fault(folder)
    assert found is not None
    assert message in found


def test_folders_below_may_have_seals_of_their_own(folder: Path) -> None:
    seal(folder, below=False)
    (folder / "inner/config.json").unlink()
    assert fault(folder) is None


def test_sealed_files_have_the_mode_of_the_user(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.touch(mode=0o600)
    seal(tmp_path)
    assert weights.stat().st_mode == (tmp_path / MANIFEST).stat().st_mode
