"""Retrieval sets in the BEIR layout, with languages.

``corpus.jsonl``: ``_id`` (a string or a whole number), ``text``, ``lang``, optional ``title`` (put before the text; one
of the two may be empty). ``queries.jsonl``: ``_id``,
``text``, ``lang``, optional ``question`` (translations of one query share it; default: the query is its own; read
under its former name ``group`` too) and ``cluster`` (what questions have in common that makes their scores depend on
each other, such as their article; default: the question is its own). ``qrels/SPLIT.tsv``: tab-separated rows ``query-id
corpus-id score``, with that header or none. Each may be packed (``.gz``). Other fields are ignored. Queries without a
row in the split's qrels are left out, as BEIR's queries file holds all splits. Reading costs O(size of the files).
Source: Thakur et al. 2021, BEIR (arXiv:2104.08663).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyhbt.data.columns import check_language
from pyhbt.data.records import (
    columns,
    existing_file,
    existing_folder,
    field,
    read_jsonl,
    read_lines,
    text_field,
)
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import assign_tiers, known_languages
from pyhbt.data.trec import grade
from pyhbt.data.unusable import Unusable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pyhbt.data.tiers import Tier

_HEADER = ("query-id", "corpus-id", "score")


def load_beir(
    folder: str | os.PathLike[str],
    split: str = "test",
    *,
    languages: Iterable[str] | None = None,
    tiers: Mapping[str, Tier] | None = None,
    query_lang: str | None = None,
    passage_lang: str | None = None,
    skip_unusable: bool = False,
) -> RetrievalSet:
    """One split of a BEIR folder.

    Args:
        folder: with ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.
        split: name of the judgements.
        languages: of queries and corpus; default: all.
        tiers: default: every language is seen.
        query_lang: language of queries that have no ``lang``.
        passage_lang: language of passages that have no ``lang``.
        skip_unusable: leave out documents and queries without text or language, ids given a second time and judgements
            that name what is not there, are no whole number or come a second time; a warning counts and lists them.

    Raises:
        FileNotFoundError: a missing folder or file.
        TypeError: a language or ``skip_unusable`` of another type.
        ValueError: a malformed line or, unless it is skipped, what cannot be used; names file, line and field. Nothing
            is left.
    """
    for name, code in (("query_lang", query_lang), ("passage_lang", passage_lang)):
        check_language(name, code)
    path = existing_folder(folder)
    unusable = Unusable(skip_unusable)
    corpus: dict[str, tuple[str, str]] = {}
    for where, record in read_jsonl(_file(path, "corpus.jsonl")):
        text = " ".join(
            part for part in (_text(record, "title", where).strip(), _text(record, "text", where)) if part
        )
        _add(corpus, where, record, text, passage_lang, unusable, "documents")
    queries: dict[str, tuple[str, str]] = {}
    questions: dict[str, str] = {}
    clusters: dict[str, str] = {}  # of questions
    for where, record in read_jsonl(_file(path, "queries.jsonl")):
        query = _add(queries, where, record, _text(record, "text", where), query_lang, unusable, "queries")
        if query is None:
            continue
        column = "question" if record.get("question") not in (None, "") else "group"  # its name before
        questions[query] = query if record.get(column) in (None, "") else text_field(record, column, where)
        _join(clusters, where, questions[query], record)
    qrels = _read_qrels(_file(path / "qrels", f"{split}.tsv"), queries, corpus, unusable)
    if unusable.describe() and not (corpus and qrels):
        raise ValueError(
            f"{path}: found nothing that can be used, left out {unusable.describe()}; expected some"
        )
    unusable.report(str(path))

    found = sorted({lang for _, lang in corpus.values()} | {queries[query][1] for query in qrels})
    chosen = set(known_languages("languages", languages, found, str(path)))
    query_ids = tuple(query for query in queries if query in qrels and queries[query][1] in chosen)
    passage_ids = tuple(passage for passage, (_, lang) in corpus.items() if lang in chosen)
    kept = set(passage_ids)
    return RetrievalSet(
        name=f"{path.resolve().parent.name if path.name == split else path.name} {split}",
        query_ids=query_ids,
        query_texts=tuple(queries[query][0] for query in query_ids),
        query_langs=tuple(queries[query][1] for query in query_ids),
        questions=tuple(questions[query] for query in query_ids),
        passage_ids=passage_ids,
        passage_texts=tuple(corpus[passage][0] for passage in passage_ids),
        passage_langs=tuple(corpus[passage][1] for passage in passage_ids),
        qrels={
            query: {passage: score for passage, score in qrels[query].items() if passage in kept}
            for query in query_ids
        },
        tiers=dict(assign_tiers(sorted(chosen)) if tiers is None else tiers),
        clusters=tuple(clusters.get(questions[query], questions[query]) for query in query_ids)
        if clusters
        else (),
    )


def _file(folder: Path, name: str) -> Path:
    """The file, or the packed one where there is no other."""
    packed = folder / f"{name}.gz"
    return packed if packed.is_file() and not (folder / name).exists() else existing_file(folder / name)


def _text(record: dict[str, object], key: str, where: str) -> str:
    """A text that may be empty, null or missing."""
    return "" if record.get(key) is None else field(record, key, str, where)


def _add(
    table: dict[str, tuple[str, str]],
    where: str,
    record: dict[str, object],
    text: str,
    default_lang: str | None,
    unusable: Unusable,
    kind: str,
) -> str | None:
    """The id of what is added; None of what cannot be used."""
    number = record.get("_id")
    if isinstance(number, int) and not isinstance(number, bool):
        identity = str(number)
    else:
        identity = text_field(record, "_id", where)
    if identity in table:
        unusable.note(f"{kind} with an id given before", identity, f"{where}_id: {identity!r} a second time")
    elif not text.strip():
        expected = "a text or a title" if kind == "documents" else "some"
        message = f"{where}text: found an empty text, expected {expected}"
        unusable.note(f"{kind} without text", identity, message)
    elif record.get("lang") in (None, "") and default_lang is None:
        option = "passage_lang" if kind == "documents" else "query_lang"
        message = f"{where}lang: missing, expected str, or {option} for all that have none"
        unusable.note(f"{kind} without language", identity, message)
    else:
        given = record.get("lang") not in (None, "")
        table[identity] = (text, text_field(record, "lang", where) if given else str(default_lang))
        return identity
    return None


def _join(clusters: dict[str, str], where: str, question: str, record: dict[str, object]) -> None:
    """Note the cluster of a query's question where it is named; one name serves all of its translations."""
    if record.get("cluster") not in (None, ""):
        cluster = text_field(record, "cluster", where)
        known = clusters.setdefault(question, cluster)
        if known != cluster:
            raise ValueError(
                f"{where}cluster: found {cluster!r}, expected {known!r} as before for {question!r}"
            )


