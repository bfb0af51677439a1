"""The report: its tables, and what it does with little or hostile data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

import pyhbt.study.report.page
from pyhbt.evaluation.names import (
    BIAS_METRICS,
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    RANK_DISTANCE,
    TOP_1_SAME_LANGUAGE,
)
from pyhbt.study.analysis import analyse
from pyhbt.study.arms import Arm
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.findings import short_answer
from pyhbt.study.report import summary_table, write_report
from pyhbt.study.report.quality import UNSEEN_MARK
from pyhbt.study.results import Results, load_results
from pyhbt.study.words import number
from tests.study.synthetic_study import HOSTILE, HOSTILE_ARM, SMALL, Study, rows, write_study

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), SMALL)


@pytest.fixture(scope="module")
def results(study: Path) -> Results:
    return load_results(study)


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report, plots and all, of a study whose every name is an attack."""
    shape = Study(
        ratios=(0, HOSTILE_ARM),
        seeds=(0,),
        languages=(HOSTILE, "en", "de"),
        units=5,
        steps=(0, 10),
        metrics=("recall@10",),
        config={
            "command": ["pyhbt", HOSTILE],
            "environment": {HOSTILE: None},
            "a": {HOSTILE: [HOSTILE, {"b": 1}]},
        },
    )
    page = write_report(write_study(tmp_path_factory.mktemp("hostile"), shape))
    assert page.name == "report.html"
    return page


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyhbt.study.report.page, "write_plots", lambda *_: {})


class Page(HTMLParser):
    """Tags, attributes and text of a page; VOID elements have no end."""

    VOID = {"meta", "link", "img", "source", "br"}  # noqa: RUF012

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: Path) -> Page:
    parsed = Page(page.read_text(encoding="utf-8"))
    assert parsed.open == []
    return parsed


def test_page_stands_alone(hostile_page: Path) -> None:
    parsed = read(hostile_page)
    assert "script" not in parsed.tags
    assert all(link.startswith("data:") for link in parsed.links)
    folder = hostile_page.parent
    plots = sorted(path.name for path in (folder / "plots").iterdir())
    light = [name for name in plots if not name.endswith("-dark.png")]
    assert len(light) == 3 + 3 + 2 + 1 + 1 + 2  # curves, finals, bias, front, gain, pairs
    assert len(plots) == 2 * len(light)
    assert parsed.tags.count("img") == parsed.tags.count("source") == len(light)
    assert "language-pairs-difference.png" in light
    assert not any(folder.rglob(".*"))


def test_page_can_be_written_again(study: Path, without_plots: None) -> None:
    assert write_report(study).read_bytes() == write_report(study).read_bytes()


def test_tables_hold_the_intervals_over_seeds_and_queries(study: Path, without_plots: None) -> None:
    page = write_report(study).read_text(encoding="utf-8")
    scores = analyse(study).scores
    estimate = scores.mean(EndpointName("multilingual", "mAP", "zero-shot", "both"), Arm.parse(0.75))
    half = estimate.interval().half_width
    assert re.search(rf"{estimate.value:.3f}\s*<small>± {half:.3f}", page)
    assert half > estimate.seed_variance**0.5


def bias_section(page: str) -> str:
    return page[page.index("<h2>Language bias</h2>") : page.index("<h2>Language pairs</h2>")]


def marked(page: str) -> dict[str, list[bool]]:
    """Of every metric of language bias: whether each figure of it stands out, down its columns."""
    found: dict[str, list[bool]] = {}
    for table in re.findall(r"<table>(.*?)</table>", bias_section(page), re.DOTALL):
        spans = re.findall(r'<th colspan="(\d+)".*?<span>(.*?)</span>', table)
        names = [name for span, name in spans for _ in range(int(span))]
        for row in re.findall(r"<tr class.*?</tr>", table, re.DOTALL):
            for name, cell in zip(names, re.findall(r"<td.*?</td>", row, re.DOTALL), strict=True):
                found.setdefault(name, []).append("<b>" in cell)
    return found


@pytest.mark.parametrize(
    "measured",
    [(RANK_DISTANCE, TOP_1_SAME_LANGUAGE), SMALL.bias, BIAS_METRICS],
    ids=["of old studies", "of parallel data", "all"],
)
def test_bias_tables_hold_what_was_measured(
    tmp_path: Path, measured: tuple[str, ...], without_plots: None
) -> None:
    shape = Study(ratios=(0, 0.5, 1), languages=("en", "de", "ar"), steps=(0,), units=3, bias=measured)
    page = write_report(write_study(tmp_path, shape)).read_text(encoding="utf-8")
    stands_out = marked(page)
    assert stands_out.keys() == set(measured)
    for metric, marks in stands_out.items():
        assert len(marks) == 3 * 2 * 4  # ratios, centrings, tiers
        assert sum(marks) == (2 * 4 if metric in (*LOWER_IS_BETTER, *HIGHER_IS_BETTER) else 0)
    results = load_results(tmp_path)
    for metric in measured:
        where = {"setting": "multilingual", "tier": "zero-shot", "metric": metric}
        for centring in ("none", "both"):
            values = results.macro(split="test", arm=0, centring=centring, **where).by_seed()
            assert f">{number(np.mean(list(values.values())), metric)}<" in bias_section(page)


