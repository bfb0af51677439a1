"""Files and folders are whole or absent."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyhbt.files import (
    FolderInUseError,
    check_apart,
    check_file_target,
    check_folder_target,
    clear_leftovers,
    only_writer,
    write_atomically,
)
from tests.interpreter import FOLDER, command


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


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError("9 requested and 4 written")]
)
def test_a_full_disk_is_told_with_the_file(error: OSError, tmp_path: Path) -> None:
    named = pytest.raises(OSError, match=f"^{tmp_path / 'a'} cannot be written [(](No space|9 requested)")
    with named, write_atomically(tmp_path / "a") as temporary:
        temporary.write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), write_atomically(tmp_path / "a"):
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(FileNotFoundError, match="^q.jsonl: no such file$"), write_atomically(tmp_path / "a"):
        raise FileNotFoundError("q.jsonl: no such file")


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


_HOLD = """
    import os, sys, time
    from pyhbt.files import only_writer
    with only_writer(sys.argv[1]):
        if sys.argv[2] == "alone" or os.fork() == 0:
            print(os.getpid(), flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["alone", "fork"])
def test_a_folder_has_one_writer_and_death_lets_it_go(kind: str, tmp_path: Path) -> None:
    """Also where a process that the dead one forked lives on."""
    target = tmp_path / "a/b"
    process = subprocess.Popen(command(_HOLD, target, kind), cwd=FOLDER, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = int(process.stdout.readline())
    try:
        holder = f"a/b is being written by process {process.pid} on {socket.gethostname()}: wait"
        with pytest.raises(FolderInUseError, match=re.escape(holder)), only_writer(target):
            raise AssertionError("two writers")
        process.kill()
        process.wait()
        assert (target / ".pyhbt-writer.lock").is_file()  # left, but held by nobody
        with only_writer(target):
            (target / "mine").write_text("1")
        assert [path.name for path in target.iterdir()] == ["mine"]
    finally:
        if last != process.pid:
            os.kill(last, signal.SIGKILL)
        process.stdout.close()


def test_threads_are_writers_too(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        with pytest.raises(FolderInUseError, match=f"process {os.getpid()} on"), only_writer(tmp_path):
            raise AssertionError("two writers")
        assert (tmp_path / ".pyhbt-writer.lock").is_file()  # the one that was refused took nothing with it
        with pytest.raises(FolderInUseError), only_writer(str(tmp_path)):
            raise AssertionError("two writers")
    with pytest.raises(RuntimeError, match="work"), only_writer(tmp_path):
        raise RuntimeError("work")
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_goes_where_nothing_was_written(tmp_path: Path) -> None:
    with only_writer(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with only_writer(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()


def test_a_lock_taken_away_under_it_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that held it ends, and removes the file, between our opening it and our locking it."""
    import fcntl

    path, locked = tmp_path / ".pyhbt-writer.lock", []

    def flock(descriptor: int, how: int, real: Any = fcntl.flock) -> None:
        real(descriptor, how)
        locked.append(descriptor)
        if len(locked) == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_writer(tmp_path):
        assert len(locked) == 2
        assert path.is_file()
        with pytest.raises(FolderInUseError), only_writer(tmp_path):
            raise AssertionError("two writers")


def test_where_nothing_can_be_locked_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    def none(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with only_writer(tmp_path):
        pass
    assert "cannot be locked against other processes" in caplog.text


LONG = "x" * 300


def test_places_where_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, kind, message in (
        ("folder", IsADirectoryError, "folder is a folder, expected a file"),
        ("pipe", FileExistsError, "pipe is a device or pipe, expected a file"),
        ("file/x", NotADirectoryError, "file is a file, expected a folder for .*file/x"),
        ("file/new/x", NotADirectoryError, "file is a file, expected a folder for .*file/new/x"),
        ("loop/x", NotADirectoryError, "loop is a link to nothing, expected a folder"),
        (LONG, OSError, f"{LONG} cannot be written .File name too long"),
        (f"new/{LONG}/x", OSError, "x cannot be written .File name too long"),
        ("a\0b", ValueError, "cannot be written .*null"),
        ("new/a\0b/x", ValueError, "cannot be written .*null"),
    ):
        with pytest.raises(kind, match=f"^out: .*{message}"):
            check_file_target("out", tmp_path / path)
    with pytest.raises(ValueError, match=r"^out: found '.*x\.txt', expected a name that ends in \.npy"):
        check_file_target("out", tmp_path / "x.txt", ".npy")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file", "pipe", "loop"}
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_the_system_forbids_is_told_before(tmp_path: Path) -> None:
    for target in (check_file_target, check_folder_target):
        with pytest.raises(OSError, match="^out: /proc/x cannot be written"):
            target("out", "/proc/x")
        with pytest.raises(OSError, match="^out: /proc/new/x cannot be written"):
            target("out", "/proc/new/x")


def test_places_where_a_file_can_be_written_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "old.npy").write_text("old")
    for name in ("old.npy", "new.npy", "new/folder/x.npy", "[b]/ü \u202e.npy"):
        assert check_file_target("out", str(tmp_path / name), ".npy") == tmp_path / name
        assert check_folder_target("out", tmp_path / "new") == tmp_path / "new"
    assert [path.name for path in tmp_path.iterdir()] == ["old.npy"]
    assert (tmp_path / "old.npy").read_text() == "old"


def test_places_where_a_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "out/page").mkdir(parents=True)
    (tmp_path / "out/cells").write_text("")
    (tmp_path / "nowhere").symlink_to("gone")
    for path, message in (
        ("file", "file is a file, expected a folder"),
        ("file/x", "file is a file, expected a folder for"),
        ("nowhere", "nowhere is a link to nothing, expected a folder"),
        (LONG, "cannot be written .File name too long"),
    ):
        with pytest.raises(OSError, match=f"^out: .*{message}"):
            check_folder_target("out", tmp_path / path)
    with pytest.raises(IsADirectoryError, match="^out: .*page is a folder, expected a file"):
        check_folder_target("out", tmp_path / "out", files=["page"])
    with pytest.raises(NotADirectoryError, match="^out: .*cells is a file, expected a folder"):
        check_folder_target("out", tmp_path / "out", folders=["cells"])


def test_one_file_for_two_purposes_is_refused(tmp_path: Path) -> None:
    check_apart(run=tmp_path / "a", qrels=tmp_path / "b", out=None)
    (tmp_path / "link").symlink_to("a")
    for second in (tmp_path / "a", tmp_path / "x/../a", tmp_path / "link"):
        with pytest.raises(ValueError, match="qrels: found .*, which is run too, expected another file"):
            check_apart(run=tmp_path / "a", qrels=second)


def test_files_have_the_mode_of_the_user_and_folders_are_made(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with write_atomically(tmp_path / "new/folder/a") as temporary:
            temporary.write_text("")
        with write_atomically(tmp_path / "of a library") as temporary:
            temporary.mkdir()
            os.close(os.open(temporary / "weights", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        assert os.umask(old) == 0o027
    for path in ("new/folder/a", "of a library/weights"):
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o640
