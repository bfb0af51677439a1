"""ExactIndex against ``pyhbt.search``, bit for bit, as it is built and as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyhbt import ExactIndex, SearchFilter, ranks, search, search_range
from pyhbt.ops.search_checks import Similarity

N, DIM = 1300, 20  # enough for ``pyhbt.search`` to make codes
Array = npt.NDArray[Any]


def numbers(rows: int, seed: int = 0) -> Array:
    """Vectors with ties, duplicates and rows of zeros."""
    found: Array = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32).round(1)
    found[3::50] = found[0]
    found[4::70] = 0
    return found


CORPUS, QUERIES = numbers(N), numbers(70, seed=1)


def same_bits(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.view(f"i{one.itemsize}"), other.view(f"i{other.itemsize}"))


def check(index: ExactIndex, matrix: Any, similarity: Similarity = "dot") -> None:
    """All ways to search the index against a search over ``matrix``."""
    assert len(index) == len(matrix)
    rng = np.random.default_rng(5)
    partitions = rng.integers(0, 3, len(matrix))
    targets = rng.integers(-1, len(matrix), (len(QUERIES), 2))
    queries = torch.from_numpy(QUERIES)
    for filter in (
        None,
        SearchFilter(
            passage_partitions=partitions, query_partitions=rng.integers(0, 3, len(QUERIES)), exclude=targets
        ),
    ):
        options: dict[str, Any] = {"similarity": similarity, "filter": filter}
        for k in (1, 30):
            same_bits(index.search(QUERIES, k, filter=filter), search(queries, matrix, k, **options))
        found = index.ranks(QUERIES, targets, filter=filter)
        same_bits([found], [ranks(queries, matrix, targets, **options)])


def ragged(matrix: Any) -> Iterator[Any]:
    start = 0
    for size in (0, 1, 0, 7, 500, 0, len(matrix)):
        yield matrix[start : start + size]
        start += size


HALF, BRAIN = CORPUS.astype(np.float16), torch.from_numpy(CORPUS).bfloat16()


def test_what_it_says_of_itself() -> None:
    index = ExactIndex(HALF, similarity="cosine")
    assert (len(index), index.dim, index.dtype, index.similarity) == (N, DIM, torch.float16, "cosine")
    assert index.device == torch.device("cpu")
    assert index.ids is None
    assert index.nbytes == N * (64 + 28) + 2 * 4 * DIM
    assert ExactIndex(np.ones((N, 130), np.float32)).nbytes == N * (192 + 28 + 128 + 4) + 2 * 4 * 130
    found = index.search(torch.from_numpy(QUERIES), 3)
    assert all(isinstance(tensor, torch.Tensor) for tensor in found)
    assert isinstance(index.ranks(torch.from_numpy(QUERIES), np.zeros(70, np.int64)), torch.Tensor)


def test_progress_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(2)
    queries = rng.standard_normal((5000, DIM)).astype(np.float32)
    filter = SearchFilter(
        allowed=rng.random(N) < 0.9,
        passage_partitions=rng.integers(0, 4, N),
        query_partitions=rng.integers(-1, 4, (5000, 2)),
        exclude=rng.integers(-1, N, 5000),
    )
    index = ExactIndex(ragged(CORPUS), progress=True)
    for part in (None, filter):
        same_bits(
            index.search(queries, 9, filter=part, progress=True), search(queries, CORPUS, 9, filter=part)
        )
    same_bits(
        ExactIndex(CORPUS, progress=True).codes.__dict__.values(), ExactIndex(CORPUS).codes.__dict__.values()
    )
    shown = capsys.readouterr().err
    assert "5000/5000" in shown
    assert "1300passages" in shown.replace(" ", "")
    assert index.search(queries[:0], 9, progress=True)[1].shape == (0, 9)


def test_progress_changes_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    queries = np.ones((4096, DIM), np.float32)
    index = ExactIndex(CORPUS)
    excluded = np.zeros(4097, np.int64)
    with pytest.raises(ValueError, match=r"exclude: found shape \(4097,\), expected \(4096,\)"):
        index.search(queries, 1, filter=SearchFilter(exclude=excluded), progress=True)
    excluded[3000] = N
    with pytest.raises(ValueError, match=f"exclude: found {N} in row 3000"):
        index.search(queries, 1, filter=SearchFilter(exclude=excluded[:4096]), progress=True)
    queries[3000, 2] = np.inf
    with pytest.raises(ValueError, match="queries: row 3000 holds a NaN or an infinity, expected finite"):
        index.search(queries, 1, progress=True)


def test_a_memory_map_stays_one(tmp_path: Path) -> None:
    np.save(tmp_path / "corpus.npy", CORPUS)
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    index = ExactIndex(mapped)
    assert np.shares_memory(index.vectors, mapped)
    check(index, CORPUS)
    index.add(CORPUS[:0])
    assert np.shares_memory(index.vectors, mapped)
    index.add(CORPUS[:5])
    check(index, np.concatenate([CORPUS, CORPUS[:5]]))
    np.testing.assert_array_equal(mapped, CORPUS)
    tensor = torch.from_numpy(CORPUS)
    assert ExactIndex(tensor).vectors.data_ptr() == tensor.data_ptr()


def broken(row: int) -> Array:
    matrix: Array = CORPUS.copy()
    matrix[row, 3] = np.nan
    return matrix


@pytest.mark.parametrize("row", [0, 5, 700])
def test_a_row_that_is_not_finite_is_named_as_the_index_counts(row: int, tmp_path: Path) -> None:
    message = f"corpus: row {row} holds a NaN or an infinity"
    for similarity in ("dot", "cosine"):
        for source in (broken(row), ragged(broken(row)), broken(row).tolist()):
            with pytest.raises(ValueError, match=message):
                ExactIndex(source, similarity=similarity)
    for progress in (False, True):
        with pytest.raises(ValueError, match=message):
            ExactIndex(ragged(broken(row)), path=tmp_path / "index", progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_questions_are_refused() -> None:
    index, asked = ExactIndex(CORPUS), QUERIES
    with pytest.raises(ValueError, match="similarity: found 'l2', expected one of dot, cosine"):
        ExactIndex(CORPUS, similarity="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k: found 0"):
        index.search(asked, 0)
    with pytest.raises(ValueError, match="screening: found 'int4'"):
        index.search(asked, 1, screening="int4")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="corpus: found dim 20, expected 19"):
        index.search(asked[:, 1:], 1)
    with pytest.raises(ValueError, match="targets: found 1300"):
        index.ranks(asked, np.full(70, N))


@pytest.mark.parametrize("ids", [None, []])
def test_an_empty_index_grows(ids: list[str] | None, tmp_path: Path) -> None:
    for index in (
        ExactIndex(CORPUS[:0], ids=ids),
        ExactIndex([CORPUS[:0]], ids=ids),
        ExactIndex(CORPUS[:0], ids=ids, path=tmp_path / "index"),
    ):
        scores, found = index.search(QUERIES, 2)
        assert np.isneginf(scores).all()
        assert (found == -1).all()
        index.add(ragged(CORPUS))
        check(index, CORPUS)
        assert index.codes.centre.abs().sum() > 0  # the mean of the first passages, though they came later
        assert index.ids is None
        index = ExactIndex(CORPUS[:0], ids=ids)
        index.add(CORPUS[:2], ids=["a", "b"])
        assert index.ids == ["a", "b"]


def test_nothing_is_kept_of_a_refused_block() -> None:
    index = ExactIndex(CORPUS, ids=range(N))
    blocks = [CORPUS[:10], broken(7)[:20], CORPUS[:5]]
    with pytest.raises(ValueError, match=f"corpus: row {N + 10 + 7} holds a NaN"):
        index.add(blocks, ids=range(N, N + 35))
    check(index, np.concatenate([CORPUS, CORPUS[:10]]))
    assert index.ids == list(range(N + 10))
    index.add(CORPUS[:5], ids=range(N + 10, N + 15))
    check(index, np.concatenate([CORPUS, CORPUS[:10], CORPUS[:5]]))


def test_without_ids() -> None:
    index = ExactIndex(CORPUS)
    for ask in (lambda: index.positions([1]), lambda: index.ids_of(np.zeros((1, 1), np.int64))):
        with pytest.raises(ValueError, match="ids: the index was built without ids"):
            ask()
    with pytest.raises(ValueError, match="indices: found 1 dimensions"):
        ExactIndex(CORPUS[:1], ids=["a"]).ids_of(np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("error", "match", "more", "ids"),
    [
        (
            ValueError,
            r"corpus: found dim 3, expected 20 \(the dim of the index\)",
            np.ones((1, 3), np.float32),
            "c",
        ),
        (TypeError, r"corpus: found dtype torch.float16, expected torch.float32 \(the", HALF[:1], "c"),
        (
            TypeError,
            "corpus: found dtype torch.float64, expected one of torch.float32",
            np.ones((1, DIM)),
            "c",
        ),
        (ValueError, "ids: found none, expected as for the index", CORPUS[:1], None),
        (ValueError, "ids: found 1, expected one for each passage", CORPUS[:2], "c"),
        (ValueError, "ids: found 'a' again, expected different ones", CORPUS[:2], "ca"),
        (ValueError, "ids: found 'c' twice, expected different ones", CORPUS[:2], "cc"),
        (TypeError, "ids: found int, str, expected strings or integers", CORPUS[:2], [1, 2]),
        (ValueError, "corpus: found 1 dimensions, expected 2", CORPUS[0], "c"),
    ],
)
def test_additions_are_refused(error: type[Exception], match: str, more: Any, ids: Any) -> None:
    index = ExactIndex(CORPUS[:2], ids=["a", "b"])
    with pytest.raises(error, match=match):
        index.add(more, ids=ids)
    assert len(index) == 2
    assert index.ids == ["a", "b"]
    with pytest.raises(ValueError, match="ids: found some, expected as for the index"):
        ExactIndex(CORPUS[:2]).add(CORPUS[:1], ids=["a"])


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_search_range_is_that_of_the_passages(similarity: Similarity, tmp_path: Path) -> None:
    queries, corpus = torch.randn(70, 12), torch.randn(1500, 12)
    expected = search_range(queries, corpus, 0.5, similarity=similarity)
    index = ExactIndex(corpus, similarity=similarity)
    index.save(tmp_path / "index")
    for here in (index, ExactIndex.open(tmp_path / "index")):
        found = here.search_range(queries, 0.5)
        for name in ("offsets", "scores", "indices"):
            assert torch.equal(
                torch.as_tensor(getattr(found, name)), torch.as_tensor(getattr(expected, name))
            )
    filter = SearchFilter(allowed=torch.arange(700))
    assert int(torch.as_tensor(index.search_range(queries, 0.5, filter=filter).indices).max()) < 700
    assert isinstance(index.search_range(queries.numpy(), 0.5).scores, np.ndarray)
    with pytest.raises(ValueError, match="threshold: more than 10 pairs"):
        index.search_range(queries, 0.5, max_results=10)


def test_an_index_is_shown_in_few_words() -> None:
    assert repr(ExactIndex(numbers(5))) == f"ExactIndex(5 passages, {numbers(5).shape[1]} dims, dot)"
