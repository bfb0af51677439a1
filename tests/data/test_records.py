"""Lines, JSON and fields of files, with errors that name file, line and field."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyhbt.data.records import (
    columns,
    existing_file,
    existing_folder,
    field,
    parse_jsonl,
    read_jsonl,
    read_lines,
    text_field,
)

BOM = b"\xef\xbb\xbf"


def written(folder: Path, content: bytes, name: str = "a.txt") -> Path:
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", []),
        (b"one", [(1, "one")]),
        (b"one\n", [(1, "one")]),
        (b"\n \t\none\r\n\ntwo", [(3, "one"), (5, "two")]),
        (BOM, []),
        (BOM + b"one\n" + BOM + b"two\n", [(1, "one"), (2, "\ufefftwo")]),  # a mark only at the start
        ("a\u2028b\x85c\n".encode(), [(1, "a\u2028b\x85c")]),  # no line breaks of ours
        (b" kept \r\r\n", [(1, " kept ")]),
    ],
)
def test_lines(tmp_path: Path, name: str, content: bytes, expected: list[tuple[int, str]]) -> None:
    file = written(tmp_path, content, name)
    assert list(read_lines(file)) == [(f"{file}:{number}: ", line) for number, line in expected]
    assert list(read_lines(str(file))) == list(read_lines(file))


def test_blank_lines_are_kept_where_wanted(tmp_path: Path) -> None:
    file = written(tmp_path, b"\r\none\n\n \n")
    kept = list(read_lines(file, keep_blank=True))
    assert kept == [(f"{file}:{number}: ", line) for number, line in enumerate(("", "one", "", " "), start=1)]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=9), max_size=6))
def test_any_lines_come_back(tmp_path: Path, lines: list[str]) -> None:
    content = ("\ufeff" if lines else "") + "".join(f"{line}\n" for line in lines)
    for name in ("a.txt", "a.txt.gz"):
        file = written(tmp_path, content.encode(), name)
        assert [line for _, line in read_lines(file, keep_blank=True)] == lines
        assert [line for _, line in read_lines(file)] == [line for line in lines if line.strip()]


def test_lines_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, b"one\n\n\xff\nfour\n")
    lines = read_lines(file)
    assert next(lines) == (f"{file}:1: ", "one")  # what comes before is given
    with pytest.raises(ValueError, match=rf"^{file}:3: not UTF-8: "):
        next(lines)


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"%d\n" % number for number in range(5000)))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    file = tmp_path / "a.gz"
    for content in (b"plain text", whole[:-1], whole[:-9], whole[:15], bytes(flipped)):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^{file}: unreadable as gzip: "):
            list(read_lines(file))
    file.write_bytes(whole + whole)  # members one after the other are one file
    assert len(list(read_lines(file))) == 10_000


def test_files_and_folders_that_are_not_there(tmp_path: Path) -> None:
    file = written(tmp_path, b"")
    assert existing_file(str(file)) == file
    assert existing_folder(str(tmp_path)) == tmp_path
    for wrong in (tmp_path, tmp_path / "b.txt"):
        with pytest.raises(FileNotFoundError, match=rf"^{wrong}: no such file$"):
            existing_file(wrong)
        with pytest.raises(FileNotFoundError, match="no such file"):
            next(read_lines(wrong))
    for wrong in (file, tmp_path / "b"):
        with pytest.raises(FileNotFoundError, match=rf"^folder: {wrong} is not a folder$"):
            existing_folder(wrong)


def test_json_lines(tmp_path: Path) -> None:
    file = written(tmp_path, b'{"a": 1}\n\n{"a": [2, null]}\n{}', "a.jsonl")
    assert list(read_jsonl(file)) == [
        (f"{file}:1: ", {"a": 1}),
        (f"{file}:3: ", {"a": [2, None]}),
        (f"{file}:4: ", {}),
    ]
    assert list(parse_jsonl([])) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON: "),
        ("{'a': 1}", "not JSON: "),
        ('{"a": 1} {"b": 2}', "not JSON: Extra data"),
        ("[1]", "found list, expected an object"),
        ("null", "found NoneType, expected an object"),
        ('"text"', "found str, expected an object"),
        ("true", "found bool, expected an object"),
    ],
)
def test_lines_that_are_no_objects_are_named(line: str, message: str) -> None:
    rows = parse_jsonl([("f:1: ", "{}"), ("f:2: ", line)])
    assert next(rows) == ("f:1: ", {})
    with pytest.raises(ValueError, match=f"^f:2: {message}"):
        next(rows)


def test_columns() -> None:
    names = ("query id", "docid")
    assert columns("f:1: ", "a b\tc", names) == ["a b", "c"]
    assert columns("f:1: ", "a\t", names) == ["a", ""]
    assert columns("f:1: ", "  a \t b ", names, separator=None) == ["a", "b"]
    with pytest.raises(ValueError, match="^f:1: found 1 columns, expected 2: query id docid$"):
        columns("f:1: ", "a b", names)
    with pytest.raises(ValueError, match="found 3 columns, expected 2"):
        columns("f:1: ", "a\tb\t", names)
    with pytest.raises(ValueError, match="found 3 columns, expected 2"):
        columns("f:1: ", "a b c", names, separator=None)


@pytest.mark.parametrize(
    ("value", "kind"), [("", str), (0, int), (True, bool), (1.5, float), ([], list), ({}, dict)]
)
def test_fields_of_the_right_kind(value: Any, kind: type) -> None:
    assert field({"a": value}, "a", kind, "") is value


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        ({}, str, "a: missing, expected str"),
        ([1], str, "a: missing, expected str"),
        (None, int, "a: missing, expected int"),
        ("a", str, "a: missing, expected str"),  # a text that holds the name is no object
        ({"a": None}, str, "a: found null, expected str"),
        ({"a": 1}, str, "a: found int, expected str"),
        ({"a": True}, int, "a: found bool, expected int"),
        ({"a": 1}, bool, "a: found int, expected bool"),
        ({"a": 1}, float, "a: found int, expected float"),
        ({"a": {}}, list, "a: found dict, expected list"),
    ],
)
def test_fields_of_another_kind(record: object, kind: type, message: str) -> None:
    with pytest.raises(ValueError, match=f"^f:7: {message}$"):
        field(record, "a", kind, "f:7: ")


def test_texts_are_not_blank() -> None:
    assert text_field({"a": " b "}, "a", "") == " b "  # as it is
    for blank in ("", " ", "\u3000\n"):
        with pytest.raises(ValueError, match="^f:7: a: found an empty text, expected some$"):
            text_field({"a": blank}, "a", "f:7: ")
    with pytest.raises(ValueError, match="^f:7: a: found null, expected str$"):
        text_field({"a": None}, "a", "f:7: ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 200_000, "not JSON: nested too deeply"),
        ('{"a": ' * 200_000, "not JSON: nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON: "),
    ],
)
def test_json_that_python_cannot_hold_is_named(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^f:1: {message}"):
        list(parse_jsonl([("f:1: ", line)]))


def test_lone_surrogates_are_named() -> None:
    [(where, row)] = parse_jsonl([("f:7: ", '{"a": "x\\ud800y", "pair": "\\ud83d\\ude00"}')])
    assert text_field(row, "pair", where) == "\U0001f600"
    with pytest.raises(
        ValueError, match=r"^f:7: a: found the lone surrogate '\\ud800' at character 1, expected"
    ):
        text_field(row, "a", where)
