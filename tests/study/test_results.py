"""Reading back and checking the results of a study."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pyhbt.study.arms import Arm
from pyhbt.study.influences import load_influences
from pyhbt.study.results import Results, load_results
from tests.study.synthetic_study import HOSTILE, Study, rows, write_study

if TYPE_CHECKING:
    from pathlib import Path

ROW = {
    "arm": "0.5",
    "seed": 1,
    "step": 100,
    "split": "test",
    "centring": "none",
    "setting": "monolingual",
    "query_lang": "en",
    "passage_lang": "en",
    "tier": "seen",
    "metric": "recall@10",
    "value": 0.25,
}
SMALL = Study(ratios=(1, 0, "linear:0:1", 0.5), seeds=(4, 2), languages=("sw", "en", "ar"), units=7)


@pytest.fixture(scope="module")
def results() -> Results:
    return Results.from_rows(rows(SMALL))


def test_arms_are_ordered(results: Results) -> None:
    assert results.arms == list(map(Arm.parse, (0.0, 0.5, 1.0, "linear:0:1")))
    assert [arm.title for arm in results.arms] == ["0", "0.5", "1", "linear:0:1"]


def test_rows_are_read_under_the_former_name_of_their_arm() -> None:
    former = [
        {"ratio": ratio, **{key: value for key, value in ROW.items() if key != "arm"}}
        for ratio in (0.5, "0.50")
    ]
    for row in former:
        assert Results.from_rows([row]).arms == [Arm.parse(0.5)]


def test_columns_are_in_their_own_order(results: Results) -> None:
    assert results.distinct("seed") == [2, 4]
    assert results.distinct("setting") == ["monolingual", "cross-lingual", "multilingual"]
    assert results.distinct("tier") == ["all", "seen", "low-resource", "zero-shot"]


def test_selection_equals_a_plain_filter(results: Results) -> None:
    wanted = [
        row["value"]
        for row in rows(SMALL)
        if row["arm"] in ("0", "linear:0:1") and row["split"] == "test" and row["query_lang"] == "ar"
    ]
    chosen = results.select(arm=(0, "linear:0:1"), split="test", query_lang="ar")
    assert chosen.values.tolist() == wanted
    assert len(results.select(metric="nDCG@10")) == 0
    assert results.select(metric="nDCG@10").arms == []
    with pytest.raises(ValueError, match="where: found key 'colour', expected one of arm"):
        results.select(colour="red")


def test_by_seed_and_curves(results: Results) -> None:
    where: dict[str, Any] = {
        "arm": "0.5", "setting": "cross-lingual", "tier": "seen", "metric": "mAP", "centring": "both"
    }  # fmt: skip
    plain = [row for row in rows(SMALL) if row["query_lang"] == "*" and where.items() <= row.items()]
    found = results.macro(split="test", **where).by_seed()
    assert found == {row["seed"]: row["value"] for row in plain if row["split"] == "test"}
    steps, values = results.macro(**where).curves()[4]
    assert steps.tolist() == list(SMALL.steps)
    dev = {row["step"]: row["value"] for row in plain if row["split"] == "dev" and row["seed"] == 4}
    assert values.tolist() == [dev[step] for step in SMALL.steps]
    with pytest.raises(ValueError, match="several rows a seed"):
        results.by_seed(**where)


def test_languages_and_pairs(results: Results) -> None:
    assert list(results.language_tiers().items()) == [
        ("sw", "seen"), ("en", "low-resource"), ("ar", "zero-shot")
    ]  # fmt: skip
    chosen = {"split": "test", "setting": "cross-lingual", "metric": "mAP", "centring": "none", "arm": "0"}
    means = results.pair_means(**chosen)
    assert len(means) == 6
    plain = [
        row["value"]
        for row in rows(SMALL)
        if chosen.items() <= row.items() and (row["query_lang"], row["passage_lang"]) == ("ar", "sw")
    ]
    assert means["ar", "sw"] == pytest.approx(np.mean(plain))
    assert results.select(metric="none").pair_means() == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": True}, "arm: found True"),
        ({"arm": 1.5}, "ratio: found 1.5, expected a number in"),
        ({"arm": math.nan}, "ratio: found nan"),
        ({"arm": ""}, "ratio: found ''"),
        ({"arm": None}, "arm: found None"),
        ({"arm": "0.5+colour=red"}, "arm '0.5\\+colour=red': found 'colour'"),
        ({"seed": "1"}, "seed: found '1', expected an integer >= 0"),
        ({"step": -1}, "step: found -1"),
        ({"split": "tests"}, "split: found 'tests', expected one of train, dev, test or test:NAME"),
        ({"setting": "bilingual"}, "setting: found 'bilingual', expected one of monolingual"),
        ({"metric": "exposure examples", "value": -1}, "value: found -1, expected a finite number >= 0"),
        ({"tier": "rich"}, "tier: found 'rich'"),
        ({"query_lang": None}, "query_lang: found None, expected text"),
        ({"value": 1.2}, r"value: found 1.2, expected a number in \[0, 1\]"),
        ({"value": None}, "value: found None"),
        ({"value": math.nan}, "value: found nan"),
        ({"metric": "rank distance", "value": math.inf}, "value: found inf, expected a finite number >= 0"),
        ({"metric": "rank distance", "value": -1}, "value: found -1, expected a finite number >= 0"),
        ({"metric": "Max@R", "value": 0.5}, "value: found 0.5, expected a finite number >= 1"),
        ({"metric": "MRC@10", "value": -1.1}, r"value: found -1.1, expected a number in \[-1, 1\]"),
        ({"metric": "MRC@10", "value": math.nan}, r"value: found nan, expected a number in \[-1, 1\]"),
        ({"metric": "PEER@100", "value": -0.1}, r"value: found -0.1, expected a number in \[0, 1\]"),
    ],
)
def test_bad_fields_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    lines = [ROW, {**ROW, "seed": 2, **change}]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=rf"results\.jsonl:2: {message}"):
        load_results(tmp_path)


def test_ranges_of_language_bias() -> None:
    kept = {"rank distance": 0.0, "Max@R": 11.0, "MRC@10": -0.86, "PEER@100": 1.0}
    loaded = Results.from_rows({**ROW, "metric": metric, "value": value} for metric, value in kept.items())
    assert loaded.values.tolist() == list(kept.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1: line: not JSON"),
        ("[]\n", r":1: line: found \[\], expected an object"),
        (json.dumps(ROW) + "\n\n", ":2: line: not JSON"),
        (json.dumps({k: v for k, v in ROW.items() if k != "tier"}), ":1: tier: missing"),
        (json.dumps(ROW) + "\n" + json.dumps({**ROW, "step": 7}), ":2: value: measured before, on line 1"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_results(tmp_path)


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"results\.jsonl: missing: no study here"):
        load_results(tmp_path)
    (tmp_path / "results.jsonl").write_text("")
    assert len(load_results(tmp_path)) == 0
    assert load_results(tmp_path).arms == []


def test_columns_and_rows_read_the_same(tmp_path: Path) -> None:
    """A file that this version wrote is read by columns; one blank in it, and it is read row by row."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows(SMALL)]
    lines += [json.dumps({**ROW, "arm": arm, "seed": 9}) + "\n" for arm in ("0.50", "0.250", "1e0")]
    lines.append(json.dumps({**ROW, "query_lang": HOSTILE, "seed": 9, "value": 1, "more": None}) + "\n")
    path = tmp_path / "results.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    by_columns = load_results(tmp_path)
    with path.open(encoding="utf-8") as file:
        by_rows = Results.from_rows(map(json.loads, file))
    assert by_columns.levels == by_rows.levels
    np.testing.assert_array_equal(by_columns.values, by_rows.values)
    for key, codes in by_rows.codes.items():
        np.testing.assert_array_equal(by_columns.codes[key], codes)
        assert by_columns.codes[key].dtype == codes.dtype == np.int32


