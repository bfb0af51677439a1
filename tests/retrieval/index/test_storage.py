"""Where vectors and codes lie: memory that grows by little copying, files that know their checksums."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import ExactIndex
from pyhbt.ops.codes import NIBBLES, PER_PASSAGE, allocate, encode
from pyhbt.ops.search_checks import Similarity
from pyhbt.retrieval.index import storage
from pyhbt.retrieval.index.storage import ArrayFiles, Growing, InMemory, Parts, encode_block
from tests.retrieval.index.test_exact import BRAIN, CORPUS, HALF, N, check, ragged, same_bits


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_many_small_additions(similarity: Similarity) -> None:
    index = ExactIndex(CORPUS[:2], ids=range(2), similarity=similarity)
    places, start = set(), 2
    sizes = np.random.default_rng(3).integers(0, 4, 2000)
    for size in sizes:
        index.add(CORPUS[start : start + size], ids=range(start, min(N, start + size)))
        places.add(index.vectors.data_ptr())
        start = min(N, start + size)
    assert start == N
    assert len(places) < 30  # copies: logarithmically many
    check(index, CORPUS, similarity)
    assert index.ids == list(range(N))
    assert index.positions([1299, 0]).tolist() == [1299, 0]


def test_nothing_is_kept_of_an_interrupted_block(monkeypatch: pytest.MonkeyPatch) -> None:
    index = ExactIndex(ragged(CORPUS))
    write, calls = storage.Growing.write, iter(range(100))

    def interrupted(self: Any, rows: torch.Tensor, start: int) -> None:
        write(self, rows, start)
        if next(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(storage.Growing, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.add(CORPUS[:10])
    check(index, CORPUS)
    index.add(CORPUS[20:40])
    check(index, np.concatenate([CORPUS, CORPUS[20:40]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_memory_grows_by_halves(dtype: torch.dtype) -> None:
    rows = torch.arange(3000).reshape(1000, 3).to(dtype)
    first = rows[:1].clone()
    growing = Growing(first)
    places = set()
    for start in range(1, 1000):
        growing.write(rows[start : start + 1], start)
        places.add(growing.first(1).data_ptr())
    assert torch.equal(growing.first(1000), rows)
    assert len(places) < 25  # log(1000) / log(1.5) = 17
    assert torch.equal(first, rows[:1])
    assert growing.first(0).shape == (0, 3)


def test_what_is_referred_to_is_not_written_to() -> None:
    given = torch.arange(6.0).reshape(3, 2)
    kept = given.clone()
    growing = Growing(given)
    assert growing.first(3).data_ptr() == given.data_ptr()
    growing.write(torch.ones(0, 2), 3)
    assert growing.first(3).data_ptr() == given.data_ptr()  # nothing came: no copy
    growing.write(torch.ones(5, 2), 3)
    assert torch.equal(given, kept)
    assert torch.equal(growing.first(8), torch.cat([kept, torch.ones(5, 2)]))


def test_rows_behind_a_shorter_start_are_overwritten() -> None:
    """What an interrupted block left behind is no part of the index."""
    growing = Growing(torch.zeros(2, 1))
    growing.write(torch.full((3, 1), 7.0), 2)
    growing.write(torch.full((1, 1), 9.0), 2)
    assert growing.first(3).flatten().tolist() == [0.0, 0.0, 9.0]


def parts_of(matrix: Any, cosine: bool) -> Parts:
    vectors = torch.as_tensor(matrix)
    return Parts(vectors, encode(vectors, cosine=cosine))


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("matrix", [CORPUS, HALF, BRAIN], ids=["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("first", [1, 8, 500])
def test_blocks_are_encoded_around_the_mean_of_the_first(matrix: Any, cosine: bool, first: int) -> None:
    vectors = torch.as_tensor(matrix)
    memory = InMemory(parts_of(vectors[:first], cosine), cosine=cosine)
    for block in ragged(vectors[first:]):
        memory.append(block)
    found = memory.parts()
    assert torch.equal(found.vectors, vectors)
    centre = encode(vectors[:first], cosine=cosine).centre
    expected = encode_block(vectors, centre, cosine=cosine, first_row=0)
    for field in fields(expected):
        same_bits([getattr(found.codes, field.name)], [getattr(expected, field.name)])


@pytest.mark.parametrize("empty", [0, 3])
def test_the_centre_comes_with_the_first_passages(empty: int) -> None:
    vectors = torch.from_numpy(CORPUS)
    memory = InMemory(parts_of(vectors[:0], cosine=False), cosine=False)
    for _ in range(empty):
        memory.append(vectors[:0])
    assert len(memory.parts().vectors) == 0
    memory.append(vectors[:40])
    memory.append(vectors[40:])
    expected = encode(vectors[:40], cosine=False)
    same_bits([memory.parts().codes.centre], [expected.centre])
    same_bits([memory.parts().codes.direction], [expected.direction])
    assert len(memory.parts().codes) == N


def test_a_refused_block_leaves_what_was_there() -> None:
    vectors = torch.from_numpy(CORPUS)
    memory = InMemory(parts_of(vectors[:10], cosine=True), cosine=True)
    before = memory.parts()
    bad = vectors[10:20].clone()
    bad[4, 0] = float("inf")
    with pytest.raises(ValueError, match="corpus: row 14 holds a NaN or an infinity"):
        memory.append(bad)
    assert torch.equal(memory.parts().vectors, before.vectors)
    for field in fields(before.codes):
        same_bits([getattr(memory.parts().codes, field.name)], [getattr(before.codes, field.name)])


def test_files_know_their_sizes_and_checksums(tmp_path: Path) -> None:
    turned = torch.arange(12.0).reshape(3, 4).t()  # columns first
    written = {
        "vectors": [turned, turned[:0], turned[1:2]],
        "half": [torch.ones(2, 3, dtype=torch.bfloat16)],
        "codes": [torch.tensor([[-127, 5]], dtype=torch.int8)],
        "empty": [torch.ones(0, 7)],
    }
    with ArrayFiles(tmp_path) as files:
        for name, tensors in written.items():
            for tensor in tensors:
                files.append(name, tensor)
        files.append_bytes("ids", b"one\n")
        files.append_bytes("ids", b"")
        files.append_bytes("ids", memoryview(b"two\n"))
        told = files.finish()
    expected = {
        "vectors": torch.cat([turned, turned[1:2]]).contiguous().numpy().tobytes(),
        "half": b"\x80\x3f" * 6,
        "codes": b"\x81\x05",
        "empty": b"",
        "ids": b"one\ntwo\n",
    }
    assert told == {name: {"bytes": len(data), "crc32": zlib.crc32(data)} for name, data in expected.items()}
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == expected


def test_files_are_closed_after_an_error_too(tmp_path: Path) -> None:
    files = ArrayFiles(tmp_path)
    with pytest.raises(KeyboardInterrupt), files:
        files.append_bytes("a", b"x")
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="closed file"):
        files.append_bytes("a", b"y")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_parts_are_written_by_passage(tmp_path: Path) -> None:
    """Two blocks one after the other are the bytes of both together; centre and direction come at the end."""
    vectors = torch.from_numpy(CORPUS)
    codes = allocate(N, torch.from_numpy(CORPUS.mean(0)))
    storage.encode_into(codes, vectors, cosine=False)
    told = []
    for name, stops in (("one", [0, N]), ("two", [0, 7, N])):
        (tmp_path / name).mkdir()
        with ArrayFiles(tmp_path / name) as files:
            for start, stop in itertools.pairwise(stops):
                files.append_parts(Parts(vectors[start:stop], codes.rows(start, stop)))
            told.append(files.finish())
    assert told[0] == told[1]
    assert set(told[0]) == {"vectors", *PER_PASSAGE} - set(NIBBLES)
    assert told[0]["vectors"]["bytes"] == CORPUS.nbytes
    assert (tmp_path / "two/vectors").read_bytes() == CORPUS.tobytes()
