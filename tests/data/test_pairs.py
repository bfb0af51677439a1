"""Own pairs from JSON lines, Parquet and CSV, and studies made of them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.data.pairs import load_folder_study, load_pairs, write_pairs
from tests.data.written import write_beir, write_jsonl

ROWS: list[dict[str, Any]] = [
    {"query": "q1", "passage": "p1", "query_lang": "en", "passage_lang": "en"},
    {"query": "NA", "passage": "p1", "query_lang": "no", "passage_lang": "en"},
    {"query": "2020-01-01", "passage": "007", "query_lang": "en", "passage_lang": "fr"},
]
PAIRS = [
    Pair("q1", "p1", "en", "en", "p1"),
    Pair("NA", "p1", "no", "en", "p1"),
    Pair("2020-01-01", "007", "en", "fr", "007"),
]


def _parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    import csv

    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_every_format_gives_the_same_pairs(tmp_path: Path) -> None:
    files = [
        write_jsonl(tmp_path / "odd [name].jsonl", ROWS),
        _parquet(tmp_path / "a.parquet", ROWS),
        _csv(tmp_path / "a.csv", ROWS),
    ]
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(files[0].read_bytes()))
    for file in (*files, packed):
        assert list(load_pairs(file)) == PAIRS


def test_every_format_joins_the_passages_of_a_query(tmp_path: Path) -> None:
    rows = [
        {**ROWS[0], "query": f"q{row // 4}", "passage": f"p{row}", "query_lang": "en", "question": question}
        for row in range(12)
        for question in ("7" if row > 9 else None,)
    ]
    for file in (
        write_jsonl(tmp_path / "a.jsonl", rows),
        _parquet(tmp_path / "a.parquet", rows),
        _csv(tmp_path / "a.csv", rows),  # an empty cell for no question
    ):
        found = [(pair.group, pair.question) for pair in load_pairs(file)]
        assert found == [("p0", "")] * 4 + [("p4", "")] * 4 + [("p8", "")] * 2 + [("p10", "7")] * 2
        assert [pair.group for pair in load_pairs(file, limit=6)] == ["p0"] * 4 + ["p4"] * 2
    write_beir(tmp_path / "dev", "dev")
    write_beir(tmp_path / "test", "test")
    write_jsonl(tmp_path / "train.jsonl", rows)
    study = load_folder_study(tmp_path)
    assert list(study.train) == list(load_pairs(tmp_path / "a.jsonl"))


def test_groups_and_negatives_are_kept(tmp_path: Path) -> None:
    rows = [
        {**ROWS[0], "group": "g", "negatives": ["n1", "n2"]},
        {**ROWS[1], "group": None, "negatives": None},
    ]
    expected = [Pair("q1", "p1", "en", "en", "g", ("n1", "n2")), PAIRS[1]]
    assert list(load_pairs(write_jsonl(tmp_path / "a.jsonl", rows))) == expected
    assert list(load_pairs(_parquet(tmp_path / "a.parquet", rows))) == expected


def test_languages_and_limit_select_pairs(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS, {"query": "broken"}])
    assert list(load_pairs(path, limit=3)) == PAIRS
    assert list(load_pairs(path, limit=3, languages=["en"])) == PAIRS[:1]
    with pytest.raises(
        ValueError, match=r"languages: found 'de', expected languages of the first 3 rows of .*: en fr no$"
    ):
        load_pairs(path, limit=3, languages=["de"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"passage": None}, "passage: found null, expected str"),
        ({"query": " "}, "query: found an empty text"),
        ({"query_lang": 5}, "query_lang: found int, expected str"),
        ({"group": 1}, "group: found int, expected str"),
        ({"negatives": "n"}, "negatives: found str, expected list"),
        ({"negatives": ["n", ""]}, r"negatives\[1\]: found '', expected a text"),
    ],
)
def test_malformed_rows_are_named_by_file_line_and_field(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [ROWS[0], {**ROWS[0], **row}])
    with pytest.raises(ValueError, match=rf"a\.jsonl:2: {message}"):
        load_pairs(path)
    one_type = {key: value for key, value in {**ROWS[0], **row}.items() if value is not None}
    path = _parquet(tmp_path / "a.parquet", [one_type])
    expected = message.replace("found null", "missing,").split(",")[0]
    with pytest.raises(ValueError, match=rf"a\.parquet:1: {expected}"):
        load_pairs(path)


@pytest.mark.parametrize("path", [5, None, ["a.jsonl"], b"a.jsonl"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(TypeError, match=f"path: found {type(path).__name__}, expected a path"):
        load_pairs(path)


def test_missing_columns_bad_lines_and_odd_files_raise(tmp_path: Path) -> None:
    without = [{key: value for key, value in ROWS[0].items() if key != "passage_lang"}]
    for path, line in (
        (write_jsonl(tmp_path / "a.jsonl", without), 1),
        (_parquet(tmp_path / "a.parquet", without), 1),
        (_csv(tmp_path / "a.csv", without), 2),
    ):
        with pytest.raises(ValueError, match=rf"{path.name}:{line}: passage_lang: missing, expected str"):
            load_pairs(path)
    _csv(tmp_path / "a.csv", [{**ROWS[0], "passage": ""}])
    with pytest.raises(ValueError, match=r"a\.csv:2: passage: found an empty text"):
        load_pairs(tmp_path / "a.csv")
    _csv(tmp_path / "a.csv", [{**ROWS[0], "negatives": "n"}])
    with pytest.raises(ValueError, match=r"a\.csv:2: negatives: found str, expected list"):
        load_pairs(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text('query,passage,query_lang,passage_lang\n"open')
    with pytest.raises(ValueError, match=r"a\.csv:2: unreadable as csv: unexpected end"):
        load_pairs(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text('{"query"\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:1: not JSON"):
        load_pairs(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match=r"a\.jsonl:1: found list, expected an object"):
        load_pairs(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_bytes(b'{"query": "\xff"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:1: not UTF-8"):
        load_pairs(tmp_path / "a.jsonl")
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: unreadable as parquet"):
        load_pairs(tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"found suffix '\.txt'"):
        load_pairs(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_pairs(tmp_path / "missing.jsonl")
    with pytest.raises(ValueError, match="found no pairs"):
        load_pairs(write_jsonl(tmp_path / "empty.jsonl", []))


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_any_text_survives_json_lines_and_parquet(tmp_path: Path, texts: list[tuple[str, str]]) -> None:
    rows = [{**ROWS[0], "query": query, "passage": passage} for query, passage in texts]
    for path in (write_jsonl(tmp_path / "a.jsonl", rows), _parquet(tmp_path / "a.parquet", rows)):
        assert [(pair.query, pair.passage) for pair in load_pairs(path)] == texts


def test_a_folder_of_own_data_makes_a_study(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    write_beir(tmp_path / "dev", "dev")
    write_beir(tmp_path / "test", "test", "q1\tp1\t1\n")
    study = load_folder_study(tmp_path, zero_shot=["fr"], low_resource=["no"])
    assert list(study.train) == PAIRS[:2]
    assert study.dev.tiers == {"en": "seen", "fr": "zero-shot", "no": "low-resource"}
    assert study.test.query_ids == ("q1",)
    small = load_folder_study(tmp_path, languages=["en"])
    assert list(small.train) == PAIRS[:1]
    assert small.dev.languages == ("en",)
    with pytest.raises(ValueError, match="found 'de', expected languages of"):
        load_folder_study(tmp_path, languages=["de"])
    with pytest.raises(ValueError, match="found no pairs in fr"):
        load_folder_study(tmp_path, languages=["fr"])
    with pytest.raises(FileNotFoundError, match=r"train\.parquet: no such file"):
        load_folder_study(tmp_path, train="train.parquet")


def test_written_pairs_are_read_back_whether_they_name_their_question_or_not(tmp_path: Path) -> None:
    pairs = PairSet.from_pairs(
        [
            Pair("q", "p", "en", "de", "g", ("n",), question="7"),
            Pair("r", "s", "en", "en", "h"),
        ]
    )
    write_pairs(str(tmp_path / "new folder" / "pairs.jsonl"), pairs)
    assert list(load_pairs(tmp_path / "new folder" / "pairs.jsonl")) == list(pairs)
    with pytest.raises(ValueError, match=r"out: found 'pairs.csv', expected a name that ends in \.jsonl"):
        write_pairs("pairs.csv", pairs)
