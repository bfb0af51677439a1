"""Files and folders that are whole or absent, written under a temporary name, synced, renamed; one writer a folder.

Works on any POSIX file system; where folders cannot be synced (Windows), the system decides when a rename is durable.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".pyhbt-writer.lock"

logger = logging.getLogger(__name__)

_written = itertools.count()
_held: set[int] = set()


class FolderInUseError(OSError):
    """Another process writes to the folder."""


@contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Be the one that writes to ``folder``, which is made, until the block ends or the process dies.

    The system holds the lock (``flock``) and lets it go with the process, however that ends; processes forked in the
    block do not keep it. It reaches other machines where the locks of the file system do (NFS version 4, or with a lock
    manager). Where there are none, a warning says so and nothing is held; on Windows nothing is held.

    Raises:
        FolderInUseError: another process holds it, or another thread of this one; names the process and its machine.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = _lock(path)
    try:
        if lock is not None:
            _held.add(lock)
        yield
    finally:
        if lock in _held:  # not so in a forked process
            # while it is held, so that whoever opened it before sees that it is gone
            path.unlink(missing_ok=True)
            _held.discard(lock)
            os.close(lock)
        if is_new:
            remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Remove a folder where nothing is in it; another process may do so, or write to it, at the same time."""
    with suppress(OSError):
        folder.rmdir()


def _lock(path: Path) -> int | None:
    """The descriptor that holds the lock; None where the file system has none."""
    if sys.platform == "win32":
        return None
    import fcntl

    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == path.stat().st_ino:
                break
        except BlockingIOError:
            holder = _holder(os.pread(lock, 1000, 0))
            os.close(lock)
            raise FolderInUseError(
                f"{path.parent} is being written by {holder}: wait for it to end, or choose another folder"
            ) from None
        except FileNotFoundError:
            pass  # the one that held it has just ended and taken the file with it
        except OSError as error:
            os.close(lock)
            logger.warning("%s: cannot be locked against other processes (%s)", path.parent, error)
            return None
        os.close(lock)
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode())
    return lock


def _holder(written: bytes) -> str:
    try:
        found = json.loads(written)
        return f"process {found['process']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"  # which has not said its name yet


def _forget_locks() -> None:
    """In a forked process: leave the lock to the parent, so that it ends with that one."""
    for lock in _held:
        os.close(lock)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


