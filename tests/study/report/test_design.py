"""Tables of exposure, coverage and learning rates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pyhbt.study.analysis import analyse
from pyhbt.study.arms import Arm
from pyhbt.study.cells import finished_cells, write_exposure
from pyhbt.study.report.design import (
    coverage_tables,
    exposure_table,
    language_exposure_table,
    tuning_table,
)
from pyhbt.study.tuning import Tuned
from pyhbt.study.words import NONE
from pyhbt.training.exposure import Exposure
from tests.study.synthetic_study import Study, write_study

SHAPE = Study(ratios=(0, 0.5), seeds=(0, 1), languages=("en", "de"), units=5, steps=(0, 10), metrics=("mAP",))


def test_exposure_is_told_by_arm_and_language(tmp_path: Path) -> None:
    out = write_study(tmp_path, SHAPE)
    for cell, place in finished_cells(out).items():
        exposure = Exposure(64)
        for size in (64, 60) if cell.seed else (64, 64):
            exposure.add({("en", "en"): size})
        if cell.arm.label != "0":
            exposure.add({("en", "de"): 30 + 5 * cell.seed})
        write_exposure(place, exposure)
    analysis = analyse(out)
    table = exposure_table(analysis)
    assert table is not None
    rows = {row.head: [cell.text for cell in row.cells] for row in table.rows}
    assert rows["0"] == ["0.0%", "25.0%", "2", "126", NONE, NONE, NONE, NONE, "0.0"]
    assert rows["0.5"][:4] == ["33.3%", "50.0%", "3", "158"]
    languages = language_exposure_table(analysis)
    assert languages is not None
    assert languages.columns == ("en", "de")
    found = {(row.head, row.sub): [cell.text for cell in row.cells] for row in languages.rows}
    assert found["0", "as query"] == ["126", "0"]
    assert found["", "as passage"] == ["126", "32"]


def test_studies_that_do_not_say_have_no_table(tmp_path: Path) -> None:
    out = write_study(tmp_path, SHAPE)
    for folder in finished_cells(out).values():
        (folder / "exposure.json").unlink()
    assert exposure_table(analyse(out)) is None
    assert language_exposure_table(analyse(out)) is None
    assert coverage_tables(analyse(out)) == []


def test_coverage_marks_rare_pairs_and_shows_weights(tmp_path: Path) -> None:
    out = write_study(tmp_path, SHAPE)
    found = {
        "queries": 60,
        "passages": 9,
        "clusters": 12,
        "pairs": [["de", "de", 19], ["en", "de", 20], ["en", "en", 21]],
    }
    (out / "data.json").write_text(json.dumps({"sets": {"test": found}}))
    (table,) = coverage_tables(analyse(out))
    assert table.title == "test: 60 queries in 12 clusters, 9 passages"
    cells = {row.head: row.cells for row in table.rows}
    assert [(cell.text, cell.strong) for cell in cells["de"]] == [("19", True), (NONE, False)]
    assert [(cell.text, cell.strong) for cell in cells["en"]] == [("20", False), ("21", False)]
    assert "50\N{NO-BREAK SPACE}% each in the monolingual mean" in table.notes[0]
    many = [[f"q{i}", f"p{j}", 3 + j] for i in range(2) for j in range(20)]
    analysis = analyse(out)
    wide = replace(analysis, data={"sets": {"dev": {**found, "pairs": many}}})
    (table,) = coverage_tables(wide)
    assert [cell.text for cell in table.rows[0].cells] == ["3 to 22", "20"]


def test_learning_rates_at_the_edge_are_named() -> None:
    zero, one = map(Arm.parse, (0, 1))
    choices = {
        zero: Tuned(0.1, {0.01: 0.3, 0.1: 0.5, 1.0: 0.4}),
        one: Tuned(1.0, {0.01: 0.3, 0.1: 0.4, 1.0: 0.5}),
    }
    table = tuning_table(choices, "cross-lingual mAP")
    assert table is not None
    assert table.columns == ("0.01", "0.1", "1")
    assert [[cell.strong for cell in row.cells] for row in table.rows] == [
        [False, True, False],
        [False, False, True],
    ]
    assert table.notes == ("At the edge of the rates tried: ratio 1; a rate beyond may be better.",)
    assert tuning_table({}, "x") is None
