"""Files and folders are whole or absent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pyhbt.files import clear_leftovers, write_atomically


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


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leftover(target: Path, process: int, host: str | None = None) -> Path:
    path = target.with_name(f".{target.name}.{host or socket.gethostname()}.{process}.0.partial")
    path.mkdir()
    (path / "half").write_text("half")
    return path


def test_what_the_dead_left_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    dead = dead_process()
    mine = leftover(target, dead)
    others = (
        leftover(target, os.getpid()),
        leftover(target, dead, "elsewhere"),
        leftover(tmp_path / "b.txt", dead),
    )
    with write_atomically(target) as temporary:
        temporary.write_text("new")
    assert not mine.exists()
    assert all(path.is_dir() for path in others)
    clear_leftovers(tmp_path)
    assert [path.is_dir() for path in others] == [True, True, False]
    clear_leftovers(tmp_path / "missing")


def test_a_folder_set_aside_by_a_crash_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / ".folder.old"
    aside.mkdir()
    (aside / "content").write_text("old")
    with pytest.raises(RuntimeError), write_atomically(tmp_path / "folder", replace=True):
        raise RuntimeError
    assert (tmp_path / "folder" / "content").read_text() == "old"
    aside.mkdir()  # the crash came after the new one was in place
    with write_atomically(tmp_path / "folder", replace=True) as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_everything_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    with write_atomically(tmp_path / "folder") as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "file").write_text("text")
        wanted = {
            path.stat().st_ino for path in (temporary, temporary / "inner", temporary / "inner" / "file")
        }
    assert wanted | {tmp_path.stat().st_ino} == set(synced)
    assert synced[-1] == tmp_path.stat().st_ino


def test_two_writers_of_one_process_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with write_atomically(target) as first, write_atomically(target) as second:
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"