def _read_qrels(
    path: Path, queries: Mapping[str, object], corpus: Mapping[str, object], unusable: Unusable
) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    num_lines = 0
    for num_lines, (where, line) in enumerate(read_lines(path), start=1):
        query, passage, score = columns(where, line, _HEADER)
        if num_lines == 1 and _is_header((query, passage, score), queries):
            continue
        judgement = f"{query} {passage}"
        if query not in queries:
            message = f"{where}query-id: {query!r} is not in queries.jsonl"
            unusable.note("judgements of queries that are not there", judgement, message)
        elif passage not in corpus:
            message = f"{where}corpus-id: {passage!r} is not in corpus.jsonl"
            unusable.note("judgements of documents that are not there", judgement, message)
        elif passage in qrels.get(query, {}):
            message = f"{where}corpus-id: {passage!r} a second time for query {query!r}"
            unusable.note("judgements given before", judgement, message)
        else:
            try:
                relevance = grade(where, "score", score)
            except ValueError as error:
                unusable.note("judgements that are no whole number", f"{judgement} {score}", str(error))
            else:
                qrels.setdefault(query, {})[passage] = relevance
    if not num_lines:
        raise ValueError(f"{path}: found no lines, expected the header {' '.join(_HEADER)}, tab-separated")
    return qrels


def _is_header(cells: tuple[str, str, str], queries: Mapping[str, object]) -> bool:
    """Whether the first line names columns: its score is no number, and no query has its id."""
    try:
        float(cells[2])
    except ValueError:
        return cells[0] not in queries
    return False
