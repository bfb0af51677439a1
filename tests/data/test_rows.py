"""Rows of CSV, TSV and Parquet: what is read, and damage by file and line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from pyhbt.data.rows import read_rows
from tests.interpreter import run_python

BOM = b"\xef\xbb\xbf"


def _rows(folder: Path, content: bytes, name: str = "a.csv") -> list[tuple[int, dict[str, Any]]]:
    file = folder / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return [(int(where.split(":")[-2]), dict(row)) for where, row in read_rows(file)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n", [(2, {"a": "1", "b": "2"})]),
        (BOM + b"a,b\r\n1,2", [(2, {"a": "1", "b": "2"})]),
        (b'a,b\n"x\r\ny","1,2"\n\n3,4\n', [(2, {"a": "x\r\ny", "b": "1,2"}), (5, {"a": "3", "b": "4"})]),
        (b'a,b\nsay "hi",""""\n', [(2, {"a": 'say "hi"', "b": '"'})]),
        (b"a,b\nNA,\n", [(2, {"a": "NA", "b": ""})]),
        (b",a\n0,1\n", [(2, {"": "0", "a": "1"})]),
        (b"a,b\n", []),
        (b"a,b\n  \n1,2\n  ", [(3, {"a": "1", "b": "2"})]),
    ],
)
def test_cells_of_csv_and_tsv(tmp_path: Path, content: bytes, expected: list[Any]) -> None:
    assert _rows(tmp_path, content) == expected
    assert _rows(tmp_path, content, "A.CSV.gz") == expected
    tabs = [(line, {k: v.replace(",", "\t") for k, v in row.items()}) for line, row in expected]
    assert _rows(tmp_path, content.replace(b",", b"\t"), "a.tsv") == tabs


def test_cells_of_any_size(tmp_path: Path) -> None:
    assert _rows(tmp_path, b"a,b\n" + b"x" * 300_000 + b",2\n")[0][1]["b"] == "2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"a,b\n1,2\nwhere, is,it\n",
            "3: found 3 cells, expected 2 as in the header; a cell that holds a comma",
        ),
        (b'a,b\n"x\ny",1\n2\n', "4: found 1 cells, expected 2"),
        (b'a,b\n"x\ny\n', "2: unreadable as csv: unexpected end of data"),
        (b'a,b\n"x"y,1\n', "2: unreadable as csv"),
        (b"a,a\n1,2\n", "1: found the column 'a' twice"),
        (b"", "1: found no header"),
        (b"\na,b\n", "1: found no header"),
        (b" , \n1,2\n", "1: found no header"),
        (b"a,b\n1,\0\n", "2: found a NUL byte"),
        (b"a,b\n1,2\n1,\xff\n", "3: not UTF-8"),
    ],
)
def test_damage_is_named_by_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.csv:{message}"):
        _rows(tmp_path, content)


def test_damaged_parquet_is_named_and_other_columns_do_not_matter(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    table = pa.table(
        {
            "a": pa.array(["x"] * 5000).dictionary_encode(),
            "map": pa.array([[("k", 1)]] * 5000, pa.map_(pa.string(), pa.int64())),
            "struct": pa.array([{"k": [{"n": 1}]}] * 5000),
        }
    )
    file = tmp_path / "a.parquet"
    pq.write_table(table, file)
    rows = list(read_rows(file, ("a", "b")))
    assert rows[-1] == (f"{file}:5000: ", {"a": "x"})
    assert len(list(read_rows(file))) == 5000
    assert len(list(read_rows(file, ("b",)))) == 5000
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-20], whole[:4] + b"\0" * 200 + whole[204:], b"no parquet"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.parquet: unreadable as parquet after row \d+: ") as caught:
            list(read_rows(file))
        assert "\n" not in str(caught.value)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    for name in ("a", "a.txt", "a.parquet.gz", "csv"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match="found suffix"):
            list(read_rows(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="no such file"):
        list(read_rows(tmp_path / "b.csv"))


def test_local_files_need_no_folder_to_write_to(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"query": "q", "passage": "p", "query_lang": "en", "passage_lang": "en"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    code = (
        "import os, sys; os.environ.update(HOME='/nowhere', HF_HOME='/proc/none', TMPDIR='/proc/none');"
        f"from pyhbt.data import load_pairs; pairs = load_pairs({str(tmp_path / 'a.parquet')!r});"
        "print(len(pairs), 'datasets' in sys.modules)"
    )
    assert run_python(code).stdout.strip() == "1 False"
