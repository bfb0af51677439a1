"""The job of ``pyhbt bitext``: two files of sentences or vectors in, a file of sentence pairs out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pyhbt.arguments import check_at_least, check_choice
from pyhbt.data.bitext import check_bitext_target, write_bitext
from pyhbt.data.texts import read_texts
from pyhbt.encoders import TextKind
from pyhbt.encoders.options import (
    batch_size_option,
    encoder_option,
    max_length_option,
    named_encoder,
    passage_prefix_option,
    query_prefix_option,
)
from pyhbt.mining.bitext import Retrieval, mine_bitext
from pyhbt.mining.margins import Margin, Vectors
from pyhbt.ops import checks
from pyhbt.ops.search_checks import Similarity
from pyhbt.options import documented, option
from pyhbt.retrieval.index import ExactIndex
from pyhbt.retrieval.vectors import map_vectors

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from pyhbt.encoders import Encoder


@documented
@dataclass(frozen=True)
class BitextJob:
    """Which sentences are paired, and how.

    Raises:
        ValueError: a value out of range.
    """

    sources: Path = option("One sentence a line, or .jsonl; .npy vectors, or an ExactIndex.", positional=True)
    targets: Path = option("The same in the other language.", positional=True)
    encoder: str | None = encoder_option(None)
    k: int = option("Neighbours of a sentence that a margin looks at, and candidates.", 4)
    margin: Margin = option("Score over that of the neighbours, less it, or the score itself.", "ratio")
    retrieval: Retrieval = option(
        "Pairs that are the best of both sides, of the sources, of the targets, or of either, each sentence once.",
        "mutual",
    )
    threshold: float | None = option("Least margin of a pair.", None)
    unify: bool = option("Each text once; neighbours that are the same say nothing.", True)
    source_texts: Path | None = option("Texts of source vectors, one a line.", None, unset="ids or rows")
    target_texts: Path | None = option("Texts of target vectors, one a line.", None, unset="ids or rows")
    source_lang: str | None = option("Of the sources: the encoder's mean of it is subtracted.", None)
    target_lang: str | None = option("The same for the targets.", None)
    similarity: Similarity | None = option("Of vectors.", None, unset="cosine, or that of an index")
    kind: TextKind = option("Decides the prefix of both sides.", "query")
    field: str = option("Field of a .jsonl line that holds the text.", "text")
    max_length: int | None = max_length_option()
    query_prefix: str | None = query_prefix_option()
    passage_prefix: str | None = passage_prefix_option()
    batch_size: int | None = batch_size_option()

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        if self.batch_size is not None:
            check_at_least("batch_size", self.batch_size, 1)
        if self.threshold is not None and math.isnan(self.threshold):
            raise ValueError(f"threshold: found {self.threshold}, expected a number")
        check_choice("margin", self.margin, get_args(Margin))
        check_choice("retrieval", self.retrieval, get_args(Retrieval))

    def load_encoder(self) -> Encoder:
        """The encoder of its texts."""
        return named_encoder(self)


@dataclass(frozen=True)
class BitextSummary:
    """What was found, and what was left out before."""

    pairs: int
    sources: int
    """That were compared, and so for targets."""
    targets: int
    empty: int
    """Empty texts of both sides."""
    repeated: int
    """Texts of both sides that were there before."""

    def describe(self) -> str:
        """The counts in words, for people."""
        found = f"{self.pairs:,} pairs of {self.sources:,} sources and {self.targets:,} targets"
        return f"{found}; left out: {self.empty:,} empty, {self.repeated:,} repeated"


def mine_bitext_files(
    job: BitextJob,
    out: str | os.PathLike[str],
    *,
    load_encoder: Callable[[], Encoder] | None = None,
    progress: bool = False,
) -> BitextSummary:
    """:func:`pyhbt.mining.mine_bitext` of two files, and :func:`pyhbt.data.write_bitext` of the pairs to ``out``.

    Empty texts are left out, and with ``unify`` all that were there before, by every character, as LASER does; the
    first of a text stays. Vectors without texts are taken as they are, and named by the ids of their index or their
    rows from 0. Texts are all read before the encoder is loaded. Memory: texts and their vectors.

    Args:
        job: what is paired.
        out: a file named ``.tsv`` or ``.jsonl``, written whole or not at all.
        load_encoder: called once where a side is texts.
        progress: show bars.

    Raises:
        ValueError: texts without an encoder, as many texts as vectors not given, vectors that do not fit, another name
            of ``out``, and what :func:`pyhbt.mining.mine_bitext` refuses.
        OSError: a file that cannot be read or written.
    """
    check_bitext_target(out)
    sides = [
        _Side.read(job, name, path, texts, lang)
        for name, path, texts, lang in (
            ("source", job.sources, job.source_texts, job.source_lang),
            ("target", job.targets, job.target_texts, job.target_lang),
        )
    ]
    encoder = _encoder(job, sides, load_encoder)
    dims = [encoder.dim if side.vectors is None and encoder else _dim(side.vectors) for side in sides]
    if dims[0] != dims[1]:
        raise ValueError(f"{job.targets}: found dim {dims[1]}, expected {dims[0]}, that of {job.sources}")
    sources, targets = (side.embedded(job, encoder, progress) for side in sides)
    found = mine_bitext(
        sources,
        targets,
        k=job.k,
        margin=job.margin,
        retrieval=job.retrieval,
        threshold=job.threshold,
        similarity=job.similarity,
        progress=progress,
    )
    left, right = sides
    pairs = write_bitext(
        out, ((score, left.text(source), right.text(target)) for source, target, score in found)
    )
    return BitextSummary(
        pairs, len(left), len(right), left.empty + right.empty, left.repeated + right.repeated
    )


@dataclass(frozen=True)
class _Side:
    """One language: texts, vectors, or both, and the rows that are compared."""

    path: Path
    texts: list[str] | None
    vectors: NDArray[Any] | ExactIndex | None
    rows: Sequence[int]
    lang: str | None
    empty: int = 0
    repeated: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def read(cls, job: BitextJob, name: str, path: Path, text_file: Path | None, lang: str | None) -> _Side:
        vectors = _vectors(job, path)
        if vectors is None and text_file is not None:
            raise ValueError(f"{name}_texts: found {text_file}, expected none, for {path} holds texts itself")
        if vectors is not None and lang is not None:
            raise ValueError(f"{name}_lang: found {lang!r}, expected none, for {path} holds vectors")
        if vectors is not None and text_file is None:
            return cls(path, None, vectors, range(len(vectors)), lang)
        texts = read_texts(text_file or path, job.field)
        if vectors is not None and len(texts) != len(vectors):
            raise ValueError(
                f"{name}_texts: {text_file}: found {len(texts)}, expected {len(vectors)} (one for each vector)"
            )
        rows = written = [row for row, text in enumerate(texts) if text.strip()]
        if job.unify:
            first: dict[str, int] = {}
            for row in written:
                first.setdefault(texts[row], row)
            rows = list(first.values())
        return cls(path, texts, vectors, rows, lang, len(texts) - len(written), len(written) - len(rows))

    def embedded(self, job: BitextJob, encoder: Encoder | None, progress: bool) -> Vectors:
        """The vectors of the rows; an index or a memory map that is compared whole is not copied."""
        if self.vectors is None:
            assert self.texts is not None
            assert encoder is not None
            chosen = [self.texts[row] for row in self.rows]
            options: dict[str, Any] = {"language": self.lang, "batch_size": job.batch_size}
            return encoder.encode(chosen, job.kind, **options, progress=progress)
        if len(self.rows) == len(self.vectors):
            return self.vectors
        if isinstance(self.vectors, ExactIndex):
            kept = checks.as_tensor(self.vectors.vectors, str(self.path))[self.rows]
            return ExactIndex(kept, similarity="dot" if self.vectors.similarity == "dot" else "cosine")
        return self.vectors[self.rows]

    def text(self, place: int) -> str:
        """What is written of the sentence at ``place`` among the rows."""
        row = self.rows[place]
        if self.texts is not None:
            return self.texts[row]
        ids = self.vectors.ids if isinstance(self.vectors, ExactIndex) else None
        return str(row if ids is None else ids[row])


def _vectors(job: BitextJob, path: Path) -> NDArray[Any] | ExactIndex | None:
    """What a path holds; None: texts."""
    if path.is_dir():
        index = ExactIndex.open(path)
        if job.similarity not in (None, index.similarity):
            raise ValueError(
                f"similarity: found {job.similarity!r}, expected {index.similarity!r}, that of {path}"
            )
        return index
    if path.suffix != ".npy":
        return None
    vectors = map_vectors(path)
    checks.check_finite(checks.as_tensor(vectors, str(path)), str(path))
    return vectors


def _dim(vectors: NDArray[Any] | ExactIndex | None) -> int:
    assert vectors is not None
    return vectors.dim if isinstance(vectors, ExactIndex) else int(vectors.shape[1])


def _encoder(
    job: BitextJob, sides: Sequence[_Side], load_encoder: Callable[[], Encoder] | None
) -> Encoder | None:
    """The encoder where a side needs it, with a mean of every language that it is asked for."""
    texts = [side for side in sides if side.vectors is None]
    if not texts:
        return None
    if load_encoder is None:
        raise ValueError(f"encoder: found none, expected one for the texts of {texts[0].path}")
    encoder = load_encoder()
    for side in texts:
        if side.lang is not None:
            encoder.encode(["a"], job.kind, language=side.lang)  # refused here, not after hours
    return encoder
