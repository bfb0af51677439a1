"""The job of ``pyhbt search``: vectors or texts in, a TREC run out, block of queries by block.

Finished blocks lie beside the run in ``.NAME.partial`` until all are there, so an interrupted search goes on where it
stopped, if its files and options are the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from pyhbt.arguments import check_at_least
from pyhbt.data.texts import check_ids, read_ids
from pyhbt.data.trec import write_run
from pyhbt.encoders.options import (
    encoder_option,
    max_length_option,
    named_encoder,
    passage_prefix_option,
    query_prefix_option,
)
from pyhbt.files import (
    LOCK,
    check_apart,
    check_file_target,
    only_writer,
    remove_empty,
    write_atomically,
)
from pyhbt.ops import checks
from pyhbt.ops.filters import SearchFilter
from pyhbt.ops.search_checks import Similarity
from pyhbt.options import documented, option
from pyhbt.retrieval.index import ExactIndex
from pyhbt.retrieval.vectors import encode_file, map_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyhbt.encoders import Encoder, TextKind


@documented
@dataclass(frozen=True)
class SearchJob:
    """What is searched and how; a resumed search must be equal in all of it.

    Raises:
        ValueError: a number below 1.
    """

    queries: Path = option(".npy vectors (memory-mapped), or texts with an encoder.", positional=True)
    corpus: Path = option("The same, or the folder of a saved ExactIndex.", positional=True)
    k: int = option("Passages a query.", 100)
    similarity: Similarity = option("Of vectors.", "dot")
    encoder: str | None = encoder_option(None)
    query_ids: Path | None = option("One id a line.", None, unset="_id, id or row")
    corpus_ids: Path | None = option("The same for passages.", None, unset="_id, id or row")
    exclude_self: bool = option("A query does not find the passage of its own id.", False)
    field: str = option("Field of a .jsonl line that holds the text.", "text")
    block: int = option("Queries between two savings.", 1024)
    tag: str = option("Last column of the run.", "pyhbt")
    max_length: int | None = max_length_option()
    query_prefix: str | None = query_prefix_option()
    passage_prefix: str | None = passage_prefix_option()

    def __post_init__(self) -> None:
        for name in ("k", "block"):
            check_at_least(name, getattr(self, name), 1)

    def load_encoder(self) -> Encoder:
        """The encoder of its texts."""
        return named_encoder(self)


@dataclass(frozen=True)
class SearchSummary:
    """What was done."""

    queries: int
    passages: int
    resumed: int
    """Blocks that an earlier run had finished."""


def search_to_run(
    job: SearchJob, out: Path, *, load_encoder: Callable[[], Encoder] | None = None, progress: bool = False
) -> SearchSummary:
    """Searches and writes ``out``, whole or not at all.

    Queries and corpus are .npy files (memory-mapped), text files (one text a line, or .jsonl) that the encoder turns
    into vectors, or, for the corpus, the folder of a saved index. Ids are lines of a text file, by default those of a
    .jsonl file's ``_id`` or ``id`` field, those of the index, or row numbers.

    Raises:
        ValueError: ids that do not fit or repeat, texts without an encoder, and what search refuses.
        OSError: a file that cannot be read or written.
        FolderInUseError: another process searches to the same file.
    """
    check_file_target("out", out)
    for name in ("queries", "corpus", "query_ids", "corpus_ids"):
        check_apart(**{name: getattr(job, name)}, out=out)
    partial = out.with_name(f".{out.name}.partial")
    try:
        with only_writer(partial):
            _claim(partial, job)
            try:
                return _search(job, out, partial, load_encoder and cache(load_encoder), progress)
            except BaseException:
                if not any(file.suffix in (".npy", ".trec") for file in partial.iterdir()):
                    _empty(partial)  # there is nothing to go on with
                raise
    finally:
        remove_empty(partial)


def _search(
    job: SearchJob, out: Path, partial: Path, load_encoder: Callable[[], Encoder] | None, progress: bool
) -> SearchSummary:
    queries = _vectors(job, job.queries, "query", partial, load_encoder)
    checks.check_finite(checks.as_tensor(queries, "queries"), str(job.queries))
    query_ids = read_ids(job.query_ids, job.queries, len(queries), "query_ids")
    index = _index(job, queries.shape[1], partial, load_encoder, progress)
    passage_ids = [str(name) for name in index.ids or range(len(index))]
    own = _own_passages(query_ids, passage_ids) if job.exclude_self else None
    files = [
        partial / f"block-{number:06d}.trec" for number in range((len(queries) + job.block - 1) // job.block)
    ]
    resumed = sum(file.is_file() for file in files)
    for number, file in enumerate(tqdm(files, desc="searching", unit="block", disable=not progress)):
        rows = slice(number * job.block, (number + 1) * job.block)
        if not file.is_file():
            filter = None if own is None else SearchFilter(exclude=own[rows])
            scores, indices = index.search(np.ascontiguousarray(queries[rows]), job.k, filter=filter)
            write_run(file, _ranking(query_ids[rows], passage_ids, scores, indices), tag=job.tag)
    with write_atomically(out) as temporary, temporary.open("wb") as run:
        for file in files:
            with file.open("rb") as block:
                shutil.copyfileobj(block, run)
    _empty(partial)
    return SearchSummary(len(queries), len(index), resumed)


def _claim(partial: Path, job: SearchJob) -> None:
    """Makes the folder of unfinished work; one that belongs to another job, or to files since changed, is emptied."""
    sources = [path for path in (job.queries, job.corpus, job.query_ids, job.corpus_ids) if path is not None]
    if job.encoder is not None and Path(job.encoder).is_dir():
        sources.append(Path(job.encoder))
    seen = {str(path): _stamp(path) for path in sources}
    state = json.dumps({"job": asdict(job), "files": seen}, default=str, sort_keys=True)
    file = partial / "job.json"
    if file.is_file() and file.read_text(encoding="utf-8") == state:
        return
    _empty(partial)
    with write_atomically(file) as temporary:
        temporary.write_text(state, encoding="utf-8")


def _empty(partial: Path) -> None:
    """Remove all but the lock; the folder goes with that, when it is empty."""
    for file in partial.iterdir():
        if file.name != LOCK:
            file.unlink()


def _stamp(path: Path) -> list[tuple[str, int, int]]:
    """Size and time of a file, or of every file in a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _index(
    job: SearchJob, dim: int, partial: Path, load_encoder: Callable[[], Encoder] | None, progress: bool
) -> ExactIndex:
    if job.corpus.is_dir():
        index = ExactIndex.open(job.corpus)
        _check_dim(job, dim, index.dim)
        if index.similarity != job.similarity:
            raise ValueError(f"similarity: found {job.similarity!r}, but the index has {index.similarity!r}")
        if job.corpus_ids is not None:
            raise ValueError("corpus_ids: found a file, but a saved index has the ids it was built with")
        check_ids([str(name) for name in index.ids or ()], f"{job.corpus}: ids")
        return index
    vectors = _vectors(job, job.corpus, "passage", partial, load_encoder)
    _check_dim(job, dim, vectors.shape[1])
    ids = read_ids(job.corpus_ids, job.corpus, len(vectors), "corpus_ids")
    return ExactIndex(vectors, ids=ids, similarity=job.similarity, progress=progress)


