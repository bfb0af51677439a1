"""Columns under other names, in every form of file, and mappings that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyhbt.data.columns import ColumnMap, parse_columns
from pyhbt.data.pair_set import Pair
from pyhbt.data.pairs import load_pairs
from tests.data.written import write, write_jsonl

MAPPED: dict[str, Any] = {"columns": {"query": "question", "passage": "context"}, "query_lang": "de"}


def _files(folder: Path) -> list[Path]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    row = {"question": "q", "context": "p", "passage_lang": "en", "answer": "a"}
    cells = [list(row), list(row.values())]
    pq.write_table(pa.Table.from_pylist([row]), folder / "a.parquet")
    return [
        write(folder / "a.jsonl", json.dumps(row)),
        write(folder / "a.csv", "\n".join(",".join(line) for line in cells)),
        write(folder / "a.tsv", "\n".join("\t".join(line) for line in cells)),
        folder / "a.parquet",
    ]


def test_every_form_of_file_is_read_by_columns(tmp_path: Path) -> None:
    for file in _files(tmp_path):
        assert list(load_pairs(file, **MAPPED)) == [Pair("q", "p", "de", "en", "p")]


@pytest.mark.parametrize("field", ["query", "group"])
def test_a_column_that_is_absent_is_refused_with_those_that_are_there(tmp_path: Path, field: str) -> None:
    for file in _files(tmp_path):
        columns = {**MAPPED["columns"], field: "contxt"}
        message = rf"no column 'contxt' for {field}, expected one of question, context, .*; did you mean 'context'\?"
        with pytest.raises(ValueError, match=message) as caught:
            load_pairs(file, columns=columns, query_lang="de")
        assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"columns": {"querry": "a"}}, ValueError, "field 'querry', .*; did you mean 'query'"),
        ({"columns": {"query": ""}}, ValueError, "empty name for 'query'"),
        ({"columns": {"query": 1}}, TypeError, "expected strings"),
        ({"columns": ["query=a"]}, TypeError, "expected a mapping"),
        ({"query_lang": ""}, ValueError, "query_lang: found ''"),
        ({"passage_lang": 1}, TypeError, "passage_lang: found 1"),
    ],
)
def test_mappings_of_other_kinds_are_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ColumnMap(**given)


def test_a_language_is_for_rows_that_name_none(tmp_path: Path) -> None:
    row = {"query": "q", "passage": "p", "passage_lang": "en"}
    rows = [row, {**row, "query_lang": None}, {**row, "query_lang": ""}, {**row, "query_lang": "fr"}]
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    found = load_pairs(file, query_lang="de", passage_lang="sw")
    assert [(pair.query_lang, pair.passage_lang) for pair in found] == [("de", "en")] * 3 + [("fr", "en")]


def test_blank_cells_of_what_may_be_left_out_are_none(tmp_path: Path) -> None:
    row = {"query": "q", "passage": "p", "query_lang": "en", "passage_lang": "en"}
    for blank in ("", " ", None):
        file = write_jsonl(
            tmp_path / "a.jsonl", [{**row, "group": blank, "question": blank, "negatives": blank}]
        )
        assert list(load_pairs(file)) == [Pair("q", "p", "en", "en", "p")]


def test_columns_of_a_command_line() -> None:
    assert parse_columns(None) is None
    assert parse_columns(("query=a=b", "passage=c d")) == {"query": "a=b", "passage": "c d"}
    for wrong in (("query",), ("=a",), ("query=",), ("query=a", "query=b")):
        with pytest.raises(ValueError, match="columns: found"):
            parse_columns(wrong)
