"""The saved form of an index: whole, memory-mapped, and refused in words when it is not what it says."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import ExactIndex
from pyhbt.retrieval.index import files, storage
from tests.interpreter import run_python
from tests.retrieval.index.test_exact import BRAIN, CORPUS, HALF, QUERIES, N, check, ragged, same_bits

NAMES = [f"p{row}" for row in range(len(CORPUS))]
FILES = (*files._CODE_DTYPES, "vectors", "ids.jsonl")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    ExactIndex(CORPUS, ids=NAMES).save(tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("matrix", [CORPUS, HALF, BRAIN], ids=["float32", "float16", "bfloat16"])
def test_roundtrip(matrix: Any, similarity: Any, tmp_path: Path) -> None:
    ExactIndex(matrix, ids=NAMES, similarity=similarity).save(tmp_path / "in/folders")
    index = ExactIndex.open(tmp_path / "in/folders", verify=True)
    assert (index.similarity, index.dtype) == (similarity, ExactIndex(matrix).dtype)
    assert index.ids == NAMES
    check(index, matrix, similarity)
    index.save(tmp_path / "again")
    assert {file.name for file in (tmp_path / "again").iterdir()} == {*FILES, "index.json"}
    for file in (tmp_path / "again").iterdir():
        assert file.read_bytes() == (tmp_path / "in/folders" / file.name).read_bytes()


def test_an_empty_index_is_saved_too(tmp_path: Path) -> None:
    none: list[str] = []
    for ids in (None, none):
        ExactIndex(HALF[:0], ids=ids).save(tmp_path / "index")
        index = ExactIndex.open(tmp_path / "index", verify=True)
        assert (len(index), index.dim, index.dtype, index.ids) == (0, 20, torch.float16, ids)
        assert (index.search(QUERIES, 3)[1] == -1).all()
        index.add(HALF)
        check(index, HALF)


def test_an_opened_index_is_a_memory_map(saved: Path) -> None:
    index = ExactIndex.open(saved)
    maps = Path("/proc/self/maps").read_text()
    assert str(saved / "vectors") in maps
    assert str(saved / "codes") in maps
    index.add(CORPUS[:10], ids=[f"q{row}" for row in range(10)])
    check(index, np.concatenate([CORPUS, CORPUS[:10]]))
    check(ExactIndex.open(saved, verify=True), CORPUS)


def test_an_index_replaces_an_older_one_that_is_in_use(saved: Path) -> None:
    index = ExactIndex.open(saved)
    for more in (CORPUS[:0], CORPUS[:7]):
        index.add(more, ids=[f"q{row}" for row in range(len(more))])
        index.save(saved)
        check(ExactIndex.open(saved, verify=True), np.concatenate([CORPUS, more]))
    built = ExactIndex(ragged(HALF), path=saved)
    check(built, HALF)
    check(index, np.concatenate([CORPUS, CORPUS[:7]]))
    manifest(saved, version=0)
    index.save(saved)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_link_to_a_folder_stays_one(saved: Path) -> None:
    link = saved.with_name("link")
    link.symlink_to(saved.name)
    ExactIndex(HALF).save(link)
    assert link.is_symlink()
    check(ExactIndex.open(saved, verify=True), HALF)
    assert sorted(saved.parent.iterdir()) == [saved, link]


def test_what_is_no_index_is_not_replaced(tmp_path: Path) -> None:
    file, site = tmp_path / "file", tmp_path / "site"
    file.write_text("text")
    site.mkdir()
    for name, text in (("a.txt", "a"), ("index.json", '{"format": "site"}'), ("index.json", "[" * 9999)):
        (site / name).write_text(text)
        for path in (file, site):
            with pytest.raises(FileExistsError, match=f"{path}: exists and is no index, expected a new name"):
                ExactIndex(CORPUS).save(path)
            with pytest.raises(FileExistsError, match=str(path)):
                ExactIndex(ragged(CORPUS), path=path)
    assert file.read_text() == "text"
    assert (site / "a.txt").read_text() == "a"
    assert sorted(tmp_path.iterdir()) == [file, site]
    (tmp_path / "empty").mkdir()
    ExactIndex(CORPUS).save(tmp_path / "empty")
    check(ExactIndex.open(tmp_path / "empty"), CORPUS)


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("writes", [1, 9, 11])
def test_an_interrupted_save_leaves_the_old_index(
    saved: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, writes: int
) -> None:
    write, calls = storage.ArrayFiles.append_bytes, itertools.count(1)

    def failing(*arguments: Any) -> None:
        write(*arguments)
        if next(calls) % writes == 0:
            raise failure

    with monkeypatch.context() as patched:
        patched.setattr(storage.ArrayFiles, "append_bytes", failing)
        with pytest.raises(type(failure)):
            ExactIndex(HALF, ids=NAMES).save(saved)
        with pytest.raises(type(failure)):
            ExactIndex(ragged(HALF), ids=NAMES, path=saved)
    check(ExactIndex.open(saved, verify=True), CORPUS)
    assert list(saved.parent.iterdir()) == [saved]


def test_an_interrupted_rename_leaves_the_old_index(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", failing)
        with pytest.raises(KeyboardInterrupt):
            ExactIndex(HALF).save(saved)
    check(ExactIndex.open(saved, verify=True), CORPUS)
    assert list(saved.parent.iterdir()) == [saved]


def manifest(folder: Path, **changes: Any) -> None:
    """Rewrites the manifest, with a checksum that fits."""
    file = folder / "index.json"
    content = json.loads(file.read_text()) | changes
    del content["checksum"]
    content["checksum"] = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    file.write_text(json.dumps(content))


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def refused(folder: Path, named: Path, match: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=match) as error:
        ExactIndex.open(folder, **options)
    assert str(error.value).startswith(f"{named}: ")


def test_folders_that_are_no_index(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path / 'nowhere'}: no such index"):
        ExactIndex.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text")
    refused(tmp_path / "file", tmp_path / "file", "is no index of PyHBT")
    folder = tmp_path / "folder"
    folder.mkdir()
    refused(folder, folder, "is no index of PyHBT")
    for text in (b'{"name": "site"}', b"[1, 2]", b"null", b'"pyhbt-exact-index"'):
        (folder / "index.json").write_bytes(text)
        refused(folder, folder, "is no index of PyHBT")
    for text in (b"", b"{", b"\xff\xfe", b"[" * 9999, b"\0" * 100):
        (folder / "index.json").write_bytes(text)
        refused(folder, folder / "index.json", "damaged, expected JSON")


def test_another_version(saved: Path) -> None:
    manifest(saved, version=3)
    refused(saved, saved / "index.json", "index of version 3, expected 1 or 2")


WIDE = np.random.default_rng(4).standard_normal((N, 70)).astype(np.float32)
WIDE_QUERIES = np.random.default_rng(5).standard_normal((4, 70)).astype(np.float32)
NIBBLES = ("nibbles", "nibble_residual")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Of vectors with so many numbers that codes have a coarse form."""
    ExactIndex(WIDE, ids=NAMES).save(tmp_path / "wide")
    return tmp_path / "wide"