def _check_dim(job: SearchJob, queries: int, corpus: int) -> None:
    if queries != corpus:
        raise ValueError(f"{job.corpus}: found dim {corpus}, expected {queries}, that of {job.queries}")


def _vectors(
    job: SearchJob, path: Path, kind: TextKind, partial: Path, load_encoder: Callable[[], Encoder] | None
) -> NDArray[Any]:
    if path.suffix != ".npy":
        if load_encoder is None:
            raise ValueError(f"encoder: found none, expected one for the texts of {path}")
        encoded = partial / f"{kind}.npy"
        if not encoded.is_file():
            encode_file(load_encoder(), path, encoded, kind=kind, field=job.field)
        path = encoded
    return map_vectors(path)


def _own_passages(query_ids: Sequence[str], passage_ids: Sequence[str]) -> NDArray[np.int64]:
    places = {name: place for place, name in enumerate(passage_ids)}
    return np.array([places.get(name, -1) for name in query_ids], dtype=np.int64)


def _ranking(
    query_ids: Sequence[str],
    passage_ids: Sequence[str],
    scores: NDArray[np.float32],
    indices: NDArray[np.int64],
) -> dict[str, dict[str, float]]:
    return {
        query: {
            passage_ids[place]: float(score) for place, score in zip(places, row, strict=True) if place >= 0
        }
        for query, places, row in zip(query_ids, indices, scores, strict=True)
    }
