"""Files of sentence pairs: what is written reads back, and trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyhbt.data import load_pairs
from pyhbt.data.bitext import check_bitext_target, write_bitext

PAIRS = [(1.0833712345678901, "ein Haus", "a house"), (0.1 + 0.2, "a\tb\r\nc", "d\u2028e"), (-7.0, "ü", "v")]


def test_columns(tmp_path: Path) -> None:
    out = tmp_path / "new folder/x.tsv"
    assert write_bitext(out, PAIRS) == 3
    assert list(out.parent.iterdir()) == [out]
    lines = out.read_bytes().decode("utf-8").split("\n")
    rows = [line.split("\t") for line in lines[:-1]]
    assert lines[-1] == ""
    assert [float(score) for score, _, _ in rows] == [score for score, _, _ in PAIRS]
    assert [row[1:] for row in rows] == [["ein Haus", "a house"], ["a b  c", "d\u2028e"], ["ü", "v"]]


def test_records_train(tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    assert write_bitext(out, iter(PAIRS)) == 3
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [(row["score"], row["source"], row["target"]) for row in rows] == PAIRS
    columns = {"query": "source", "passage": "target"}
    pairs = load_pairs(out, columns=columns, query_lang="de", passage_lang="en")
    assert [(pair.query, pair.passage) for pair in pairs] == [(source, target) for _, source, target in PAIRS]


def test_no_pairs_are_an_empty_file(tmp_path: Path) -> None:
    assert write_bitext(tmp_path / "x.tsv", []) == 0
    assert (tmp_path / "x.tsv").read_bytes() == b""


def test_wrong_targets_and_what_fails_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"out: found '.*x.csv', expected a name that ends in .tsv or .jsonl"
    ):
        check_bitext_target(tmp_path / "x.csv")
    (tmp_path / "x.tsv").mkdir()
    with pytest.raises(IsADirectoryError, match=r"out: .*x.tsv is a folder, expected a file"):
        write_bitext(tmp_path / "x.tsv", PAIRS)
    (tmp_path / "old.tsv").write_text("old")

    def failing() -> object:
        yield PAIRS[0]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_bitext(tmp_path / "old.tsv", failing())  # type: ignore[arg-type]
    assert (tmp_path / "old.tsv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.tsv", "x.tsv"]