def test_the_coarse_form_is_kept(wide: Path) -> None:
    assert {file.name for file in wide.iterdir()} == {*FILES, *NIBBLES, "index.json"}
    index = ExactIndex.open(wide, verify=True)
    same_bits(index.codes.__dict__.values(), ExactIndex(WIDE).codes.__dict__.values())
    same_bits(index.search(WIDE_QUERIES, 9), ExactIndex(WIDE).search(WIDE_QUERIES, 9))
    built = ExactIndex(iter([WIDE[:500], WIDE[500:]]), ids=NAMES, path=wide)
    assert built.codes.nibbles.shape == (N, 64)
    index.add(WIDE[:10], ids=[f"q{row}" for row in range(10)])
    assert torch.equal(index.codes.nibbles[N:], index.codes.nibbles[:10])


@pytest.mark.parametrize("name", NIBBLES)
def test_a_damaged_coarse_form(wide: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = wide / name
    flip(file, 1)
    monkeypatch.setattr(files, "_CHECKED_BYTES", 16)
    ExactIndex.open(wide).search(WIDE_QUERIES, 5)
    refused(wide, file, "damaged, its checksum does not match", verify=True)
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-1])
    refused(wide, file, f"has {size - 1} bytes, expected {size} bytes")
    file.unlink()
    refused(wide, file, "is missing, expected")


