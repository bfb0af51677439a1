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


def test_a_folder_replaces_another_whole_where_asked(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for content in ("first", "second"):
        with write_atomically(folder, replace=True) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [path.name for path in folder.iterdir()] == ["second"]
    with pytest.raises(RuntimeError), write_atomically(folder, replace=True) as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(OSError, match="not empty"), write_atomically(folder) as temporary:
        temporary.mkdir()
