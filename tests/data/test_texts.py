"""Texts and ids of files, for every command alike."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pyhbt.data.texts import Passage, check_ids, load_corpus, read_ids, read_texts


def test_each_line_of_a_text_file_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\ntwo\u2028still two\n".encode())
    assert read_texts(tmp_path / "a.txt") == ["one", "", "two\u2028still two"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_texts_of_json_lines(name: str, tmp_path: Path) -> None:
    content = b'{"text": "one", "_id": "a"}\n\n{"text": "", "id": 7}\n{"text": "three"}\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_texts(tmp_path / name) == ["one", "", "three"]
    assert read_ids(None, tmp_path / name, 3, "query_ids") == ["a", "7", "2"]


def test_a_line_without_the_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n{"text": 2}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2: text: expected"):
        read_texts(file)
    with pytest.raises(ValueError, match=r"a\.jsonl:1: body: expected"):
        read_texts(file, "body")
    with pytest.raises(FileNotFoundError, match=r"b\.txt: no such file"):
        read_texts(tmp_path / "b.txt")


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "one"}\n' * 1000)
    for content in (b"plain", whole[:-9], whole[:20]):
        (tmp_path / "a.jsonl.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.jsonl\.gz: unreadable as gzip"):
            read_texts(tmp_path / "a.jsonl.gz")


def test_ids_of_a_file_or_row_numbers(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\nb\n")
    assert read_ids(tmp_path / "ids.txt", tmp_path / "q.npy", 2, "query_ids") == ["a", "b"]
    assert read_ids(None, tmp_path / "q.npy", 2, "query_ids") == ["0", "1"]
    with pytest.raises(ValueError, match="query_ids: .*ids.txt: found 2, expected 3"):
        read_ids(tmp_path / "ids.txt", tmp_path / "q.npy", 3, "query_ids")


@pytest.mark.parametrize(
    ("ids", "message"), [(["a", "b", "a"], "'a' twice"), (["a b"], "white space"), ([""], "''")]
)
def test_ids_must_differ_and_be_words(ids: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"corpus_ids: found .*{message}"):
        check_ids(ids, "corpus_ids")


def test_corpus_files(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"text": "one\\u2028line", "lang": "aa"}\n\n{"lang": "bb", "text": "two", "id": 7}\n')
    assert load_corpus(file) == [Passage("one\u2028line", "aa"), Passage("two", "bb")]
    file.write_text('{"text": "one", "lang": "aa"}\n{"text": "two"}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:2: lang: missing"):
        load_corpus(file)


def test_ids_of_json_lines_are_strings_or_whole_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"_id": null}\n{"_id": null, "id": 7}\n{"id": "b"}\n\n')
    assert read_ids(None, str(file), 3, "query_ids") == ["0", "7", "b"]
    for wrong in ("true", "1.5", "[1]", '"\\ud800"'):
        file.write_text(f'{{"_id": "a"}}\n{{"_id": {wrong}}}\n')
        with pytest.raises(ValueError, match=r"a\.jsonl:2: _id: found "):
            read_ids(None, file, 2, "query_ids")


def test_texts_that_are_not_unicode_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n{"text": "\\udc00"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2: text: found the lone surrogate"):
        read_texts(str(file))
    (tmp_path / "a.txt").write_bytes(b"one\n\xff\n")
    with pytest.raises(ValueError, match=r"a\.txt:2: not UTF-8"):
        read_texts(str(tmp_path / "a.txt"))
