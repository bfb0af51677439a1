"""Where the vectors and codes of an index lie: in memory that grows, or in files that are written as they come."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import torch

from pyhbt.ops.codes import NIBBLES, PER_PASSAGE, Codes, allocate, encode_into, mean_of_sample


@dataclass(frozen=True)
class Parts:
    """An index's arrays: vectors (n, dim) and their codes."""

    vectors: torch.Tensor
    codes: Codes

    @property
    def parts(self) -> Parts:
        """Itself, as of vectors that lie elsewhere (:class:`pyhbt.retrieval.index.on_device.OnDevice`)."""
        return self


class Growing:
    """Rows in memory with room to spare, so that appending costs O(rows appended)."""

    def __init__(self, first: torch.Tensor) -> None:
        self._memory = first

    def first(self, count: int) -> torch.Tensor:
        """A view."""
        return self._memory[:count]

    def write(self, rows: torch.Tensor, start: int) -> None:
        """Copies the rows behind the first ``start``."""
        stop = start + len(rows)
        if stop > len(self._memory):
            room = self._memory.new_empty(max(stop, start + start // 2), *self._memory.shape[1:])
            room[:start] = self.first(start)
            self._memory = room
        self._memory[start:stop] = rows


class InMemory:
    """Vectors and codes in memory; the first block of vectors is referred to, not copied, until more come."""

    def __init__(self, parts: Parts, *, cosine: bool) -> None:
        self._cosine, self._count = cosine, len(parts.vectors)
        self._vectors = Growing(parts.vectors)
        self._codes = {name: Growing(getattr(parts.codes, name)) for name in PER_PASSAGE}
        self._centre, self._direction = parts.codes.centre, parts.codes.direction
        self._nibbles = parts.codes.has_nibbles

    def append(self, vectors: torch.Tensor) -> None:
        """Encodes and keeps a block; nothing is kept of a block that is refused or interrupted."""
        centre = self._centre if self._count else None
        block = encode_block(
            vectors, centre, cosine=self._cosine, first_row=self._count, nibbles=self._nibbles
        )
        self._vectors.write(vectors, self._count)
        for name, rows in self._codes.items():
            rows.write(getattr(block, name), self._count)
        self._centre, self._direction = block.centre, block.direction
        self._count += len(vectors)

    def parts(self) -> Parts:
        """All that was kept; views."""
        rows = {name: growing.first(self._count) for name, growing in self._codes.items()}
        vectors = self._vectors.first(self._count)
        return Parts(vectors, Codes(**rows, centre=self._centre, direction=self._direction))


def encode_block(
    vectors: torch.Tensor,
    centre: torch.Tensor | None,
    *,
    cosine: bool,
    first_row: int,
    nibbles: bool = True,
) -> Codes:
    """Codes of one block around the index's centre, which the mean of the first passages becomes.

    Without ``nibbles`` they have no coarse form, as those of an index that was saved without.
    """
    centre = mean_of_sample(vectors, cosine=cosine) if centre is None else centre
    codes = allocate(len(vectors), centre, nibbles=nibbles)
    encode_into(codes, vectors, cosine=cosine, first_row=first_row)
    return codes


@dataclass
class _File:
    stream: IO[bytes]
    size: int = 0
    checksum: int = 0


class ArrayFiles:
    """Raw arrays in a folder, appended block by block; knows the size and checksum (CRC-32) of each file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}

    def __enter__(self) -> ArrayFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.stream.close()

    def append(self, name: str, tensor: torch.Tensor) -> None:
        """Writes the bytes of a tensor to the end of a file."""
        flat = tensor.contiguous().reshape(-1)
        self.append_bytes(name, flat.view(torch.uint8).numpy().data if len(flat) else b"")

    def append_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Writes bytes to the end of a file."""
        if name not in self._files:
            self._files[name] = _File((self._folder / name).open("wb"))
        file = self._files[name]
        file.stream.write(data)
        file.size += len(data)
        file.checksum = zlib.crc32(data, file.checksum)

    def append_parts(self, parts: Parts) -> None:
        """A block of vectors and codes."""
        self.append("vectors", parts.vectors)
        for name in PER_PASSAGE:
            if parts.codes.has_nibbles or name not in NIBBLES:
                self.append(name, getattr(parts.codes, name))

    def finish(self) -> dict[str, dict[str, int]]:
        """Brings everything to the disk; {file: {"bytes", "crc32"}}."""
        for file in self._files.values():
            file.stream.flush()
            os.fsync(file.stream.fileno())
        return {name: {"bytes": file.size, "crc32": file.checksum} for name, file in self._files.items()}
