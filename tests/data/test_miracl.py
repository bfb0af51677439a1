"""MIRACL, read from small local folders of the published layout."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyhbt.data import miracl as module
from pyhbt.data.miracl import (
    DEV_LANGUAGES,
    LANGUAGES,
    TRAIN_LANGUAGES,
    load_miracl,
    load_miracl_pairs,
)
from pyhbt.data.pair_set import Pair
from tests.data.written import write


@pytest.fixture
def miracl(tmp_path: Path) -> Path:
    root = tmp_path / "miracl"
    for code in ("sw", "yo"):
        for split in ("train", "dev"):
            folder = root / f"miracl-v1.0-{code}"
            write(
                folder / f"topics/topics.miracl-v1.0-{code}-{split}.tsv",
                f"1\t{code} first?\n2\t{code} second?\n3\tunjudged\n4\tno answer\n",
            )
            write(
                folder / f"qrels/qrels.miracl-v1.0-{code}-{split}.tsv",
                "1\tQ0\tA#0\t1\n1\tQ0\tA#1\t1\n1\tQ0\tB#0\t0\n2\tQ0\tA#1\t1\n4\tQ0\tB#1\t0\n",
            )
        corpus = root / f"miracl-corpus-v1.0-{code}"
        corpus.mkdir()
        for shard, article in enumerate("CAB"):
            rows = [
                {"docid": f"{article}#{i}", "title": article, "text": f"{code} text {i}"} for i in range(3)
            ]
            content = "".join(json.dumps(row) + "\n" for row in rows)
            (corpus / f"docs-{shard}.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    return root


def test_miracl_pairs_join_questions_with_all_their_passages(miracl: Path) -> None:
    pairs = load_miracl_pairs(str(miracl), languages=["sw"], negatives=3)
    assert list(pairs) == [
        Pair("sw first?", "A sw text 0", "sw", "sw", "sw:1", ("B sw text 0",)),
        Pair("sw first?", "A sw text 1", "sw", "sw", "sw:1", ("B sw text 0",)),
        Pair("sw second?", "A sw text 1", "sw", "sw", "sw:1"),
    ]
    assert len(load_miracl_pairs(str(miracl), languages=["sw"], limit=1)) == 2


def test_miracl_rows_with_their_passages_are_read_too(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    def passages(*ids: str) -> list[dict[str, Any]]:
        return [{"docid": one, "title": "T", "text": f"text {one}"} for one in ids]

    rows: list[dict[str, Any]] = [
        {
            "query_id": "1",
            "query": "a",
            "positive_passages": passages("x"),
            "negative_passages": passages("y"),
        },
        {"query_id": "2", "query": "b", "positive_passages": passages("z"), "negative_passages": []},
    ]
    (tmp_path / "sw").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sw" / "train-00000-of-00001.parquet")
    write(tmp_path / "fi" / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for code in ("sw", "fi"):
        assert list(load_miracl_pairs(str(tmp_path), languages=[code], negatives=1)) == [
            Pair("a", "T text x", code, code, f"{code}:1", ("T text y",)),
            Pair("b", "T text z", code, code, f"{code}:2"),
        ]
    with pytest.raises(FileNotFoundError, match=r"source: no train\*\.parquet"):
        load_miracl_pairs(str(tmp_path), languages=["ar"])
    write(
        tmp_path / "fi" / "train.jsonl",
        '{"query_id": "1", "query": "a", "positive_passages": [{"docid": "x"}]}\n',
    )
    with pytest.raises(ValueError, match=r"train\.jsonl:1: positive_passages\[0\]\.text: missing"):
        load_miracl_pairs(str(tmp_path), languages=["fi"])


def test_miracl_evaluates_on_the_published_corpus(miracl: Path) -> None:
    one = load_miracl(str(miracl), languages=["sw", "yo"])
    assert one.query_ids == ("sw:1", "sw:2", "sw:4", "yo:1", "yo:2", "yo:4")
    assert len(one.passage_ids) == 18
    assert one.qrels["sw:1"] == {"sw:A#0": 1, "sw:A#1": 1, "sw:B#0": 0}
    small = load_miracl(str(miracl), languages=["sw"], corpus_limit=6)
    assert small.passage_ids == ("sw:C#0", "sw:C#1", "sw:A#0", "sw:A#1", "sw:B#0", "sw:B#1")
    assert len(load_miracl(str(miracl), languages=["sw"], corpus_limit=0).passage_ids) == 4


def test_malformed_miracl_sources_are_named(miracl: Path) -> None:
    with pytest.raises(ValueError, match="languages: found 'el', expected languages of MIRACL"):
        load_miracl(str(miracl), languages=["el"])
    with pytest.raises(ValueError, match="negatives: found -1"):
        load_miracl_pairs(str(miracl), languages=["sw"], negatives=-1)
    with pytest.raises(FileNotFoundError, match="testA.tsv: no such file"):
        load_miracl(str(miracl), languages=["sw"], split="testA")
    qrels = miracl / "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-dev.tsv"
    write(qrels, "1\tQ0\tA#0\t2\n")
    with pytest.raises(ValueError, match="dev.tsv:1: relevance: found '2', expected 0 or 1"):
        load_miracl(str(miracl), languages=["sw"])
    write(qrels, "1\tQ0\tZ#0\t1\n")
    with pytest.raises(ValueError, match="qrels: passage 'Z#0' of sw is not in its corpus"):
        load_miracl(str(miracl), languages=["sw"])
    write(miracl / "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-train.tsv", "1\tQ0\tZ#0\t1\n")
    with pytest.raises(ValueError, match="qrels: passage 'Z#0' of sw is not in its corpus"):
        load_miracl_pairs(str(miracl), languages=["sw"])


def test_languages_of_the_splits() -> None:
    assert len(LANGUAGES) == len(set(LANGUAGES)) == 18
    assert set(TRAIN_LANGUAGES) | set(DEV_LANGUAGES) == set(LANGUAGES)
    assert set(DEV_LANGUAGES) == {"de", "yo"}


def test_ids_of_two_languages_are_not_one(miracl: Path) -> None:
    """Both languages have questions 1 and 2 and passage A#1."""
    pairs = load_miracl_pairs(str(miracl), languages=["yo", "sw"])
    assert {(pair.query_lang, pair.group) for pair in pairs} == {("yo", "yo:1"), ("sw", "sw:1")}
    assert len(pairs) == 6
    assert all(pair.query_lang == pair.passage_lang == pair.passage.split()[1] for pair in pairs)
    assert [pair.query for pair in load_miracl_pairs(str(miracl), languages=["yo", "sw"], limit=1)] == [
        "yo first?",
        "yo first?",
        "sw first?",
        "sw first?",
    ]