def test_an_index_of_the_version_before_opens(wide: Path) -> None:
    """It has no coarse form, and none for what is added."""
    entries = json.loads((wide / "index.json").read_text())["files"]
    for name in NIBBLES:
        (wide / name).unlink()
        del entries[name]
    manifest(wide, version=1, files=entries)
    index = ExactIndex.open(wide, verify=True)
    assert not index.codes.has_nibbles
    same_bits(index.search(WIDE_QUERIES, 9), ExactIndex(WIDE).search(WIDE_QUERIES, 9))
    index.add(WIDE[:10], ids=[f"q{row}" for row in range(10)])
    assert not index.codes.has_nibbles
    index.save(wide)
    again, grown = ExactIndex.open(wide, verify=True), ExactIndex(np.concatenate([WIDE, WIDE[:10]]))
    assert not again.codes.has_nibbles
    same_bits(again.search(WIDE_QUERIES, 9), grown.search(WIDE_QUERIES, 9))


@pytest.mark.parametrize("name", FILES)
def test_truncated_and_missing_files(saved: Path, name: str) -> None:
    file = saved / name
    data = file.read_bytes()
    for kept in (data[:-1], data + b"\0", b""):
        file.write_bytes(kept)
        refused(saved, file, f"has {len(kept)} bytes, expected {len(data)} bytes")
    file.unlink()
    refused(saved, file, "is missing, expected")


def test_every_flipped_byte_of_the_manifest_is_found(saved: Path) -> None:
    file = saved / "index.json"
    for place in range(file.stat().st_size):
        flip(file, place)
        with pytest.raises(ValueError, match=str(saved)):
            ExactIndex.open(saved)
        flip(file, place)
    ExactIndex.open(saved, verify=True)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found(saved: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved / name
    flip(file, 1)
    refused(saved, file, "damaged, its checksum does not match")
    monkeypatch.setattr(files, "_CHECKED_BYTES", 16)
    refused(saved, file, "damaged, its checksum does not match", verify=True)
    ExactIndex.open(saved).search(QUERIES, 5)  # who does not verify a large file may get anything but a crash


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"{" + data[1:],
        lambda data: b"\xff" + data[1:],
        lambda data: data.replace(b"\n", b" ", 1),
    ],
)
def test_damaged_names(
    saved: Path, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_CHECKED_BYTES", 16)
    file = saved / "ids.jsonl"
    file.write_bytes(damage(file.read_bytes()))
    refused(saved, file, "damaged, expected a name on each of 1300 lines")


_LARGER_THAN_MEMORY = """
    import resource, sys
    import numpy as np
    from pyhbt import ExactIndex

    rows, dim, blocks, allowed = 16384, 128, 25, 40 << 20
    rng = np.random.default_rng(0)
    block = rng.standard_normal((rows, dim), dtype=np.float32)
    warm = ExactIndex(block[:2000])
    warm.search(block[:64], 10)  # threads have their stacks
    status = dict(line.split(":") for line in open("/proc/self/status"))
    limit = int(status["VmData"].split()[0]) * 1024 + allowed
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        np.ones(2 * allowed, np.uint8)
        sys.exit("no limit")
    except MemoryError:
        pass
    shifted = (block + np.float32(number) for number in range(blocks))
    built = ExactIndex(shifted, path=sys.argv[1])
    assert built.vectors.nbytes > 5 * allowed - (1 << 20), built.vectors.nbytes
    queries = np.concatenate([block[:64], block[:64] + np.float32(blocks - 1)])
    for index in (built, ExactIndex.open(sys.argv[1])):
        scores, indices = index.search(queries - np.float32(12), 20)
    np.savez(sys.argv[2], scores=scores, indices=indices, block=block, queries=queries - np.float32(12))
"""


def test_a_corpus_larger_than_memory(tmp_path: Path) -> None:
    run_python(_LARGER_THAN_MEMORY, tmp_path / "index", tmp_path / "found.npz")
    found = np.load(tmp_path / "found.npz")
    corpus = np.concatenate([found["block"] + np.float32(number) for number in range(25)])
    expected = ExactIndex(corpus).search(found["queries"], 20)
    same_bits((found["scores"], found["indices"]), expected)
