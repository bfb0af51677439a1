"""mMARCO and MIRACL, read from small local folders of the published layout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pyhbt.data.hub import is_local, locate, stream_lines
from pyhbt.data.miracl import load_miracl, load_miracl_pairs
from pyhbt.data.mmarco import load_mmarco
from pyhbt.data.pair_set import Pair


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def mmarco(tmp_path: Path) -> Path:
    data = tmp_path / "mmarco" / "data"
    # Query 1 has two positives; queries 1 and 2 share positive 10.
    _write(
        data / "triples.train.ids.small.tsv",
        "1\t10\t20\n1\t11\t21\n1\t10\t21\n2\t10\t20\n3\t12\t20\n",
    )
    for name, mark in (("english", "e"), ("german", "g")):
        queries = "".join(f"{i}\t{mark} query {i}\n" for i in (3, 2, 1))
        passages = "".join(f'{i}\t{mark} "passage {i}\n' for i in (10, 11, 12, 20, 21, 22))
        if mark == "g":
            queries = queries.replace("g query 3", " ... ")
            passages = passages.replace('20\tg "passage 20\n', "")
        _write(data / f"google/queries/train/{name}_queries.train.tsv", queries)
        _write(data / f"google/collections/{name}_collection.tsv", passages)
    return tmp_path / "mmarco"


def test_mmarco_pairs_all_languages_of_an_id(mmarco: Path) -> None:
    pairs = load_mmarco(str(mmarco), languages=["en", "de"])
    found = {(pair.query, pair.passage, pair.group) for pair in pairs}
    assert len(pairs) == 4 * 3 + 2
    # Query 3 is only dots in German: English asks for it alone, of both passages.
    assert {pair.query_lang for pair in pairs if pair.group == "3"} == {"en"}
    assert ("e query 1", 'g "passage 10', "1") in found
    assert ("g query 2", 'e "passage 10', "1") in found
    assert {group for _, _, group in found} == {"1", "3"}


def test_mmarco_takes_a_slice_with_negatives(mmarco: Path) -> None:
    pairs = load_mmarco(str(mmarco), languages=["en", "de"], limit=3, negatives=2)
    by_text = {(pair.query, pair.passage): pair for pair in pairs}
    assert len(pairs) == len(by_text) == 8
    assert by_text["g query 1", 'e "passage 10'] == Pair(
        "g query 1", 'e "passage 10', "de", "en", "1", ('e "passage 20', 'e "passage 21'), "0"
    )
    # Passage 20 is missing from the German collection.
    assert by_text["e query 1", 'g "passage 10'].negatives == ('g "passage 21',)
    assert not any(pair.negatives for pair in load_mmarco(str(mmarco), languages=["en"], limit=1))


def test_malformed_mmarco_sources_are_named(mmarco: Path) -> None:
    with pytest.raises(ValueError, match="languages: found 'sw', expected languages of mMARCO: ar"):
        load_mmarco(str(mmarco), languages=["sw"])
    with pytest.raises(ValueError, match="negatives: found -1"):
        load_mmarco(str(mmarco), languages=["en"], negatives=-1)
    with pytest.raises(FileNotFoundError, match="french_queries.train.tsv: no such file"):
        load_mmarco(str(mmarco), languages=["fr"])
    _write(mmarco / "data/triples.train.ids.small.tsv", "1\t10\n")
    with pytest.raises(ValueError, match="small.tsv:1: found 2 columns, expected 3: query id"):
        load_mmarco(str(mmarco), languages=["en"])
    _write(mmarco / "data/triples.train.ids.small.tsv", "1\t10\t20\n")
    _write(mmarco / "data/google/queries/train/english_queries.train.tsv", "1 no tab\n")
    with pytest.raises(ValueError, match="train.tsv:1: text: missing, expected id, tab, text"):
        load_mmarco(str(mmarco), languages=["en"])


@pytest.fixture
def miracl(tmp_path: Path) -> Path:
    root = tmp_path / "miracl"
    for code in ("sw", "yo"):
        for split in ("train", "dev"):
            folder = root / f"miracl-v1.0-{code}"
            _write(
                folder / f"topics/topics.miracl-v1.0-{code}-{split}.tsv",
                f"1\t{code} first?\n2\t{code} second?\n3\tunjudged\n4\tno answer\n",
            )
            _write(
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
    _write(tmp_path / "fi" / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for code in ("sw", "fi"):
        assert list(load_miracl_pairs(str(tmp_path), languages=[code], negatives=1)) == [
            Pair("a", "T text x", code, code, f"{code}:1", ("T text y",)),
            Pair("b", "T text z", code, code, f"{code}:2"),
        ]
    with pytest.raises(FileNotFoundError, match=r"source: no train\*\.parquet"):
        load_miracl_pairs(str(tmp_path), languages=["ar"])
    _write(
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
    _write(qrels, "1\tQ0\tA#0\t2\n")
    with pytest.raises(ValueError, match="dev.tsv:1: relevance: found '2', expected 0 or 1"):
        load_miracl(str(miracl), languages=["sw"])
    _write(qrels, "1\tQ0\tZ#0\t1\n")
    with pytest.raises(ValueError, match="qrels: passage 'Z#0' of sw is not in its corpus"):
        load_miracl(str(miracl), languages=["sw"])
    _write(miracl / "miracl-v1.0-sw/qrels/qrels.miracl-v1.0-sw-train.tsv", "1\tQ0\tZ#0\t1\n")
    with pytest.raises(ValueError, match="qrels: passage 'Z#0' of sw is not in its corpus"):
        load_miracl_pairs(str(miracl), languages=["sw"])


def test_sources_are_folders_or_hub_ids(tmp_path: Path) -> None:
    assert is_local(locate(str(tmp_path)))
    assert locate("owner/name") == "hf://datasets/owner/name"
    assert not is_local(locate("owner/name"))
    for bad in ("nothing", "./owner/name", "a/b/c", "../name"):
        with pytest.raises(FileNotFoundError, match="is neither a folder nor a hub id"):
            locate(bad)


def test_a_stream_may_be_left_early_and_skips_blank_lines(tmp_path: Path) -> None:
    _write(tmp_path / "a.txt", "\ufeffone\n\n two\u2028still two\nthree\n")
    lines = stream_lines([str(tmp_path / "a.txt")])
    assert [next(lines), next(lines)] == [
        (f"{tmp_path}/a.txt:1: ", "one"),
        (f"{tmp_path}/a.txt:3: ", " two\u2028still two"),
    ]
