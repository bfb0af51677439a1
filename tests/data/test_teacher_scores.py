"""Teacher scores: every form of file, what is refused and how, what a batch gets, against plain dictionaries."""

from __future__ import annotations

import csv
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.data import TeacherScores
from pyhbt.data.pair_set import Pair, PairSet

PAIRS = PairSet.from_pairs(
    [
        Pair("q0", "p0", "en", "en", "a", ("n", "m")),
        Pair("q1", "p1", "en", "de", "b", ("n",)),
        Pair("q2", "p2", "en", "en", "c"),
    ]
)
ROWS: list[dict[str, Any]] = [
    {"query": "q0", "passage": "p0", "score": 7.25, "by": "somebody"},
    {"query": "q1", "passage": "n", "score": -2},
    {"query": "q0", "passage": "m", "score": 0.5},
    {"query": "q9", "passage": "p0", "score": 1},
    {"query": "q1", "passage": "p1", "score": 3.5},
    {"query": "q2", "passage": "p9", "score": 3.5},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    name = path.name
    if name.endswith(".parquet"):
        names = ["query", "passage", "score"]
        pq.write_table(pa.table({key: [row.get(key) for row in rows] for key in names}), path)
    elif name.endswith(".csv"):
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["score", "query", "passage"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def named(scores: TeacherScores, rows: list[int], pairs: PairSet = PAIRS) -> dict[tuple[int, str], float]:
    found = scores.of(rows)
    assert len({len(part) for part in found}) == 1
    assert (np.diff(found.queries) >= 0).all()
    result: dict[tuple[int, str], float] = {}
    for query, pair, slot, score in zip(*(part.tolist() for part in found), strict=True):
        candidate = pairs[rows[pair]]
        text = candidate.passage if slot == 0 else candidate.negatives[slot - 1]
        assert (query, text) not in result
        result[query, text] = score
    return result


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet", ".csv"])
def test_every_form(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / f"scores{suffix}", ROWS)
    with caplog.at_level(logging.INFO, logger="pyhbt"):
        scores = TeacherScores.load(path, PAIRS)
    assert len(scores) == 4
    assert scores.coverage() == (2, 2)
    assert (
        f"{path}: 4 of 6 rows fit; 2 of 3 pairs have a score of their passage, 2 of these one" in caplog.text
    )
    assert named(scores, [0, 1, 2]) == {(0, "p0"): 7.25, (0, "m"): 0.5, (1, "p1"): 3.5, (1, "n"): -2.0}
    assert named(scores, [1]) == {(0, "p1"): 3.5, (0, "n"): -2.0}
    assert named(scores, [2]) == {}
    assert [len(part) for part in scores.of(())] == [0, 0, 0, 0]


def test_a_pair_is_told_when_it_is_not_covered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    TeacherScores.load(write(tmp_path / "s.jsonl", ROWS), PAIRS)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    some = PairSet.from_pairs(list(PAIRS)[:2])
    TeacherScores.load(tmp_path / "s.jsonl", some)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q0", "passage": "p0"}, "score: missing, expected a number"),
        ({"query": "q0", "passage": "p0", "score": None}, "score: found None, expected a finite number"),
        ({"query": "q0", "passage": "p0", "score": float("nan")}, "score: found nan, expected a finite"),
        ({"query": "q0", "passage": "p0", "score": float("-inf")}, "score: found -inf, expected a finite"),
        ({"query": "q0", "passage": "p0", "score": True}, "score: found True, expected a finite number"),
        ({"query": "q0", "passage": "p0", "score": "much"}, "score: found 'much', expected a finite number"),
        ({"query": "q0", "passage": "p0", "score": [1.0]}, r"score: found \[1.0\], expected a finite number"),
        ({"query": "q0", "passage": "p0", "score": 10**400}, "score: found 1000*, expected a finite number"),
        ({"passage": "p0", "score": 1}, "query: missing, expected str"),
        ({"query": "q0", "score": 1}, "passage: missing, expected str"),
        ({"query": 3, "passage": "p0", "score": 1}, "query: found int, expected str"),
        ({"query": "q0", "passage": " ", "score": 1}, "passage: found an empty text"),
        ({"query": "q9", "passage": "p0", "score": "nan"}, "score: found 'nan', expected a finite number"),
        (
            {"query": "q0", "passage": "m", "score": 0.25},
            "score: found 0.25, expected 0.5 as in .*jsonl:3, of the",
        ),
    ],
)
def test_mistakes_by_file_and_line(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [*ROWS, row])
    with pytest.raises(ValueError, match=f"{path}:7: {message}"):
        TeacherScores.load(path, PAIRS)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_mistakes_in_other_forms(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"s{suffix}", [*ROWS, {"query": "q0", "passage": "p0", "score": 8}])
    line = 8 if suffix == ".csv" else 7
    first = 2 if suffix == ".csv" else 1
    with pytest.raises(
        ValueError, match=f"{path}:{line}: score: found 8, expected 7.25 as in {path}:{first}"
    ):
        TeacherScores.load(path, PAIRS)
    empty = write(tmp_path / f"none{suffix}", [{"query": "q0", "passage": "p0", "score": None}])
    with pytest.raises(ValueError, match=f"{empty}:{1 + (suffix == '.csv')}: score: found"):
        TeacherScores.load(empty, PAIRS)


