"""The report: its numbers, its sentences, and what it does with little or hostile data."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pyhbt.study.report
from pyhbt.evaluation.names import (
    BIAS_METRICS,
    MAX_RANK,
    RANK_CORRELATION,
    RANK_DISTANCE,
    TOP_1_SAME_LANGUAGE,
)
from pyhbt.study.arms import Arm
from pyhbt.study.findings import (
    LEVEL,
    best_arm,
    compare_arms,
    compared_pairs,
    convergence,
    headline_metrics,
    number,
    short_answer,
)
from pyhbt.study.report import summary_table, write_report
from pyhbt.study.results import Results, UnitScores, load_results, load_unit_scores
from pyhbt.study.statistics import holm, randomisation_test, seed_interval, steps_to_reach
from tests.study.synthetic_study import HOSTILE, HOSTILE_ARM, Study, rows, write_study

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Study(languages=("en", "de", "ar", "sw", "th", "zu"), steps=(0, 100, 400, 1000, 2000), units=60)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), SMALL)


@pytest.fixture(scope="module")
def results(study: Path) -> Results:
    return load_results(study)


@pytest.fixture(scope="module")
def scores(study: Path) -> UnitScores:
    return load_unit_scores(study)


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
    monkeypatch.setattr(pyhbt.study.report, "_write_plots", lambda *_: {})


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


def sentences(results: Results, scores: UnitScores | None = None) -> str:
    comparisons = compare_arms(results, scores, headline_metrics(results)) if scores else []
    text = " ".join(s for finding in short_answer(results, comparisons) for s in finding.sentences)
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_page_stands_alone(hostile_page: Path) -> None:
    parsed = read(hostile_page)
    assert "script" not in parsed.tags
    assert all(link.startswith("data:") for link in parsed.links)
    folder = hostile_page.parent
    plots = sorted(path.name for path in (folder / "plots").iterdir())
    light = [name for name in plots if not name.endswith("-dark.png")]
    assert len(light) == 2 * 3 + 4 + 2
    assert len(plots) == 2 * len(light)
    assert parsed.tags.count("img") == parsed.tags.count("source") == len(light)
    assert "language-pairs-difference.png" in light
    assert not any(folder.rglob(".*"))


def test_page_can_be_written_again(study: Path, without_plots: None) -> None:
    assert write_report(study).read_bytes() == write_report(study).read_bytes()


def test_comparisons_equal_single_tests(results: Results, scores: UnitScores) -> None:
    low, middle, high = map(Arm.parse, (0.25, 0.5, 1))
    assert compared_pairs([low, middle, high]) == [(low, middle), (low, high), (middle, high)]
    found = [
        c
        for c in compare_arms(results, scores, ["mAP"])
        if (c.centring, c.setting) == ("none", "multilingual")
    ]
    assert len(found) == 4 * 7
    assert {c.family for c in found} == {28}
    np.testing.assert_array_equal([c.adjusted for c in found], holm([c.p for c in found]))
    one = next(c for c in found if (c.tier, c.first, c.second) == ("zero-shot", low, middle))
    before, after = (scores.seed_mean(r, "none/multilingual/zero-shot/mAP") for r in (low, middle))
    assert one.p == randomisation_test(before, after)
    assert one.difference == pytest.approx(np.nanmean(after - before))
    assert one.units == np.count_nonzero(~np.isnan(after - before))


def test_convergence_uses_one_target(results: Results) -> None:
    where = {"setting": "cross-lingual", "tier": "all", "metric": "recall@10"}
    found = convergence(results, **where)
    curves = {r: results.macro(**where, centring="none", arm=r).curves() for r in results.arms}
    best = max(np.mean([values[-1] for _, values in by_seed.values()]) for by_seed in curves.values())
    assert {c.target for c in found.values()} == {0.9 * best}
    for arm, by_seed in curves.items():
        assert found[arm].to_target == tuple(steps_to_reach(*curve, 0.9 * best) for curve in by_seed.values())
    assert found[Arm.parse(0)].to_target == (None, None, None)
    assert None not in found[Arm.parse(0)].to_own


def test_tables_hold_the_intervals_over_seeds(study: Path, results: Results, without_plots: None) -> None:
    text = read(write_report(study)).text
    where: dict[str, Any] = {
        "setting": "multilingual",
        "tier": "zero-shot",
        "metric": "mAP",
        "centring": "both",
    }
    values = results.macro(split="test", arm=0.75, **where).by_seed()
    interval = seed_interval(list(values.values()))
    assert re.search(rf"{interval.mean:.3f}\s*± {interval.half_width:.3f}", text)


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
        assert sum(marks) == (0 if metric == TOP_1_SAME_LANGUAGE else 2 * 4)
    results = load_results(tmp_path)
    for metric in measured:
        where = {"setting": "multilingual", "tier": "zero-shot", "metric": metric}
        for centring in ("none", "both"):
            values = results.macro(split="test", arm=0, centring=centring, **where).by_seed()
            assert f">{number(np.mean(list(values.values())), metric)}<" in bias_section(page)


def test_short_answer_tells_the_bias_that_was_measured(results: Results) -> None:
    told = "In the multilingual setting the rank distance between translations goes from "
    text = sentences(results)
    assert told in text
    assert re.search(r"own language goes from \S+ to \S+ and the rank correlation .* from −0\.\d+ to", text)
    old = Study(ratios=(0, 0.5), languages=("en", "de"), bias=(RANK_DISTANCE, TOP_1_SAME_LANGUAGE))
    text = sentences(Results.from_rows(rows(old)))
    assert re.search(f"{told}[0-9.]+ to [0-9.]+ and the share of first passages", text)
    assert "rank correlation" not in text
    none = Study(ratios=(0, 0.5), languages=("en", "de"), bias=(MAX_RANK,))
    assert "In the multilingual setting" not in sentences(Results.from_rows(rows(none)))


def test_figures_in_print() -> None:
    assert number(-0.0004, RANK_CORRELATION) == "0.000"
    assert number(-0.64, RANK_CORRELATION) == "−0.640"
    assert number(1220.43, MAX_RANK) == "1,220.4"
    assert number(float("nan"), MAX_RANK) == "–"


def test_short_answer_follows_the_numbers(results: Results, scores: UnitScores) -> None:
    text = sentences(results, scores)
    best = best_arm(results, "cross-lingual", "all", "recall@10")
    assert best in (Arm.parse(0.5), Arm.parse(0.75))
    assert f"Ratio {best} has the best cross-lingual recall@10" in text
    assert "95 % interval over 3 seeds" in text
    assert "ratio 0 never reaches it" in text
    assert "Centring alone takes ratio 0 from" in text
    verdicts = re.findall(r"(not significant|significant) \(Holm-adjusted p (<|=) ([\d.]+)", text)
    assert len(verdicts) == 3 * 4
    for verdict, _, p in verdicts:
        assert (verdict == "significant") == (float(p) < LEVEL)


def test_nothing_is_significant_without_a_test(results: Results) -> None:
    text = sentences(results)
    assert "significant" not in text
    assert "The difference is not tested" in text


def test_one_seed_has_no_interval(tmp_path: Path, without_plots: None) -> None:
    one = Study(ratios=(0, 1), seeds=(7,), languages=("en", "de", "ar"), units=9)
    text = read(write_report(write_study(tmp_path, one))).text
    assert "no interval over seeds exists" in text
    assert "±" not in text


def test_gain_that_centring_gives_for_nothing() -> None:
    kept = []
    for row in rows(Study(ratios=(0, 0.5), seeds=(0,), languages=("en", "de", "ar"))):
        level = 0.4 if row["centring"] == "none" and row["arm"] == "0" else 0.6
        kept.append({**row, "value": level} if row["metric"] == "recall@10" else row)
    text = sentences(Results.from_rows(kept))
    assert "ratio 0.5 is not ahead (0.000), so its gain is one that centring gives for nothing" in text


def test_reference_may_be_best() -> None:
    shape = Study(ratios=(0, 0.5), seeds=(0,), languages=("en", "de"), bias=(RANK_DISTANCE,))
    flat = [{**row, "value": 0.5} for row in rows(shape)]
    text = sentences(Results.from_rows(flat))
    assert "Ratio 0 has the best cross-lingual recall@10: 0.500 (one seed); no other arm does better." in text


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
    table = summary_table(load_results(folder))
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
    assert "No test: it needs two arms" in read(write_report(tmp_path)).text


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


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"results\.jsonl: no results here"):
        write_report(tmp_path)
    (tmp_path / "results.jsonl").write_text("")
    (tmp_path / "config.json").write_text('{"a":\n 1,}')
    with pytest.raises(ValueError, match=r"config\.json:2: not JSON"):
        write_report(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json: found list, expected names and values"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_summary_fits_a_terminal(results: Results) -> None:
    table = summary_table(results)
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
