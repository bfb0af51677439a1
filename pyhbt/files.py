"""Files and folders that are whole or absent: written under a temporary name, synced, then renamed.

Works on any POSIX file system; where folders cannot be synced (Windows), the system decides when a rename is durable.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_written = itertools.count()


@contextmanager
def write_atomically(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` (file or folder) that takes its place when the block ends well.

    On an error the temporary is removed and ``path`` stays as it was. A folder replaces only a missing or an empty one,
    or with ``replace`` any. Everything written, the folder's files and the rename itself reach the disk before the
    block ends, so a crash leaves the old or the new content. What processes that have died left of ``path`` is cleared
    first; a folder that was being replaced when its process died comes back. Costs a sync a file.
    """
    path = Path(path)
    _recover(path)
    temporary = path.with_name(f".{path.name}.{_owner()}.{next(_written)}.partial")
    try:
        yield temporary
        _sync(temporary)
        if replace and path.is_dir():
            old = _set_aside(path)
            path.replace(old)
            temporary.replace(path)
            _sync_folder(path.parent)
            _remove(old)
        else:
            temporary.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        _remove(temporary)
        raise


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


def _recover(path: Path) -> None:
    """Clear what the dead left of ``path``; a folder set aside comes back where its replacement never came."""
    clear_leftovers(path.parent, path.name)
    old = _set_aside(path)
    if old.exists():
        if path.exists():
            _remove(old)
        else:
            old.replace(path)


def _set_aside(path: Path) -> Path:
    """Where a folder lies while another takes its place."""
    return path.with_name(f".{path.name}.old")


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


def _sync(path: Path) -> None:
    """Bring a file, or a folder with all that it holds, to the disk."""
    if not path.is_dir():
        with path.open("rb") as written:
            os.fsync(written.fileno())
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