@contextmanager
def write_atomically(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` (file or folder) that takes its place when the block ends well.

    On an error the temporary is removed and ``path`` stays as it was. A folder replaces only a missing or an empty one,
    or with ``replace`` any. Everything written, the folder's files and the rename itself reach the disk before the
    block ends, so a crash leaves the old or the new content. What processes that have died left of ``path`` is cleared
    first; a folder that was being replaced when its process died comes back. Folders above it are made. Costs a sync a
    file.

    Raises:
        OSError: the system does not take it, as where the disk is full; names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    temporary = _beside(path)
    try:
        yield temporary
        _sync(temporary)
        if replace and temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            temporary.replace(path)
            _sync_folder(path.parent)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError) and error.filename is None and (error.errno or type(error) is OSError):
            raise OSError(f"{path} cannot be written ({error.strerror or error})") from error
        raise


def check_file_target(name: str, path: str | os.PathLike[str], suffix: str = "") -> Path:
    """``path``, which argument ``name`` wants a file written to; tried with an empty one, and nothing of it stays.

    Raises:
        ValueError: its name does not end in ``suffix``.
        OSError: a folder or device is there, a file where a folder should be, or the system does not let it be written.
    """
    path = Path(path)
    if suffix and path.suffix != suffix:
        raise ValueError(f"{name}: found {str(path)!r}, expected a name that ends in {suffix}")
    if (kind := _kind(path)) == "folder":
        raise IsADirectoryError(f"{name}: {path} is a folder, expected a file")
    if kind not in ("", "file", "link to nothing"):
        raise FileExistsError(f"{name}: {path} is a {kind}, expected a file")
    _try_to_write(name, path, path)
    return path


def check_folder_target(
    name: str, path: str | Path, files: Iterable[str] = (), folders: Iterable[str] = ()
) -> Path:
    """The same for a folder, and for ``files`` and ``folders`` that are to be written in it.

    Raises:
        OSError: a file is there, or the system does not let it be written.
    """
    path = Path(path)
    if (kind := _kind(path)) not in ("", "folder"):
        raise NotADirectoryError(f"{name}: {path} is a {kind}, expected a folder")
    _try_to_write(name, path, path / "any")
    for file in files:
        if _kind(path / file) == "folder":
            raise IsADirectoryError(f"{name}: {path / file} is a folder, expected a file")
    for folder in folders:
        if (kind := _kind(path / folder)) not in ("", "folder"):
            raise NotADirectoryError(f"{name}: {path / folder} is a {kind}, expected a folder")
    return path


def check_apart(**paths: Path | None) -> None:
    """Refuse two arguments that mean the same file, one of which would be written over the other.

    Raises:
        ValueError: two do; names both.
    """
    seen: dict[str, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        other = seen.setdefault(os.path.realpath(path), name)
        if other != name:
            raise ValueError(f"{name}: found {path}, which is {other} too, expected another file")


def _try_to_write(name: str, wanted: Path, path: Path) -> None:
    """Make ``path`` as :func:`write_atomically` would, folders above it too, and take everything away again."""
    made: list[Path] = []
    try:
        missing = [folder for folder in path.parents if not _kind(folder)]
        nearest = path.parents[len(missing)]
        if (kind := _kind(nearest)) != "folder":
            raise NotADirectoryError(f"{name}: {nearest} is a {kind}, expected a folder for {wanted}")
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
        temporary = _beside(path)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        if error.strerror is None:  # ours
            raise
        raise type(error)(f"{name}: {wanted} cannot be written ({error.strerror})") from error
    except ValueError as error:  # such as a zero byte
        raise ValueError(f"{name}: {str(wanted)!r} cannot be written ({error})") from error
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # another process has begun to use it
                folder.rmdir()


def _kind(path: Path) -> str:
    """What lies at ``path``, in a word; nothing where nothing does, or no name could be so."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return "link to nothing" if os.path.lexists(path) else ""
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "device or pipe"


def _beside(path: Path) -> Path:
    """A temporary name beside ``path``."""
    return path.with_name(f".{path.name}.{_owner()}.{next(_written)}.partial")


def _replace_folder(temporary: Path, path: Path) -> None:
    """Put ``temporary`` in the place of a folder; where several do so at once, the last one's stands."""
    while True:
        old = path.with_name(f".{path.name}.{_owner()}.{next(_written)}.old")
        try:
            with suppress(FileNotFoundError):  # another process has just set it aside
                path.replace(old)
            temporary.replace(path)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                if old.exists():
                    _remove(old)  # another process has put its own there
                continue
            if old.exists() and not path.exists():
                old.replace(path)
            raise
        _sync_folder(path.parent)
        if old.exists():
            _remove(old)
        return


def clear_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what dead processes of this machine left half-written in ``folder``: of ``name`` alone, or all."""
    of_name = ".+" if name is None else re.escape(name)
    pattern = re.compile(rf"\.{of_name}\.{re.escape(socket.gethostname())}\.(\d+)\.\d+\.partial")
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not _alive(int(match[1])):
            _remove(path)


def recover(path: Path) -> None:
    """Clear what the dead left of ``path``; a folder set aside comes back where its replacement never came.

    A folder that a living process is replacing is left to it.
    """
    clear_leftovers(path.parent, path.name)
    if not path.parent.is_dir():
        return
    pattern = re.compile(rf"\.{re.escape(path.name)}(\.{re.escape(socket.gethostname())}\.(\d+)\.\d+)?\.old")
    for old in sorted(path.parent.iterdir()):
        match = pattern.fullmatch(old.name)
        if match is None or (match[2] and _alive(int(match[2]))):
            continue
        if path.exists():
            _remove(old)
        else:
            old.replace(path)


def _owner() -> str:
    return f"{socket.gethostname()}.{os.getpid()}"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def finish_file(path: Path) -> None:
    """Bring a file to the disk; one that a library wrote for its owner alone gets the mode of the user's others."""
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) == 0o600:
        umask = os.umask(0o077)  # which can only be read by setting it
        os.umask(umask)
        path.chmod(0o666 & ~umask)
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _sync(path: Path) -> None:
    """Bring a file, or a folder with all that it holds, to the disk."""
    if not path.is_dir():
        finish_file(path)
        return
    for entry in path.iterdir():
        if not entry.is_symlink():
            _sync(entry)
    _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
