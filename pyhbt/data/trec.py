"""TREC files: runs (``qid Q0 docid rank score tag``) and qrels (``qid 0 docid relevance``).

A run maps query id -> passage id -> score; qrels map query id -> passage id -> relevance. Both are the nested
dictionaries that pytrec_eval, ranx and ir_measures take. Files are written whole
or not at all. O(n log n) in the entries of a query.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat, TypeAlias

import numpy as np

from pyhbt.data.records import columns, read_lines
from pyhbt.files import write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

Run: TypeAlias = dict[str, dict[str, float]]
Qrels: TypeAlias = dict[str, dict[str, int]]

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def write_run(
    path: str | os.PathLike[str], run: Mapping[str, Mapping[str, float]], tag: str = "pyhbt"
) -> None:
    """Writes a run; passages go by falling score, those of equal score in the order in which ``run`` holds them.

    A score reads back as the same float64. Only ties are touched: evaluators would order them by passage id, so a
    passage that does not score below its predecessor's written score is written one float32 step below it, which keeps
    the ranking strict even for evaluators that hold scores in float32.

    Raises:
        ValueError: a score that is not finite; an id or tag that is empty or holds white space.
    """
    _token("tag", tag)
    _write(path, _run_lines(run, tag))


def read_run(path: str | os.PathLike[str]) -> Run:
    """Reads a run, less comments (lines that begin with ``#``).

    A query's passages are ordered by falling score, ties by the file's rank.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a malformed line or a repeated passage; names file, line and field.
    """
    ranked: dict[str, dict[str, tuple[float, int]]] = {}
    names = ("qid", "Q0", "docid", "rank", "score", "tag")
    for where, line in _entries(path):
        query, _, passage, rank_text, score_text, _ = columns(where, line, names, separator=None)
        entries = ranked.setdefault(query, {})
        if passage in entries:
            raise ValueError(f"{where}docid: {passage!r} a second time for query {query!r}")
        entries[passage] = (_number(where, "score", score_text), _integer(where, "rank", rank_text))
    return {
        query: {
            passage: score
            for passage, (score, _) in sorted(entries.items(), key=lambda entry: (-entry[1][0], entry[1][1]))
        }
        for query, entries in ranked.items()
    }


def write_qrels(path: str | os.PathLike[str], qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Writes qrels in the order given.

    Raises:
        TypeError: a relevance that is no number.
        ValueError: an id that is empty, holds white space, or begins a line with ``#``; a relevance that is not whole.
    """
    _write(
        path,
        (
            f"{_query_token(query)} 0 {_token('passage id', passage)} {_whole(relevance, query, passage)}"
            for query, judged in qrels.items()
            for passage, relevance in judged.items()
        ),
    )


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Reads qrels, less comments (lines that begin with ``#``); ``1.0`` is read as 1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a malformed line, a relevance that is not whole, or a repeated passage; names file, line and field.
    """
    qrels: Qrels = {}
    for where, line in _entries(path):
        query, _, passage, relevance = columns(
            where, line, ("qid", "0", "docid", "relevance"), separator=None
        )
        judged = qrels.setdefault(query, {})
        if passage in judged:
            raise ValueError(f"{where}docid: {passage!r} a second time for query {query!r}")
        judged[passage] = grade(where, "relevance", relevance)
    return qrels


def grade(where: str, name: str, text: str) -> int:
    """A grade of relevance of a file, also where it is written ``1.0``; never rounded.

    Raises:
        ValueError: it is no whole number.
    """
    if "_" in text:  # which Python reads in numbers
        raise ValueError(f"{where}{name}: found {text!r}, expected a whole number")
    try:
        return int(text)
    except ValueError:
        value = _number(where, name, text, "a whole number")
    if value != int(value):
        raise ValueError(f"{where}{name}: found {text!r}, expected a whole number")
    return int(value)


def _entries(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    return ((where, line) for where, line in read_lines(path) if not line.startswith("#"))


def _query_token(query: str) -> str:
    if _token("query id", query).startswith("#"):
        raise ValueError(
            f"query id: found {query!r}, expected one that does not begin with '#', as comments do"
        )
    return query


def _whole(relevance: object, query: str, passage: str) -> int:
    where = f"relevance: found {relevance!r} for {query!r} and {passage!r}, expected a whole number"
    if isinstance(relevance, str) or not isinstance(relevance, SupportsFloat):
        raise TypeError(where)
    if not float(relevance).is_integer():
        raise ValueError(where)
    return int(relevance)  # type: ignore[call-overload,no-any-return]


def _run_lines(run: Mapping[str, Mapping[str, float]], tag: str) -> Iterator[str]:
    for query, scores in run.items():
        _query_token(query)
        for passage, score in scores.items():
            _token("passage id", passage)
            if not math.isfinite(score):
                raise ValueError(
                    f"score: found {score} for {query!r} and {passage!r}, expected a finite number"
                )
        written = math.inf
        # Sorting is stable in reverse too: ties keep their order.
        ranking = sorted(scores.items(), key=lambda entry: entry[1], reverse=True)
        for rank, (passage, score) in enumerate(ranking, start=1):
            written = float(score) if score < written else _just_below(written)
            yield f"{query} Q0 {passage} {rank} {written!r} {tag}"


def _just_below(score: float) -> float:
    """The largest float32 below ``score``, or the largest float64 where float32 ends."""
    if abs(score) >= _FLOAT32_MAX:
        return math.nextafter(score, -math.inf)
    rounded = np.float32(score)
    if float(rounded) >= score:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return float(rounded)


def _token(name: str, text: str) -> str:
    if not text or len(text.split()) != 1 or text.split()[0] != text:
        raise ValueError(f"{name}: found {text!r}, expected a string without white space")
    return text


def _number(where: str, name: str, text: str, expected: str = "a finite number") -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}{name}: found {text!r}, expected {expected}")
    return value


def _integer(where: str, name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where}{name}: found {text!r}, expected an integer") from None


def _write(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    with (
        write_atomically(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as stream,
    ):
        stream.writelines(f"{line}\n" for line in lines)
