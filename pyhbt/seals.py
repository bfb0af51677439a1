"""Folders that list their files with size and SHA-256, so that what was damaged later is found.

The list is the manifest, written last: a folder without it was not finished. Cells of studies and checkpoints of
trainings are sealed so. An index, whose files are too large to be read at every opening, has a list of its own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pyhbt.files import finish_file, write_atomically

MANIFEST = "pyhbt_manifest.json"
_BLOCK_BYTES = 1 << 20


def seal(folder: Path, *, below: bool = True) -> None:
    """Bring the files of a finished folder to the disk and write its manifest; reads them once.

    ``below``: those of the folders in it too.
    """
    files = {}
    for path in sorted(folder.rglob("*") if below else folder.iterdir()):
        if path.is_file() and path.name != MANIFEST:
            name = path.relative_to(folder).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
            finish_file(path)
    with write_atomically(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")


def fault(folder: Path) -> str | None:
    """What is wrong with a sealed folder, in words; None where it is whole. About a second a gigabyte."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return "it was not finished"
    try:
        listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        for name, known in listed.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != known["bytes"]:
                return f"{name} has {path.stat().st_size} bytes, expected {known['bytes']}"
            if _digest(path) != known["sha256"]:
                return f"{name} is damaged"
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
