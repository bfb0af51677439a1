"""Files that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_atomically(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` (file or folder) that takes its place when the block ends well.

    On an error the temporary is removed and ``path`` stays as it was. A folder replaces only a missing or an
    empty one, or with ``replace`` any: then a crash may leave the old one as ``.NAME.old`` beside the new one.
    The content reaches the disk before the rename, so a crash leaves the old or the new content.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        if replace and path.is_dir():
            old = path.with_name(f".{path.name}.old")
            _remove(old)
            path.replace(old)
            temporary.replace(path)
            _remove(old)
        else:
            temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
