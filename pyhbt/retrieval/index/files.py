"""The saved form of an index: a folder of raw arrays and ``index.json``, which says what they are.

``index.json`` holds format, version, sizes and the CRC-32 of every file, and a checksum of itself. It is written
last, and the folder gets its name when it is whole. Files are opened memory-mapped: opening reads no vectors.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyhbt.files import recover, write_atomically
from pyhbt.ops._native import core
from pyhbt.ops.checks import as_tensor
from pyhbt.ops.codes import Codes
from pyhbt.ops.dtypes import VECTOR_DTYPES
from pyhbt.retrieval.index.names import Name
from pyhbt.retrieval.index.storage import ArrayFiles, Parts

FORMAT, VERSION = "pyhbt-exact-index", 2
WITHOUT_NIBBLES = 1
"""The version before, whose codes have no coarse form: such an index opens, and few queries read its codes."""
MANIFEST = "index.json"
_DTYPES = {name: dtype for dtype, name in VECTOR_DTYPES.items()}
_CODE_DTYPES = {
    "codes": torch.int8,
    "inverse_scale": torch.float32,
    "along": torch.float32,
    "code_norm": torch.float32,
    "residual_norm": torch.float32,
    "code_sum": torch.int32,
    "norm": torch.float64,
    "centre": torch.float32,
    "direction": torch.float32,
}
_NIBBLE_DTYPES = {"nibbles": torch.uint8, "nibble_residual": torch.float32}
"""Of files that are there where codes have a coarse form."""
_CHECKED_BYTES = 1 << 24


@dataclass(frozen=True)
class Saved:
    """What a folder holds."""

    parts: Parts
    similarity: str
    ids: list[Name] | None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that takes the name ``path`` when the block ends well; an index of that name is replaced.

    Raises:
        FileExistsError: something else has the name.
    """
    path = path.resolve()
    recover(path)
    if _is_taken(path):
        raise FileExistsError(f"{path}: exists and is no index, expected a new name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path, replace=True) as temporary:
        temporary.mkdir()
        yield temporary


def _is_taken(path: Path) -> bool:
    """Whether something else than an index has the name; another process may be replacing an index meanwhile."""
    while True:
        try:
            before = path.stat().st_ino
            if (path.is_dir() and not any(path.iterdir())) or _is_index(path):
                return False
            if path.stat().st_ino == before:
                return True
        except FileNotFoundError:
            return False


def _is_index(path: Path) -> bool:
    """Whether a folder has the manifest of an index, of any version."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def write_rest(
    files: ArrayFiles,
    folder: Path,
    *,
    passages: int,
    dtype: torch.dtype,
    similarity: str,
    codes: Codes,
    ids: Sequence[Name] | None,
) -> None:
    """Centre, ids and manifest, after vectors and codes were written."""
    files.append("centre", codes.centre)
    files.append("direction", codes.direction)
    if ids is not None:
        files.append_bytes("ids.jsonl", "".join(json.dumps(name) + "\n" for name in ids).encode())
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "passages": passages,
        "dim": len(codes.centre),
        "dtype": VECTOR_DTYPES[dtype],
        "similarity": similarity,
        "files": files.finish(),
    }
    manifest["checksum"] = _checksum(manifest)
    with (folder / MANIFEST).open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())


def read(path: Path, *, verify: bool) -> Saved:
    """Opens a folder memory-mapped.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it is no index, of another version, truncated, or (with ``verify``; small files always) does not
            match its checksums.
    """
    manifest = _manifest(path)
    n, dim = manifest["passages"], manifest["dim"]
    shapes = {"codes": (n, core.code_stride(dim)), "centre": (dim,), "direction": (dim,)}
    for name, entry in manifest["files"].items():
        _check_file(path / name, entry, verify=verify)
    codes = {
        name: _mapped(path / name, dtype, shapes.get(name, (n,))) for name, dtype in _CODE_DTYPES.items()
    }
    there = set(_NIBBLE_DTYPES) <= set(manifest["files"])
    widths = {"nibbles": core.nibble_stride(dim), "nibble_residual": 1} if there else {}
    for name, dtype in _NIBBLE_DTYPES.items():
        codes[name] = _mapped(path / name, dtype, (n, widths.get(name, 0)))
    vectors = _mapped(path / "vectors", _DTYPES[manifest["dtype"]], (n, dim))
    ids = None
    if "ids.jsonl" in manifest["files"]:
        ids = _ids(path / "ids.jsonl", n)
    return Saved(Parts(vectors, Codes(**codes)), manifest["similarity"], ids)


def _manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        recover(path)
    file = path / MANIFEST
    if not path.is_dir() or not file.is_file():
        if path.exists():
            raise ValueError(f"{path}: is no index of PyHBT (a folder with {MANIFEST})")
        raise FileNotFoundError(f"{path}: no such index")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{file}: damaged, expected JSON") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: is no index of PyHBT ({MANIFEST} has no format {FORMAT!r})")
    if manifest.get("version") not in (WITHOUT_NIBBLES, VERSION):
        raise ValueError(
            f"{file}: index of version {manifest.get('version')}, expected {WITHOUT_NIBBLES} or {VERSION}"
        )
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        raise ValueError(f"{file}: damaged, its checksum does not match")
    return manifest


def _checksum(manifest: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _check_file(file: Path, entry: dict[str, int], *, verify: bool) -> None:
    size = file.stat().st_size if file.is_file() else -1
    if size != entry["bytes"]:
        found = "is missing" if size < 0 else f"has {size} bytes"
        raise ValueError(f"{file}: {found}, expected {entry['bytes']} bytes: the index is truncated")
    if not verify and size > _CHECKED_BYTES:
        return
    checksum = 0
    with file.open("rb") as stream:
        while data := stream.read(1 << 22):
            checksum = zlib.crc32(data, checksum)
    if checksum != entry["crc32"]:
        raise ValueError(f"{file}: damaged, its checksum does not match")


def _ids(file: Path, count: int) -> list[Name]:
    try:
        ids: list[Name] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (ValueError, RecursionError):
        ids = []
    if len(ids) != count:
        raise ValueError(f"{file}: damaged, expected a name on each of {count} lines")
    return ids


def _mapped(file: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    raw = as_tensor(np.memmap(file, dtype=np.uint8, mode="r"), file.name)
    return raw.view(dtype).view(shape)
