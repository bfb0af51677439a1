"""Plots as files and in the page."""

from __future__ import annotations

import base64
from pathlib import Path

from pyhbt.study.analysis import analyse
from pyhbt.study.report.pictures import write_plots
from tests.study.synthetic_study import Study, write_study


def test_files_are_what_the_page_shows(tmp_path: Path) -> None:
    shape = Study(
        ratios=(0, 0.5, 1), seeds=(0, 1), languages=("en", "de", "ar"), metrics=("recall@10",), bias=()
    )
    analysis = analyse(write_study(tmp_path, shape))
    sections = write_plots(analysis, tmp_path / "plots")
    assert set(sections) == {"curves", "finals", "response", "front", "gain", "pairs"}
    pictures = [picture for found in sections.values() for picture in found]
    files = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    assert len(files) == 2 * len(pictures)
    inlined = {
        base64.b64decode(url.partition(",")[2])
        for picture in pictures
        for url in (picture.light, picture.dark)
    }
    assert inlined == set(files.values())
    assert len({picture.alt for picture in pictures}) == len(pictures)
    assert all(300 < picture.width < 700 for picture in pictures)


def test_nothing_to_draw(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("")
    assert write_plots(analyse(tmp_path), tmp_path / "plots") == {}
