"""Files that others wrote and that may be damaged: what is in them, or one error that names the file.

What a damaged file makes a parser raise is without end, and no parser names the file; so everything that one raises
becomes a ``ValueError`` here. Nothing is unpickled, and no array is made room for that is larger than its file.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_MOST_PACKED = 1032
"""Times that deflate makes data smaller, at most."""


@contextmanager
def naming(path: Path, expected: str) -> Iterator[None]:
    """In the block, an error that does not name ``path`` becomes one that does.

    Raises:
        ValueError: ``path`` cannot be read as what was ``expected``; with the first line of the reason.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (ValueError, TypeError, OSError)) and str(path) in str(error).split("\n")[0]:
            raise
        reason = str(error).strip().split("\n", 1)[0].rstrip("\r")
        raise ValueError(
            f"{path}: damaged, expected {expected} ({type(error).__name__}: {reason})"
        ) from error


def read_json(path: Path) -> Any:
    """What a whole file of JSON in UTF-8 holds; a byte-order mark is passed over.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    with naming(path, "JSON"):
        return json.loads(path.read_text(encoding="utf-8-sig"))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none.
    """
    from safetensors.torch import load_file

    with naming(path, "safetensors"):
        return load_file(path)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a safetensors file by name; reads none of them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none.
    """
    from safetensors import safe_open

    with naming(path, "safetensors"), safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def map_array(path: Path) -> NDArray[Any]:
    """The array of an .npy file, memory-mapped and read-only.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or shorter than it says.
    """
    import numpy as np

    with naming(path, "an array of NumPy (.npy)"):
        return np.lib.format.open_memmap(path, mode="r")


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or says to hold more than it can.
    """
    with naming(path, "arrays of NumPy (.npz)"), zipfile.ZipFile(path) as archive:
        room = _MOST_PACKED * (path.stat().st_size + 1)
        return {
            member.filename.removesuffix(".npy"): _read_member(archive, member, room)
            for member in archive.infolist()
        }


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, room: int) -> NDArray[Any]:
    import numpy as np

    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read: Any = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read(stream)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or min(shape, default=0) < 0 or size + stream.tell() != member.file_size:
            raise ValueError(f"{member.filename}: {dtype} {shape} in {member.file_size} bytes")
        if member.file_size > room:
            raise ValueError(f"{member.filename}: {member.file_size} bytes, more than the file can hold")
        content = stream.read(size)
        if len(content) != size:
            raise ValueError(f"{member.filename}: {len(content)} bytes, expected {size}")
        flat: NDArray[Any] = np.frombuffer(content, dtype)
        shaped: NDArray[Any] = flat.reshape(shape, order="F" if in_columns else "C")
        return shaped
