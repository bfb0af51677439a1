"""Retrieval sets in the BEIR layout: what is kept of a split, and malformed files by file, line and field."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pyhbt.data.beir import load_beir
from tests.data.written import write, write_beir, write_jsonl


def test_a_beir_folder_gives_the_judged_queries_of_the_split(tmp_path: Path) -> None:
    one = load_beir(write_beir(tmp_path, "test"))
    assert one.query_ids == ("q1", "q2", "q4")
    assert one.questions == ("g", "g", "q4")
    assert one.passage_texts == ("Title text", "texte")
    assert one.qrels == {"q1": {"p1": 1, "p2": 2}, "q2": {"p2": 1}, "q4": {"p1": 0}}
    assert one.tiers == {"en": "seen", "fr": "seen"}
    french = load_beir(tmp_path, languages=["fr"])
    assert french.qrels == {"q2": {"p2": 1}}
    assert french.passage_ids == ("p2",)
    with pytest.raises(ValueError, match="found 'de', expected languages of"):
        load_beir(tmp_path, languages=["de"])


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("corpus.jsonl", '{"_id": "p", "text": "t"}', r"corpus\.jsonl:1: lang: missing"),
        ("corpus.jsonl", '{"_id": 1.5, "text": "t", "lang": "en"}', r"corpus\.jsonl:1: _id: found float"),
        (
            "queries.jsonl",
            '{"_id": "q", "text": "", "lang": "en"}',
            r"queries\.jsonl:1: text: found an empty",
        ),
        (
            "queries.jsonl",
            '{"_id": "q", "text": "t", "lang": "en"}\n' * 2,
            r"queries\.jsonl:2: _id: 'q' a second",
        ),
        ("qrels/test.tsv", "q1\tp1\thigh", r"test\.tsv:1: score: found 'high'"),
        ("qrels/test.tsv", "q1 p1 1", r"test\.tsv:1: found 1 columns"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq9\tp1\t1", r"test\.tsv:2: query-id: 'q9' is not in"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq1\tp9\t1",
            r"test\.tsv:2: corpus-id: 'p9' is not in",
        ),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\tp1\thigh", r"test\.tsv:2: score: found 'high'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 p1 1", r"test\.tsv:2: found 1 columns"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq1\tp1\t1\nq1\tp1\t1",
            r"test\.tsv:3: corpus-id: 'p1' a",
        ),
    ],
)
def test_malformed_beir_files_are_named(tmp_path: Path, name: str, line: str, message: str) -> None:
    write_beir(tmp_path, "test")
    (tmp_path / name).write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_beir(tmp_path)


def test_missing_beir_files_raise(tmp_path: Path) -> None:
    write_beir(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match=r"dev\.tsv: no such file"):
        load_beir(tmp_path, "dev")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load_beir(tmp_path / "missing")


def test_optional_fields_may_be_null_or_have_their_former_name(tmp_path: Path) -> None:
    write_beir(tmp_path, "test")
    queries = [
        {"_id": "q1", "text": "a", "lang": "en", "question": "new", "group": "old"},
        {"_id": "q2", "text": "b", "lang": "en", "question": None, "group": "old"},
        {"_id": "q4", "text": "c", "lang": "en", "question": None, "group": None},
    ]
    write_jsonl(tmp_path / "queries.jsonl", queries)
    corpus = [
        {"_id": "p1", "text": "text", "title": None, "lang": "en"},
        {"_id": "p2", "text": "texte", "title": " T ", "lang": "fr"},
    ]
    write_jsonl(tmp_path / "corpus.jsonl", corpus)
    one = load_beir(tmp_path)
    assert one.questions == ("new", "old", "q4")
    assert one.passage_texts == ("text", "T texte")
    write_jsonl(tmp_path / "queries.jsonl", [{**queries[0], "question": 5}, *queries[1:]])
    with pytest.raises(ValueError, match=r"queries\.jsonl:1: question: found int, expected str"):
        load_beir(tmp_path)
    write_jsonl(tmp_path / "corpus.jsonl", [{**corpus[0], "title": ["T"]}])
    with pytest.raises(ValueError, match=r"corpus\.jsonl:1: title: found list, expected str"):
        load_beir(tmp_path)


def test_clusters_of_questions(tmp_path: Path) -> None:
    """One name serves all translations; a question without one is its own."""
    write_beir(tmp_path, "test")
    assert load_beir(tmp_path).clusters == ()
    queries = [
        {"_id": "q1", "text": "a", "lang": "en", "question": "g"},
        {"_id": "q2", "text": "b", "lang": "fr", "question": "g", "cluster": "Kenya"},
        {"_id": "q4", "text": "c", "lang": "en", "cluster": None},
    ]
    write_jsonl(tmp_path / "queries.jsonl", queries)
    assert load_beir(tmp_path).clusters == ("Kenya", "Kenya", "q4")
    write_jsonl(tmp_path / "queries.jsonl", [{**queries[0], "cluster": "Mali"}, *queries[1:]])
    with pytest.raises(
        ValueError, match=r"queries\.jsonl:2: cluster: found 'Kenya', expected 'Mali' as before for 'g'"
    ):
        load_beir(tmp_path)


def test_splits_and_tiers_are_those_asked_for(tmp_path: Path) -> None:
    write_beir(tmp_path, "test")
    write_beir(tmp_path, "dev", "q3\tp1\t1\n")
    dev = load_beir(tmp_path, "dev", tiers={"en": "seen", "fr": "zero-shot", "de": "low-resource"})
    assert (dev.name, dev.query_ids, dev.query_langs) == (f"{tmp_path.name} dev", ("q3",), ("de",))
    assert dev.tiers["fr"] == "zero-shot"
    assert dev.passage_ids == ("p1", "p2")
    with pytest.raises(ValueError, match="tiers: no tier for language 'de'"):
        load_beir(tmp_path, "dev", tiers={"en": "seen", "fr": "seen"})


def test_a_split_without_judgements_has_no_queries(tmp_path: Path) -> None:
    one = load_beir(write_beir(tmp_path, "test", "\n"))
    assert (one.query_ids, one.qrels, len(one.passage_ids)) == ((), {}, 2)
    write(tmp_path / "qrels/test.tsv", "")
    with pytest.raises(
        ValueError, match=r"test\.tsv: found no lines, expected the header query-id corpus-id"
    ):
        load_beir(tmp_path)


def _published(folder: Path) -> Path:
    """A set with everything that published ones have been seen with."""
    corpus = [
        {"_id": 1, "text": "", "title": "Title alone", "metadata": {"url": "u"}},
        {"_id": "p2", "text": None, "title": None},
        {"_id": "p3", "text": "three", "lang": "fr"},
        {"_id": "p3", "text": "another"},
    ]
    queries = [
        {"_id": 7, "text": "what", "metadata": {}},
        {"_id": "q2", "text": " "},
        {"_id": "q3", "text": "x"},
    ]
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "queries.jsonl", queries)
    rows = "7\t1\t1\n7\tp2\t1\nq9\tp3\t1\nq3\tp3\t0.5\n7\tp3\t-1\n7\tp3\t0\n7\tp9\t1\n"
    write(folder / "qrels/test.tsv", rows)
    return folder


def test_published_sets_are_read_without_what_cannot_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = load_beir(_published(tmp_path), query_lang="de", passage_lang="en", skip_unusable=True)
    assert (one.query_ids, one.query_langs) == (("7",), ("de",))
    assert (one.passage_ids, one.passage_langs) == (("1", "p3"), ("en", "fr"))
    assert one.passage_texts == ("Title alone", "three")
    assert one.qrels == {"7": {"1": 1, "p3": -1}}
    [record] = caplog.records
    for part in (
        "1 documents without text (p2)",
        "1 documents with an id given before (p3)",
        "1 queries without text (q2)",
        "1 judgements of queries that are not there (q9 p3)",
        "2 judgements of documents that are not there (7 p2, 7 p9)",
        "1 judgements that are no whole number (q3 p3 0.5)",
        "1 judgements given before (7 p3)",
    ):
        assert part in record.getMessage()
    with pytest.raises(ValueError, match="nothing that can be used, left out .* 2 queries without language"):
        load_beir(tmp_path, passage_lang="en", skip_unusable=True)


def test_what_cannot_be_used_is_refused_by_default(tmp_path: Path) -> None:
    _published(tmp_path)
    with pytest.raises(ValueError, match=r"corpus\.jsonl:1: lang: missing, expected str, or passage_lang"):
        load_beir(tmp_path, query_lang="de")
    with pytest.raises(
        ValueError, match=r"corpus\.jsonl:2: text: found an empty text, expected a text or a title"
    ):
        load_beir(tmp_path, query_lang="de", passage_lang="en")
    with pytest.raises(TypeError, match="query_lang: found 5"):
        load_beir(tmp_path, query_lang=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="passage_lang: found ''"):
        load_beir(tmp_path, passage_lang="")
    with pytest.raises(TypeError, match="skip_unusable: found 'yes'"):
        load_beir(tmp_path, skip_unusable="yes")  # type: ignore[arg-type]


def test_packed_files_and_qrels_without_header(tmp_path: Path) -> None:
    plain = load_beir(write_beir(tmp_path, "test"))
    rows = (tmp_path / "qrels/test.tsv").read_text().split("\n", 1)[1]
    write(tmp_path / "qrels/test.tsv", rows)
    assert load_beir(tmp_path) == plain
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    assert load_beir(tmp_path) == plain
