"""How an interrupted ``pyhbt search`` goes on, and when it must not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyhbt import ExactIndex, NgramEncoder
from pyhbt.data.trec import write_run
from pyhbt.encoders import Encoder
from pyhbt.retrieval import run as searching
from pyhbt.retrieval.run import SearchJob, search_to_run
from tests.retrieval.index.test_exact import CORPUS, QUERIES
from tests.retrieval.test_run import expected, lines, ranked, save, search_job


@pytest.fixture
def job(tmp_path: Path) -> SearchJob:
    return search_job(tmp_path)


def interrupted(job: SearchJob, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Stops when the third block is to be written."""
    calls = iter(range(100))

    def failing(*arguments: Any, **named: Any) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        write_run(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(searching, "write_run", failing)
        with pytest.raises(KeyboardInterrupt):
            search_to_run(job, out, **options)
    assert not out.exists()


def test_an_interrupted_search_goes_on(
    job: SearchJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    search_to_run(job, whole)
    interrupted(job, out, monkeypatch)
    searched = []
    search_index = ExactIndex.search

    def counting(self: ExactIndex, queries: Any, *arguments: Any, **named: Any) -> Any:
        searched.append(len(queries))
        return search_index(self, queries, *arguments, **named)

    monkeypatch.setattr(ExactIndex, "search", counting)
    assert search_to_run(job, out).resumed == 2
    assert searched == [16, 16, 6]
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / ".run.partial").exists()
    assert search_to_run(job, out).resumed == 0
    interrupted(job, tmp_path / "other", monkeypatch)
    assert search_to_run(job, out).resumed == 0  # another run's blocks are its own


def later(path: Path) -> Path:
    """The same size at another time."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda job: replace(job, k=9),
        lambda job: replace(job, block=8),
        lambda job: replace(job, similarity="cosine"),
        lambda job: replace(job, tag="other"),
        lambda job: replace(job, query_prefix="prefix"),
        lambda job: (save(job.queries, QUERIES + 1), job)[1],
        lambda job: (save(job.corpus, CORPUS[:1000]), job)[1],
        lambda job: (later(job.corpus), job)[1],
        lambda job: (later(job.corpus_ids), job)[1],
        lambda job: (later(Path(job.encoder) / "weights"), job)[1],
    ],
)
def test_another_search_starts_anew(
    change: Callable[[SearchJob], SearchJob], job: SearchJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder/weights").write_text("1")
    names = lines(tmp_path / "names", range(1000, 2000))
    job = replace(job, encoder=str(tmp_path / "encoder"), corpus_ids=names)
    save(job.corpus, CORPUS[:1000])
    interrupted(job, tmp_path / "run", monkeypatch)
    job = change(job)
    assert search_to_run(job, tmp_path / "run").resumed == 0
    search_to_run(job, tmp_path / "whole")
    assert (tmp_path / "run").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_replaced_index_starts_anew(
    job: SearchJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, corpus=tmp_path / "index")
    ExactIndex(CORPUS).save(job.corpus)
    interrupted(job, tmp_path / "run", monkeypatch)
    ExactIndex(CORPUS[::-1]).save(job.corpus)
    assert search_to_run(job, tmp_path / "run").resumed == 0
    assert list(ranked(tmp_path / "run").values()) == expected(
        QUERIES, CORPUS[::-1], 10, [str(row) for row in range(1300)]
    )


def test_texts_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = lines(tmp_path / "texts.txt", range(50))
    job = SearchJob(texts, texts, k=2, block=10, encoder="ngram")
    loaded, encoded = [], []

    class Counting(NgramEncoder):
        def encode(self, texts: Any, *arguments: Any, **named: Any) -> Any:
            encoded.append(len(texts))
            return super().encode(texts, *arguments, **named)

    def load() -> Encoder:
        loaded.append(1)
        return Counting(dim=8, num_buckets=64)

    interrupted(job, tmp_path / "run", monkeypatch, load_encoder=load)
    interrupted(job, tmp_path / "run", monkeypatch, load_encoder=load)
    assert search_to_run(job, tmp_path / "run", load_encoder=load).resumed == 4
    assert (loaded, encoded) == ([1], [50, 50])