def test_one_seed_has_no_interval(tmp_path: Path, without_plots: None) -> None:
    one = Study(ratios=(0, 1), seeds=(7,), languages=("en", "de", "ar"), units=9)
    text = read(write_report(write_study(tmp_path, one))).text
    assert "One seed was run" in text
    assert "±" not in text


@pytest.mark.parametrize(
    "shape",
    [
        Study(ratios=(0.5,), seeds=(0, 1), languages=("en", "de", "ar")),
        Study(ratios=("linear:0:1", "cosine:0:1"), seeds=(0,), languages=("en", "de", "ar")),
        Study(
            seeds=(0, 1),
            languages=("en", "ar"),
            tiers=("seen", "zero-shot"),
            unfinished=[(1, 1), (0, 0), (0, 1)],
        ),
        Study(ratios=(0, 1), languages=("en",), tiers=("seen",), metrics=("MRR@10",)),
        Study(ratios=(0, 1), seeds=(0,), languages=("en", "de"), unfinished=[(0, 0), (1, 0)]),
    ],
    ids=["one ratio", "schedules", "unfinished", "one language, another metric", "no cell finished"],
)
def test_little_data(tmp_path: Path, shape: Study, without_plots: None) -> None:
    folder = write_study(tmp_path, shape)
    text = read(write_report(folder)).text
    cells = len(shape.ratios) * len(shape.seeds)
    assert f"{cells - len(shape.unfinished)} of {cells}" in text
    table = summary_table(analyse(folder).scores)
    assert len(table.columns) == 2 + len(shape.ratios)
    assert {len(row) for row in table.rows} <= {len(table.columns)}


def test_rows_alone_are_enough(tmp_path: Path, without_plots: None) -> None:
    (tmp_path / "results.jsonl").write_text("")
    assert "No figures yet" in read(write_report(tmp_path)).text
    with (tmp_path / "results.jsonl").open("w") as lines:
        lines.writelines(
            json.dumps(row) + "\n"
            for row in rows(Study(ratios=(0, 1), seeds=(0,), languages=("en", "de"), steps=(0,)))
        )
    text = read(write_report(tmp_path)).text
    assert "The study did not write it down." in text
    assert "not tested: 1 seed, 3 are needed" in text.replace("\N{NO-BREAK SPACE}", " ")


def test_hostile_text_is_only_text(hostile_page: Path) -> None:
    page = read(hostile_page)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 4
    assert f"a.{HOSTILE}[1].b" in page.text


def test_configuration_is_told_whole(study: Path, without_plots: None) -> None:
    text = read(write_report(study)).text
    for entry in (
        "learning_rate",
        "languages",
        "0.001",
        "en, de, ar, sw, th, zu",
        "pyhbt study --data cldr",
        "2.9.0",
    ):
        assert entry in text


def test_a_confounded_study_is_marked_and_its_answer_leaves_it_out(
    tmp_path: Path, without_plots: None
) -> None:
    """Ratio 0 never draws the low-resource languages, which the others do: the page says so wherever it stands."""
    languages = ("en", "de", "sw", "yo", "th", "zu")
    shape = replace(SMALL, ratios=(0, 0.5, 1), languages=languages, confounded=True)
    out = write_study(tmp_path, shape)
    text = read(write_report(out)).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "The arm never drew some of these languages, which others did, or has" in text
    assert text.count(UNSEEN_MARK) > 4
    assert "not comparable" in text
    assert "not compared with the others, for what they saw: ratio 0 (sw, yo unseen by this arm)" in text
    first = short_answer(analyse(out))[0]
    assert all(" ".join(sentence.split()) in " ".join(text.split()) for sentence in plain(first.sentences))
    assert not any(re.search(r"ratio 0(?!\.)", sentence) for sentence in plain(first.sentences))


def plain(sentences: tuple[str, ...] | list[str]) -> list[str]:
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in sentences]


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"results\.jsonl: missing: no study here"):
        write_report(tmp_path)
    (tmp_path / "results.jsonl").write_text("")
    (tmp_path / "config.json").write_text('{"a":\n 1,}')
    with pytest.raises(ValueError, match=r"config\.json:2: not JSON"):
        write_report(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json: found list, expected names and values"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_summary_fits_a_terminal(study: Path, results: Results) -> None:
    table = summary_table(analyse(study).scores)
    assert table.columns == ("recall@10", "tier", "0", "0.25", "0.5", "0.75", "1")
    named = {row[:2]: row[2:] for row in table.rows}
    assert len(named) == len(table.rows)
    assert next(iter(named)) == ("monolingual", "all")
    assert list(named)[-1] == ("rank distance", "all")
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    assert sum(widths) + 2 * len(widths) <= 80
    for metric, key in (
        ("recall@10", ("cross-lingual", "zero-shot")),
        ("rank distance", ("rank distance", "all")),
    ):
        setting = "cross-lingual" if metric == "recall@10" else "multilingual"
        chosen = results.macro(
            split="test", arm=1, setting=setting, tier=key[1], metric=metric, centring="none"
        )
        mean = float(np.mean(list(chosen.by_seed().values())))
        assert named[key][-1] == (f"{mean:,.0f}" if metric == "rank distance" else number(mean))