def test_two_objects_on_a_line_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(json.dumps(ROW) + json.dumps({**ROW, "seed": 2}) + "\n")
    with pytest.raises(ValueError, match=r"results\.jsonl:1: line: not JSON \(Extra data"):
        load_results(tmp_path)


def test_any_text_survives(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(
        json.dumps({**ROW, "query_lang": HOSTILE, "passage_lang": HOSTILE})
    )
    assert load_results(tmp_path).language_tiers() == {HOSTILE: "seen"}


def test_a_written_study_is_read_back(tmp_path: Path) -> None:
    write_study(tmp_path, SMALL)
    assert len(load_results(tmp_path)) == sum(1 for _ in rows(SMALL))
    assert len(load_influences(tmp_path).cells) == 8


def test_a_folder_may_be_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no study here"):
        load_results(str(tmp_path))


def test_a_table_and_few_words(tmp_path: Path) -> None:
    write_study(tmp_path, SMALL)
    results = load_results(tmp_path)
    frame = results.to_pandas()
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(frame) == len(lines) == len(results.values)
    for row in (0, len(lines) // 2, len(lines) - 1):
        found = frame.iloc[row].to_dict()
        assert found == {**lines[row], "arm": Arm.parse(lines[row].get("arm", lines[row].get("ratio"))).label}
    assert (
        repr(results)
        == f"Results({len(frame):,} rows, {frame.arm.nunique()} arms, {frame.seed.nunique()} seeds)"
    )
