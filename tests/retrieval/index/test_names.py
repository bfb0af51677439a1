"""Names of passages: strings or integers, all different, found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyhbt import ExactIndex, JoinedIndex
from pyhbt.retrieval.index.names import Names, check_count, listed
from tests.retrieval.index.test_exact import CORPUS, QUERIES


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


NAMES = st.one_of(
    st.lists(st.text(max_size=3), max_size=9, unique=True),
    st.lists(st.integers(-5, 20), max_size=9, unique=True),
)


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (None, None),
        ([], []),
        ("ab", ["a", "b"]),
        (("a",), ["a"]),
        (range(2), [0, 1]),
        (np.array([3, 1], np.uint8), [3, 1]),
        ([np.int64(3), 2], [3, 2]),
        ([np.str_("x"), "y"], ["x", "y"]),
        (torch.tensor([5]), [5]),
    ],
)
def test_names_are_strings_and_integers_of_python(ids: Any, names: list[Any] | None) -> None:
    found = listed(ids)
    assert found == names
    assert {type(name) for name in found or ()} <= {str, int}


@pytest.mark.parametrize(
    ("ids", "kinds"),
    [
        (["a", 1], "int, str"),
        ([1.0], "float"),
        ([None], "NoneType"),
        ([True, False], "bool"),
        ([1, True], "bool, int"),
        (np.array([True]), "bool"),
        (torch.tensor([0.5]), "float"),
        (np.array([[1, 2]]), "list"),
        ([b"a"], "bytes"),
    ],
)
def test_names_of_other_kinds(ids: Any, kinds: str) -> None:
    with pytest.raises(TypeError, match=f"^ids: found {kinds}, expected strings or integers$"):
        listed(ids)


def test_as_many_names_as_passages() -> None:
    check_count(None, 3)
    check_count([], 0)
    check_count(["a"], 1)
    with pytest.raises(ValueError, match=r"^ids: found 1, expected 0 \(one for each passage\)$"):
        check_count(["a"], 0)


@given(NAMES, st.lists(NAMES, max_size=4))
def test_names_are_found_where_they_were_added(first: list[Any], more: list[list[Any]]) -> None:
    names = Names(list(first))
    known = list(first)
    for part in more:
        new = [name for name in part if name not in known]
        if new and known and type(new[0]) is not type(known[0]):
            with pytest.raises(TypeError, match="ids: found int, str"):
                names.check(new)
            continue
        if again := [name for name in part if name in known]:
            with pytest.raises(ValueError, match="again, expected different ones"):
                names.check([*new, again[0]])
        names.check(new)
        names.extend(new)
        known += new
        assert names.places == {name: place for place, name in enumerate(known)}
    assert names.listed == known
    assert len(names) == len(known)
    assert names.places == {name: place for place, name in enumerate(known)}


def test_places_are_not_made_before_they_are_asked_for() -> None:
    names = Names(["a", "b"])
    names.extend(["c"])
    assert names.places == {"a": 0, "b": 1, "c": 2}
    names.extend(["d"])
    assert names.places == {"a": 0, "b": 1, "c": 2, "d": 3}


def test_the_first_repeated_name_is_told() -> None:
    with pytest.raises(ValueError, match="^ids: found 'b' twice, expected different ones$"):
        Names(["a", "b", "c", "b", "c"])
    names = Names([1, 2, 3])
    for more, message in (([4, 4], "found 4 twice"), ([4, 3, 2], "found 3 again")):
        with pytest.raises(ValueError, match=f"^ids: {message}, expected different ones$"):
            names.check(more)  # type: ignore[arg-type]
    assert names.listed == [1, 2, 3]
    assert Names(["a", "a"], checked=True).listed == ["a", "a"]  # who says so has looked


@pytest.mark.parametrize(
    ("error", "match", "indices"),
    [
        (ValueError, "indices: found 2 in row 0, expected -1 or an index below 2", [[0, 2]]),
        (ValueError, "indices: found -2 in row 1", [[0], [-2]]),
        (TypeError, "indices: found dtype torch.float64, expected whole numbers", [[0.0]]),
        (TypeError, "indices: found dtype torch.bool", [[True]]),
    ],
)
def test_what_is_no_position_is_refused(error: type[Exception], match: str, indices: list[list[Any]]) -> None:
    one = ExactIndex(np.eye(2, dtype=np.float32), ids=["a", "b"])
    for index in (one, JoinedIndex([one])):
        with pytest.raises(error, match=match):
            index.ids_of(np.array(indices))
    with pytest.raises(error, match=match):
        JoinedIndex([one]).parts(np.array(indices))
    assert one.ids_of(np.array([[1, -1]], dtype=np.int32)) == [["b"]]
    assert JoinedIndex([one]).ids_of(np.array([[1, -1]], dtype=np.int32)) == [["b"]]