def test_files_without_scores_of_the_pairs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl: no such file"):
        TeacherScores.load(tmp_path / "nowhere.jsonl", PAIRS)
    (tmp_path / "s.txt").write_text("")
    with pytest.raises(ValueError, match="found suffix '.txt', expected one of .jsonl"):
        TeacherScores.load(tmp_path / "s.txt", PAIRS)
    for rows in ([], ROWS[3:4], ROWS[5:]):
        path = write(tmp_path / "s.jsonl", rows)
        with pytest.raises(
            ValueError, match=f"found {len(rows)} rows, of which none has a query and a passage"
        ):
            TeacherScores.load(path, PAIRS)
    path = write(tmp_path / "s.jsonl", ROWS[:2])
    with pytest.raises(ValueError, match="found one score a query, expected two of a query at least"):
        TeacherScores.load(path, PAIRS)


def test_equal_duplicates_count_once(tmp_path: Path) -> None:
    scores = TeacherScores.load(write(tmp_path / "s.jsonl", ROWS + ROWS), PAIRS)
    assert len(scores) == 4


@given(st.data())
def test_against_plain_dictionaries(data: st.DataObject) -> None:
    texts = st.sampled_from([f"p{i}" for i in range(6)])
    queries = st.sampled_from([f"q{i}" for i in range(4)])
    pairs = PairSet.from_pairs(
        Pair(query, passage, "en", "en", "g", tuple(negatives))
        for query, passage, negatives in data.draw(
            st.lists(st.tuples(queries, texts, st.lists(texts, max_size=3)), min_size=1, max_size=6)
        )
    )
    table = data.draw(st.dictionaries(st.tuples(queries, texts), st.integers(-5, 5).map(float), max_size=20))
    fitting = {
        (pairs.queries.index(query), pairs.passages.index(text)): score
        for (query, text), score in table.items()
        if query in pairs.queries and text in pairs.passages
    }
    keys = sorted(fitting)
    scores = TeacherScores(
        pairs,
        np.array([query * len(pairs.passages) + passage for query, passage in keys], dtype=np.int64),
        np.array([fitting[key] for key in keys], dtype=np.float64),
    )
    rows = data.draw(st.lists(st.integers(0, len(pairs) - 1), max_size=5))
    there = {text for row in rows for text in (pairs[row].passage, *pairs[row].negatives)}
    expected = {
        (place, text): table[pairs[row].query, text]
        for place, row in enumerate(rows)
        for text in there
        if (pairs[row].query, text) in table
    }
    assert named(scores, rows, pairs) == expected
    found = scores.of(rows)
    for query, pair, slot in zip(found.queries, found.pairs, found.slots, strict=True):
        candidate = pairs[rows[pair]]
        text = candidate.passage if slot == 0 else candidate.negatives[slot - 1]
        if text == pairs[rows[query]].passage:
            assert (pair, slot) == (query, 0)  # a query's own passage is its own
    own = [(pair.query, pair.passage) in table for pair in pairs]
    both = [
        known and any((pair.query, text) in table for text in pair.negatives)
        for known, pair in zip(own, pairs, strict=True)
    ]
    assert scores.coverage() == (sum(own), sum(both))
