"""Cells of a study: names of their folders, what a folder says it is, damage in words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.study.arms import Arm
from pyhbt.study.cells import (
    Cell,
    arm_of,
    described,
    finished_cells,
    measured_parts,
    part_folder,
    read_exposure,
    write_exposure,
)
from pyhbt.training.exposure import Exposure
from tests.study.synthetic_study import HOSTILE, HOSTILE_ARM

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="+"), min_size=1, max_size=100).filter(
    lambda text: text == text.strip()
)
ARMS = st.one_of(
    st.floats(0, 1).map(Arm.parse),
    st.sampled_from(("linear:0:1", "adaptive:0.1:0.9", "steps:0@0,1@0.5", "0.5+js=0.5")).map(Arm.parse),
    TEXTS.map(lambda text: Arm.parse(f"0.5+lexicon={text}")),
)


def cell(arm: Any = 0.5, seed: int = 0) -> Cell:
    return Cell(Arm.parse(arm), seed)


def folder(out: Path, name: str, **files: str) -> Path:
    """OUT/cells/NAME with ``rows`` and ``cell`` as given."""
    place = out / "cells" / name
    place.mkdir(parents=True)
    for file, text in files.items():
        (place / {"rows": "rows.jsonl", "cell": "cell.json"}[file]).write_text(text, encoding="utf-8")
    return place


@pytest.mark.parametrize(
    ("arm", "name"),
    [
        (0.5, "arm=0.5,seed=3"),
        (1 / 3, "arm=0.3333333333333333,seed=3"),
        ("linear:0:1", "arm=linear:0:1,seed=3"),
        ("steps:0@0,1@0.5", "arm=steps:0@0,1@0.5,seed=3"),
        ("0.5+js=0.5+symmetric", "arm=0.5+js=0.5+symmetric,seed=3"),
    ],
)
def test_plain_labels_are_names(arm: Any, name: str) -> None:
    assert cell(arm, 3).folder_name == name


@given(ARMS, st.integers(0, 10**6))
def test_a_name_is_safe(arm: Arm, seed: int) -> None:
    name = Cell(arm, seed).folder_name
    assert re.fullmatch(r"arm=[A-Za-z0-9.:@,=+~_-]+,seed=\d+", name)
    assert len(name) <= 80 + 9 + len("arm=,seed=1000000")
    assert not name.startswith(".")
    assert name == Cell(Arm.parse(arm.label), seed).folder_name


@given(ARMS, ARMS)
def test_other_arms_have_other_names(one: Arm, other: Arm) -> None:
    names = {Cell(one, 0).folder_name, Cell(other, 0).folder_name}
    assert len(names) == len({one.label, other.label})
    assert Cell(one, 0).folder_name != Cell(one, 1).folder_name


def test_labels_that_look_alike_have_other_names() -> None:
    """The same but for what is written otherwise, or for what is cut off."""
    labels = [f"0.5+lexicon={text}" for text in ("a/b", "a\\b", "a_b", "a b", f"{'x' * 90}1", f"{'x' * 90}2")]
    names = [cell(label).folder_name for label in labels]
    assert len(set(names)) == len(names)
    assert names[2] == "arm=0.5+lexicon=a_b,seed=0"
    assert re.fullmatch(r"arm=0\.5\+lexicon=a_b~[0-9a-f]{8},seed=0", names[0])


@pytest.mark.parametrize(
    "arm", [0, 1 / 3, "linear:0:1", "0.5+js=0.5", HOSTILE_ARM, f"0.5+lexicon={'é' * 300}"]
)
def test_a_signed_folder_is_found_as_its_cell(tmp_path: Path, arm: Any) -> None:
    wanted = cell(arm, 7)
    place = folder(tmp_path, wanted.folder_name, rows="")
    wanted.sign(place)
    assert finished_cells(tmp_path) == {wanted: place}
    assert json.loads((place / "cell.json").read_text(encoding="utf-8")) == {
        "arm": wanted.arm.label,
        "seed": 7,
    }


def test_the_name_of_a_folder_is_never_read(tmp_path: Path) -> None:
    place = folder(tmp_path, "arm=0.5,seed=0", rows="")
    cell(1, 9).sign(place)
    assert list(finished_cells(tmp_path)) == [cell(1, 9)]


def test_only_finished_cells_are_found(tmp_path: Path) -> None:
    assert finished_cells(tmp_path) == {}
    (tmp_path / "cells").mkdir()
    assert finished_cells(tmp_path) == {}
    cell(0).sign(folder(tmp_path, ".arm=0,seed=0.host.17.0.partial", rows=""))  # is being written
    cell(0.25).sign(folder(tmp_path, ".arm=0.25,seed=0.old", rows=""))
    cell(0.5).sign(folder(tmp_path, "arm=0.5,seed=0"))  # no rows
    (tmp_path / "cells/notes.txt").write_text("no folder")
    assert finished_cells(tmp_path) == {}
    places = {cell(ratio): folder(tmp_path, cell(ratio).folder_name, rows="") for ratio in (1, 0.75)}
    for one, place in places.items():
        one.sign(place)
    assert finished_cells(tmp_path) == places


def test_former_studies_say_it_in_their_first_row(tmp_path: Path) -> None:
    first = folder(tmp_path, "ratio=0.5,seed=1", rows='{"ratio": 0.5, "seed": 1}\n{"ratio": 1, "seed": 2}\n')
    other = folder(tmp_path, "x", rows='{"ratio": "linear:0:1", "seed": 0, "value": 1}')
    newer = folder(tmp_path, "y", rows='{"arm": "0.5+js=1", "seed": 4}')
    assert finished_cells(tmp_path) == {
        cell(0.5, 1): first,
        cell("linear:0:1", 0): other,
        cell("0.5+js=1", 4): newer,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "5",
        "{}",
        '{"arm": "0.5"}',
        '{"seed": 0}',
        '{"arm": "0.5", "seed": "x"}',
        '{"arm": "0.5", "seed": null}',
        '{"arm": "0.5+nonsense=1", "seed": 0}',
        '{"arm": 2, "seed": 0}',
        '{"arm": true, "seed": 0}',
        '{"arm": null, "seed": 0}',
    ],
)
def test_damage_is_named(tmp_path: Path, text: str) -> None:
    place = folder(tmp_path, "arm=0.5,seed=0", rows=text)
    with pytest.raises(ValueError, match=rf"^{place}/rows\.jsonl: arm, seed: found none that can be read \("):
        finished_cells(tmp_path)
    (place / "rows.jsonl").write_text('{"arm": "0.5", "seed": 0}')
    (place / "cell.json").write_text(text)
    with pytest.raises(ValueError, match=rf"^{place}/cell\.json: arm, seed: found none that can be read"):
        finished_cells(tmp_path)
    (place / "cell.json").write_bytes(b"\xff\n")
    with pytest.raises(
        ValueError, match=r"cell\.json: arm, seed: found none that can be read \('utf-8' codec"
    ):
        finished_cells(tmp_path)


def test_the_arm_of_a_record() -> None:
    assert arm_of({"arm": "linear:0:1", "ratio": 0.5}) == Arm.parse(
        "linear:0:1"
    )  # the name of now comes first
    assert arm_of({"ratio": 0.5}) == arm_of({"arm": "0.50"}) == arm_of({"arm": 0.5}) == Arm.parse(0.5)
    for record, found in (({}, None), ({"arm": None}, None), ({"arm": True}, True), ({"arm": [1]}, [1])):
        with pytest.raises(ValueError, match=f"^arm: found {re.escape(repr(found))}, expected a ratio in"):
            arm_of(record)
    with pytest.raises(ValueError, match="ratio: found"):
        arm_of({"arm": HOSTILE})


def test_what_training_saw_is_read_back(tmp_path: Path) -> None:
    held = Exposure(8)
    held.add({("aa", "bb"): 3})
    counted = folder(tmp_path, "a", rows="", cell='{"arm": 0.5, "seed": 0}')
    assert read_exposure(counted) is None  # of a version that did not count
    write_exposure(counted, held)
    found = read_exposure(counted)
    assert found is not None
    assert found.state() == held.state()
    (counted / "exposure.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a/exposure\.json: found no counts of batches"):
        read_exposure(counted)


def test_parts_say_of_which_test_set_they_are(tmp_path: Path) -> None:
    place = folder(tmp_path, "a", rows="", cell='{"arm": 0.5, "seed": 0, "steps": 3}')
    assert measured_parts(place) == {}
    for split in ("test", "test:beir:some/where"):
        part = part_folder(place, split)
        part.mkdir(parents=True)
        (part / "measured.json").write_text(json.dumps({"split": split}))
    found = measured_parts(place)
    assert found.keys() == {"test", "test:beir:some/where"}
    assert found["test"] == place / "measured/test"
    assert described(place) == {"arm": 0.5, "seed": 0, "steps": 3}
    (place / "measured/test/measured.json").write_text("{}")
    with pytest.raises(ValueError, match=r"test/measured\.json: split: found none that can be read"):
        measured_parts(place)


def test_a_cell_is_there_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder(tmp_path, name, rows="", cell='{"arm": 0.5, "seed": 0}')
    with pytest.raises(ValueError, match=r"b: ratio 0\.5 seed 0: found in .*a too, expected it once"):
        finished_cells(tmp_path)
