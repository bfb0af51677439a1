"""The job of ``pyhbt search``: what it reads, what it writes, and how it goes on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval

from pyhbt import ExactIndex, NgramEncoder, search
from pyhbt.data.trec import read_run
from pyhbt.encoders import Encoder
from pyhbt.retrieval.run import SearchJob, search_to_run
from tests.retrieval.index.test_exact import CORPUS, QUERIES

NAMES = [f"p{row}" for row in range(len(CORPUS))]
TEXTS = [f"text {number} of {number * number % 97} words\u2028\x85 or so" for number in range(40)]


def encoder() -> Encoder:
    return NgramEncoder(dim=16, num_buckets=512)


def save(path: Path, matrix: Any) -> Path:
    np.save(path, matrix)
    return path


def lines(path: Path, texts: Any) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def records(path: Path, **fields: list[Any]) -> Path:
    rows = (dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True))
    return lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))


def search_job(folder: Path) -> SearchJob:
    return SearchJob(save(folder / "q.npy", QUERIES), save(folder / "c.npy", CORPUS), k=10, block=16)


@pytest.fixture
def job(tmp_path: Path) -> SearchJob:
    return search_job(tmp_path)


def ranked(out: Path) -> dict[str, list[str]]:
    return {query: list(found) for query, found in read_run(out).items()}


def expected(queries: Any, corpus: Any, k: int, names: list[str] = NAMES, **options: Any) -> list[list[str]]:
    return [[names[place] for place in row] for row in search(queries, corpus, k, **options)[1]]


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_vectors(job: SearchJob, similarity: Any, tmp_path: Path) -> None:
    out = tmp_path / "folders/run.trec"
    job = replace(
        job, similarity=similarity, tag="mine", query_ids=lines(tmp_path / "q.txt", range(100, 170))
    )
    job = replace(job, corpus_ids=lines(tmp_path / "c.txt", NAMES))
    done = search_to_run(job, out)
    assert (done.queries, done.passages, done.resumed) == (70, 1300, 0)
    found = ranked(out)
    assert list(found) == [str(name) for name in range(100, 170)]
    assert list(found.values()) == expected(QUERIES, CORPUS, 10, similarity=similarity)
    assert {line.split()[5] for line in out.read_text().splitlines()} == {"mine"}
    assert list(out.parent.iterdir()) == [out]  # nothing of the work is left
    run = read_run(out)
    qrels = {query: {hits[0]: 1} for query, hits in found.items()}
    scores = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)
    assert all(score["recip_rank"] == 1 for score in scores.values())  # ties do not change places


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_precision_and_a_corpus_smaller_than_k(dtype: Any, job: SearchJob, tmp_path: Path) -> None:
    save(job.queries, QUERIES.astype(np.float16))
    save(job.corpus, CORPUS[:6].astype(dtype))
    search_to_run(job, tmp_path / "run")
    names = [str(row) for row in range(6)]
    found = expected(QUERIES.astype(np.float16), CORPUS[:6].astype(dtype), 6, names)
    assert list(ranked(tmp_path / "run").values()) == found


def test_no_queries(job: SearchJob, tmp_path: Path) -> None:
    save(job.queries, QUERIES[:0])
    assert search_to_run(job, tmp_path / "run").queries == 0
    assert (tmp_path / "run").read_text() == ""


@pytest.mark.parametrize("ids", [NAMES, list(range(5, 1305)), None])
def test_a_saved_index(ids: Any, job: SearchJob, tmp_path: Path) -> None:
    ExactIndex(CORPUS, ids=ids, similarity="cosine").save(tmp_path / "index")
    job = replace(job, corpus=tmp_path / "index", similarity="cosine", exclude_self=True)
    search_to_run(job, tmp_path / "run")
    names = [str(name) for name in ids or range(1300)]
    found = expected(QUERIES, CORPUS, 1300, names, similarity="cosine")
    own = [[name for name in row if name != str(query)][:10] for query, row in enumerate(found)]
    assert list(ranked(tmp_path / "run").values()) == own


def test_texts(tmp_path: Path) -> None:
    vectors = encoder().encode(TEXTS).numpy()
    ids = [f"d{number}" for number in range(40)]
    corpora = {
        "plain.txt": (lines(tmp_path / "plain.txt", TEXTS), [str(row) for row in range(40)]),
        "_id": (records(tmp_path / "1.jsonl", _id=ids, id=TEXTS, body=TEXTS), ids),
        "id": (records(tmp_path / "2.jsonl", body=TEXTS, id=list(range(7, 47))), [*map(str, range(7, 47))]),
        "rows": (records(tmp_path / "3.jsonl", body=TEXTS), [str(row) for row in range(40)]),
    }
    for name, (corpus, names) in corpora.items():
        job = SearchJob(corpus, corpus, k=3, exclude_self=True, encoder="ngram", field="body")
        search_to_run(job, tmp_path / "run", load_encoder=encoder)
        found = expected(vectors, vectors, 40, names)
        own = [[hit for hit in row if hit != query][:3] for query, row in zip(names, found, strict=True)]
        assert ranked(tmp_path / "run") == dict(zip(names, own, strict=True)), name


def indexed(job: SearchJob, folder: Path, ids: Any = None) -> SearchJob:
    ExactIndex(CORPUS, ids=ids).save(folder / "index")
    return replace(job, corpus=folder / "index")


def pickled(path: Path) -> None:
    np.save(path, np.array([1, "a", None], dtype=object))


def zipped(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=CORPUS)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def broken(path: Path) -> None:
    matrix = np.load(path)
    matrix[45, 3] = np.nan
    np.save(path, matrix)


MISTAKES: dict[str, tuple[type[Exception], str, Callable[[SearchJob, Path], SearchJob | None]]] = {
    "repeated id": (
        ValueError,
        "corpus_ids: .*ids: found 'p3' twice, expected different ones",
        lambda job, folder: replace(job, corpus_ids=lines(folder / "ids", ["p3", *NAMES[1:]])),
    ),
    "too few ids": (
        ValueError,
        r"query_ids: .*ids: found 69, expected 70 \(one for each row\)",
        lambda job, folder: replace(job, query_ids=lines(folder / "ids", NAMES[:69])),
    ),
    "white space in an id": (
        ValueError,
        "corpus_ids: .*ids: found 'p 0', expected an id without white space",
        lambda job, folder: replace(job, corpus_ids=lines(folder / "ids", ["p 0", *NAMES[1:]])),
    ),
    "an empty id": (
        ValueError,
        "query_ids: .*ids: found '', expected an id without white space",
        lambda job, folder: replace(job, query_ids=lines(folder / "ids", [*NAMES[:69], ""])),
    ),
    "white space in a name of the index": (
        ValueError,
        "index: ids: found 'a b', expected an id without white space",
        lambda job, folder: indexed(job, folder, ["a b", *NAMES[1:]]),
    ),
    "ids beside an index": (
        ValueError,
        "corpus_ids: found a file, but a saved index has the ids it was built with",
        lambda job, folder: replace(indexed(job, folder), corpus_ids=lines(folder / "ids", NAMES)),
    ),
    "another similarity": (
        ValueError,
        "similarity: found 'cosine', but the index has 'dot'",
        lambda job, folder: replace(indexed(job, folder), similarity="cosine"),
    ),
    "no index": (ValueError, "is no index of PyHBT", lambda job, folder: replace(job, corpus=folder)),
    "texts without an encoder": (
        ValueError,
        "encoder: found none, expected one for the texts of .*texts.txt",
        lambda job, folder: replace(job, queries=lines(folder / "texts.txt", "ab")),
    ),
    "objects": (ValueError, r"c.npy: damaged, expected an array", lambda job, _: pickled(job.corpus)),
    "zip": (ValueError, r"c.npy: damaged, expected an array", lambda job, _: zipped(job.corpus)),
    "empty": (ValueError, r"q.npy: damaged", lambda job, _: cut(job.queries, 0)),
    "truncated": (
        ValueError,
        "q.npy: damaged, expected .*mmap length is greater than file size",
        lambda job, _: cut(job.queries, -1),
    ),
    "float64": (
        ValueError,
        r"c.npy: found float64 of shape \(1300, 20\), expected float32, float16 or int8 \(rows, dim\)",
        lambda job, _: np.save(job.corpus, CORPUS.astype(np.float64)),
    ),
    "byte order": (
        ValueError,
        "c.npy: found >f4 of shape",
        lambda job, _: np.save(job.corpus, CORPUS.astype(">f4")),
    ),
    "one dimension": (
        ValueError,
        r"q.npy: found float32 of shape \(20,\)",
        lambda job, _: np.save(job.queries, QUERIES[0]),
    ),
    "NaN in queries": (
        ValueError,
        "q.npy: row 45 holds a NaN or an infinity, expected finite numbers",
        lambda job, _: broken(job.queries),
    ),
    "NaN in the corpus": (ValueError, "corpus: row 45 holds a NaN", lambda job, _: broken(job.corpus)),
    "dims": (
        ValueError,
        r"c\.npy: found dim 20, expected 19, that of .*q\.npy",
        lambda job, _: np.save(job.queries, QUERIES[:, 1:]),
    ),
    "missing": (FileNotFoundError, "q.npy", lambda job, _: job.queries.unlink()),
    "missing ids": (
        FileNotFoundError,
        "nowhere",
        lambda job, folder: replace(job, query_ids=folder / "nowhere"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_leave_nothing(mistake: str, job: SearchJob, tmp_path: Path) -> None:
    error, match, make = MISTAKES[mistake]
    (tmp_path / "other").mkdir()
    job = make(job, tmp_path / "other") or job
    with pytest.raises(error, match=match):
        search_to_run(job, tmp_path / "run")
    assert {path.name for path in tmp_path.iterdir()} <= {"q.npy", "c.npy", "other"}


@pytest.mark.parametrize("name", ["k", "block"])
def test_numbers_below_one_are_refused_at_once(name: str, job: SearchJob) -> None:
    with pytest.raises(ValueError, match=f"{name}: found 0, expected at least 1"):
        replace(job, **{name: 0})  # type: ignore[arg-type]


def test_a_folder_is_not_overwritten(job: SearchJob, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(IsADirectoryError, match="out: .*run is a folder, expected a file"):
        search_to_run(job, tmp_path / "run")
