from __future__ import annotations

from pathlib import Path

import pytest

from pyhbt.files import write_atomically


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with write_atomically(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), write_atomically(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("halfway")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "cell"
    with pytest.raises(RuntimeError, match="halfway"), write_atomically(target) as temporary:
        temporary.mkdir()
        (temporary / "rows").write_text("1")
        raise RuntimeError("halfway")
    assert list(tmp_path.iterdir()) == []
    with write_atomically(target) as temporary:
        temporary.mkdir()
        (temporary / "rows").write_text("1")
    assert (target / "rows").read_text() == "1"
