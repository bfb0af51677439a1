"""Retrieval sets in the BEIR layout, with languages.

``corpus.jsonl``: ``_id``, ``text``, ``lang``, optional ``title`` (put before the text). ``queries.jsonl``: ``_id``,
``text``, ``lang``, optional ``question`` (translations of one query share it; default: the query is its own; read
under its former name ``group`` too) and ``cluster`` (what questions have in common that makes their scores depend on
each other, such as their article; default: the question is its own). ``qrels/SPLIT.tsv``: header ``query-id corpus-id
score``, then tab-separated rows. Queries without a row in the split's qrels are left out, as BEIR's queries file holds
all splits. Reading costs O(size of the files). Source: Thakur et al. 2021, BEIR (arXiv:2104.08663).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyhbt.data.records import columns, existing_folder, field, read_jsonl, read_lines, text_field
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import assign_tiers, known_languages

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
) -> RetrievalSet:
    """One split of a BEIR folder.

    Args:
        folder: with ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.
        split: name of the judgements.
        languages: of queries and corpus; default: all.
        tiers: default: every language is seen.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: a malformed line, an id given twice, or qrels that name an unknown query or passage; names file,
            line and field.
    """
    path = existing_folder(folder)
    corpus: dict[str, tuple[str, str]] = {}
    for where, record in read_jsonl(path / "corpus.jsonl"):
        title = field(record, "title", str, where).strip() if record.get("title") is not None else ""
        text = text_field(record, "text", where)
        _add(corpus, where, record, f"{title} {text}" if title else text)
    queries: dict[str, tuple[str, str]] = {}
    questions: dict[str, str] = {}
    clusters: dict[str, str] = {}  # of questions
    for where, record in read_jsonl(path / "queries.jsonl"):
        query = _add(queries, where, record, text_field(record, "text", where))
        column = "question" if record.get("question") is not None else "group"  # its name before
        questions[query] = query if record.get(column) is None else text_field(record, column, where)
        _join(clusters, where, questions[query], record)
    qrels = _read_qrels(path / "qrels" / f"{split}.tsv", queries, corpus)

    found = sorted({lang for _, lang in corpus.values()} | {queries[query][1] for query in qrels})
    chosen = set(known_languages("languages", languages, found, str(path)))
    query_ids = tuple(query for query in queries if query in qrels and queries[query][1] in chosen)
    passage_ids = tuple(passage for passage, (_, lang) in corpus.items() if lang in chosen)
    kept = set(passage_ids)
    return RetrievalSet(
        name=f"{path.name} {split}",
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


def _add(table: dict[str, tuple[str, str]], where: str, record: dict[str, object], text: str) -> str:
    identity = text_field(record, "_id", where)
    if identity in table:
        raise ValueError(f"{where}_id: {identity!r} a second time")
    table[identity] = (text, text_field(record, "lang", where))
    return identity


def _join(clusters: dict[str, str], where: str, question: str, record: dict[str, object]) -> None:
    """Note the cluster of a query's question where it is named; one name serves all of its translations."""
    if record.get("cluster") is not None:
        cluster = text_field(record, "cluster", where)
        known = clusters.setdefault(question, cluster)
        if known != cluster:
            raise ValueError(
                f"{where}cluster: found {cluster!r}, expected {known!r} as before for {question!r}"
            )


def _read_qrels(
    path: Path, queries: Mapping[str, object], corpus: Mapping[str, object]
) -> dict[str, dict[str, int]]:
    lines = read_lines(path)
    where, header = next(lines, (f"{path}: ", ""))
    if tuple(header.split("\t")) != _HEADER:
        raise ValueError(f"{where}found header {header!r}, expected {' '.join(_HEADER)}, tab-separated")
    qrels: dict[str, dict[str, int]] = {}
    for where, line in lines:
        query, passage, score = columns(where, line, _HEADER)
        if query not in queries:
            raise ValueError(f"{where}query-id: {query!r} is not in queries.jsonl")
        if passage not in corpus:
            raise ValueError(f"{where}corpus-id: {passage!r} is not in corpus.jsonl")
        judged = qrels.setdefault(query, {})
        if passage in judged:
            raise ValueError(f"{where}corpus-id: {passage!r} a second time for query {query!r}")
        try:
            judged[passage] = int(score)
        except ValueError:
            raise ValueError(f"{where}score: found {score!r}, expected an integer") from None
    return qrels