def test_the_corpus_is_read_no_further_than_needed(miracl: Path) -> None:
    last = miracl / "miracl-corpus-v1.0-sw/docs-9.jsonl"
    write(last, "damaged, and never read")
    assert len(load_miracl_pairs(str(miracl), languages=["sw"])) == 3
    assert len(load_miracl(str(miracl), languages=["sw"], corpus_limit=0).passage_ids) == 4
    with pytest.raises(ValueError, match=r"docs-9\.jsonl:1: not JSON"):
        load_miracl(str(miracl), languages=["sw"])


def test_the_published_repositories_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    rows = {
        "qrels": [("q:1: ", "7\tQ0\tA#0\t1")],
        "topics": [("t:1: ", "7\twhat?")],
        "docs": [("d:1: ", '{"docid": "A#0", "title": "", "text": "that"}')],
    }

    def stream(files: Sequence[str]) -> Iterator[tuple[str, str]]:
        asked.extend(files)
        return iter(rows[next(name for name in rows if f"/{name}" in files[0])])

    monkeypatch.setattr(module, "stream_lines", stream)
    assert list(load_miracl_pairs(languages=["sw"])) == [Pair("what?", "that", "sw", "sw", "sw:7")]
    published = "hf://datasets/miracl/miracl/miracl-v1.0-sw"
    assert asked == [
        f"{published}/qrels/qrels.miracl-v1.0-sw-train.tsv",
        f"{published}/topics/topics.miracl-v1.0-sw-train.tsv",
        "hf://datasets/miracl/miracl-corpus/miracl-corpus-v1.0-sw/docs-*.jsonl*",
    ]
    assert load_miracl_pairs().languages == tuple(code for code in TRAIN_LANGUAGES)
