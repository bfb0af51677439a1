"""What an index gets after it was built, and the names of its passages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import ExactIndex
from pyhbt.ops.exact import Similarity
from pyhbt.retrieval.index import storage
from tests.retrieval.index.test_exact import CORPUS, DIM, HALF, QUERIES, SOURCES, N, broken, check, ragged


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


@pytest.mark.parametrize("source", ["ragged blocks", "list of lists", "column of arrays"])
def test_additions_from_other_sources(source: str) -> None:
    index = ExactIndex(ragged(CORPUS))
    before = index.vectors
    index.add(SOURCES[source][0]())
    index.add(index.vectors)
    check(index, np.tile(CORPUS, (4, 1)))
    np.testing.assert_array_equal(before.numpy(), CORPUS)


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


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["ä", "b b", "", "\u2028\n\x85", "\ud800"], None),
        ((5, 3, -1, 2**80, 0), None),
        (range(5), None),
        (np.array(list("vwxyz")), None),
        (list(np.array(list("vwxyz"))), list("vwxyz")),
        (np.arange(5, dtype=np.int32), None),
        (list(np.arange(5)), [0, 1, 2, 3, 4]),
        (torch.arange(5), None),
    ],
)
def test_ids(ids: Any, names: list[Any] | None, tmp_path: Path) -> None:
    names = names or (ids.tolist() if hasattr(ids, "tolist") else list(ids))
    ExactIndex(CORPUS[5:10], ids=ids).save(tmp_path / "saved")
    for index in (
        ExactIndex(CORPUS[5:10], ids=ids),
        ExactIndex(iter([CORPUS[5:7], CORPUS[7:10]]), ids=ids, path=tmp_path / "built"),
        ExactIndex.open(tmp_path / "saved"),
        ExactIndex.open(tmp_path / "built"),
    ):
        assert index.ids is not None
        assert list(index.ids) == names
        assert {type(name) for name in index.ids} in ({str}, {int})
        found = index.search(QUERIES, 7)[1]
        assert index.ids_of(found) == [[names[place] for place in row if place >= 0] for row in found]
        assert index.positions(names[::-2]).tolist() == [4, 2, 0]
        assert index.positions(np.array(names[:2])).tolist() == [0, 1]
        assert index.positions([]).dtype == torch.int64
        with pytest.raises(KeyError, match="nobody"):
            index.positions([names[0], "nobody"])


@pytest.mark.parametrize(
    ("error", "match", "ids"),
    [
        (ValueError, r"ids: found 4, expected 5 \(one for each passage\)", list("abcd")),
        (ValueError, r"ids: found 0, expected 5", []),
        (TypeError, "ids: found int, str, expected strings or integers", ["a", 1, 2, 3, 4]),
        (TypeError, "ids: found float, expected strings or integers", np.arange(5.0)),
        (TypeError, "ids: found bool, int, expected", [True, 2, 3, 4, 5]),
        (TypeError, "ids: found NoneType, str", ["a", None, "c", "d", "e"]),
        (ValueError, "ids: found 'a' twice, expected different ones", ["a", "c", "b", "c", "a"]),
    ],
)
def test_ids_are_refused(error: type[Exception], match: str, ids: Any, tmp_path: Path) -> None:
    for path in (None, tmp_path / "index"):
        with pytest.raises(error, match=match):
            ExactIndex(CORPUS[:5], ids=ids, path=path)
    assert list(tmp_path.iterdir()) == []


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
