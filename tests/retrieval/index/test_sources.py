"""What an index can be built from: every kind of source, in blocks, equal to one array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import ExactIndex
from pyhbt.ops.search_checks import Similarity
from pyhbt.retrieval.index import sources
from pyhbt.retrieval.index.sources import as_matrix, blocks, is_matrix
from tests.retrieval.index.test_exact import BRAIN, CORPUS, DIM, HALF, Array, check, ragged


def one_buffer(matrix: Array) -> Iterator[Array]:
    buffer = np.empty((100, DIM), matrix.dtype)
    for start in range(0, len(matrix), 100):
        buffer[:] = matrix[start : start + 100]
        yield buffer


def column(kind: str | None) -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict({"v": CORPUS}).with_format(kind)["v"]


SOURCES: dict[str, tuple[Callable[[], Any], Any]] = {
    "array": (lambda: CORPUS, CORPUS),
    "every other row": (lambda: np.repeat(CORPUS, 2, axis=0)[::2], CORPUS),
    "columns first": (lambda: np.asfortranarray(CORPUS), CORPUS),
    "tensor with gradient": (lambda: torch.tensor(CORPUS, requires_grad=True), CORPUS),
    "float16": (lambda: HALF, HALF),
    "bfloat16": (lambda: BRAIN, BRAIN),
    "list of lists": (lambda: CORPUS.tolist(), CORPUS),
    "list of arrays": (lambda: list(CORPUS), CORPUS),
    "list of tensors": (lambda: list(torch.from_numpy(CORPUS)), CORPUS),
    "list of blocks": (lambda: list(ragged(CORPUS)), CORPUS),
    "ragged blocks": (lambda: ragged(CORPUS), CORPUS),
    "ragged blocks of float16": (lambda: ragged(HALF), HALF),
    "ragged blocks of bfloat16": (lambda: ragged(BRAIN), BRAIN),
    "blocks of lists": (lambda: (block.tolist() for block in np.split(CORPUS, 13)), CORPUS),
    "blocks in one buffer": (lambda: one_buffer(CORPUS), CORPUS),
    "column": (lambda: column(None), CORPUS),
    "column of arrays": (lambda: column("numpy"), CORPUS),
    "column of tensors": (lambda: column("torch"), CORPUS),
}


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_results_of_search(
    source: str, similarity: Similarity, tmp_path: Path
) -> None:
    make, matrix = SOURCES[source]
    check(ExactIndex(make(), similarity=similarity), matrix, similarity)
    built = ExactIndex(make(), similarity=similarity, path=tmp_path / "index")
    check(built, matrix, similarity)
    check(ExactIndex.open(tmp_path / "index", verify=True), matrix, similarity)


@pytest.mark.parametrize(
    ("error", "match", "source"),
    [
        (TypeError, "corpus: found str, expected an array, a tensor, a column", "text"),
        (TypeError, "corpus: found int, expected an array", 5),
        (ValueError, "corpus: found no block, expected at least one", []),
        (ValueError, "corpus: found no block, expected at least one", iter(())),
        (TypeError, "corpus: rows from 0: found list, expected rows of numbers", [[1.0, 2.0], [3.0]]),
        (ValueError, "corpus: block 0: found 1 dimensions, expected 2", iter(CORPUS)),
        (ValueError, "corpus: found 1 dimensions, expected 2", CORPUS[0]),
        (TypeError, "corpus: block 1: found dtype torch.int64", iter([CORPUS, np.ones((1, DIM), np.int64)])),
        (TypeError, "corpus: found dtype torch.float16, expected torch.float32", iter([CORPUS, HALF])),
        (ValueError, "corpus: found dim 3, expected 20", iter([CORPUS, np.ones((1, 3), np.float32)])),
    ],
)
def test_sources_are_refused(error: type[Exception], match: str, source: Any) -> None:
    with pytest.raises(error, match=match):
        ExactIndex(source)


@pytest.mark.parametrize("source", ["ragged blocks", "list of lists", "column of arrays"])
def test_additions_from_other_sources(source: str) -> None:
    index = ExactIndex(ragged(CORPUS))
    before = index.vectors
    index.add(SOURCES[source][0]())
    index.add(index.vectors)
    check(index, np.tile(CORPUS, (4, 1)))
    np.testing.assert_array_equal(before.numpy(), CORPUS)


def spans(source: Any) -> list[tuple[int, int]]:
    """Shapes of the blocks of a source."""
    return [(block.shape[0], block.shape[1]) for block in blocks(source)]


@pytest.mark.parametrize("rows", [0, 1, 6, 7, 8, 20])
def test_blocks_of_a_matrix(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_ROWS", 7)
    matrix = CORPUS[:rows]
    sizes = [min(7, rows - start) for start in range(0, rows, 7)] or [0]  # one even of none, for its dim
    for source in (matrix, torch.from_numpy(matrix)):
        assert spans(source) == [(size, DIM) for size in sizes]
        assert torch.equal(torch.cat(list(blocks(source))), torch.from_numpy(matrix))
    listed = matrix.tolist()
    assert spans(listed) == ([(size, DIM) for size in sizes] if rows else [])
    if rows:
        assert torch.equal(torch.cat(list(blocks(listed))), torch.from_numpy(matrix))


def test_blocks_of_an_iterable_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_ROWS", 2)
    given = [CORPUS[:5], CORPUS[5:5], CORPUS[5:6]]
    for source in (given, tuple(given), iter(given), [torch.from_numpy(block) for block in given]):
        assert spans(source) == [(5, DIM), (0, DIM), (1, DIM)]
    assert spans([]) == spans(iter(())) == []


def test_blocks_are_read_one_by_one() -> None:
    asked = []

    def source() -> Iterator[Any]:
        for number in range(3):
            asked.append(number)
            yield CORPUS[number : number + 1]

    reading = blocks(source())
    assert asked == []
    next(reading)
    assert asked == [0]


def test_arrays_are_viewed_and_never_written() -> None:
    readonly = CORPUS.copy()
    readonly.flags.writeable = False
    tensor = torch.from_numpy(CORPUS)
    assert as_matrix(CORPUS, "corpus").data_ptr() == CORPUS.ctypes.data
    assert as_matrix(readonly, "corpus").data_ptr() == readonly.ctypes.data
    assert as_matrix(tensor, "corpus").data_ptr() == tensor.data_ptr()
    assert not as_matrix(tensor.clone().requires_grad_(), "corpus").requires_grad
    column_first = np.asfortranarray(CORPUS)
    copied = as_matrix(column_first, "corpus")
    assert copied.stride(1) == 1
    assert torch.equal(copied, tensor)
    turned = tensor.t().contiguous().t()
    assert as_matrix(turned, "corpus").stride(1) == 1


def test_rows_become_float32_and_arrays_keep_their_kind() -> None:
    assert as_matrix([[1, 2], [3, 4]], "corpus").dtype == torch.float32
    assert as_matrix([np.float64(0.1) * np.ones(3)], "corpus").tolist() == [[np.float32(0.1)] * 3]
    for matrix, kind in ((HALF, torch.float16), (BRAIN, torch.bfloat16)):
        assert as_matrix(matrix, "corpus").dtype == kind


@pytest.mark.parametrize(
    ("error", "match", "value"),
    [
        (TypeError, "part: found str, expected rows of numbers", "text"),
        (TypeError, "part: found dict, expected rows of numbers", {}),
        (TypeError, "part: found list, expected rows of numbers", [[1.0], [2.0, 3.0]]),
        (ValueError, "part: found 1 dimensions, expected 2", [1.0, 2.0]),
        (ValueError, "part: found 3 dimensions, expected 2", np.zeros((2, 2, 2), np.float32)),
        (ValueError, "part: found dim 0, expected at least 1", [[], []]),
        (TypeError, "part: found dtype torch.float64, expected one of", CORPUS.astype(np.float64)),
        (TypeError, "part: found dtype torch.bool", np.ones((1, 2), bool)),
        (TypeError, "part: found dtype <U1", np.array([["a"]])),
    ],
)
def test_what_is_no_matrix(error: type[Exception], match: str, value: Any) -> None:
    with pytest.raises(error, match=f"^{match}"):
        as_matrix(value, "part")


def test_rows_behind_the_first_block_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK_ROWS", 2)
    with pytest.raises(TypeError, match="^corpus: rows from 2: found list, expected rows of numbers"):
        list(blocks([[1.0], [2.0], [3.0], [4.0, 5.0]]))
    for text in ("text", b"bytes", 5, None):
        with pytest.raises(TypeError, match=f"^corpus: found {type(text).__name__}, expected an array"):
            list(blocks(text))  # type: ignore[arg-type]


def test_only_arrays_and_tensors_are_one_matrix() -> None:
    assert is_matrix(CORPUS)
    assert is_matrix(BRAIN)
    for source in ([CORPUS], iter([CORPUS]), CORPUS.tolist()):
        assert not is_matrix(source)
