"""MIRACL: native questions in 18 languages, each judged against passages of its own Wikipedia (monolingual).

Files as published, below a folder or on the hub: ``miracl-v1.0-LANG/topics/topics.miracl-v1.0-LANG-SPLIT.tsv``
(query id, text), ``miracl-v1.0-LANG/qrels/qrels.miracl-v1.0-LANG-SPLIT.tsv`` (query id, Q0, docid, relevance) and
``miracl-corpus-v1.0-LANG/docs-*.jsonl.gz`` (``docid``, ``title``, ``text``). On the hub the corpus is a repository of
its own. For training, rows that hold their passages are read too: ``LANG/SPLIT*.parquet`` or ``.jsonl`` with
``query_id``, ``query``, ``positive_passages`` and ``negative_passages`` (lists of docid, title, text).
Source: Zhang et al. 2023, MIRACL (TACL, doi:10.1162/tacl_a_00595), https://huggingface.co/datasets/miracl/miracl.
"""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyhbt.data.disjoint import DisjointSets
from pyhbt.data.hub import is_local, locate, stream_lines, stream_rows
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.data.records import columns, field, parse_jsonl, text_field
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import assign_tiers, known_languages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HUB_ID, CORPUS_HUB_ID = "miracl/miracl", "miracl/miracl-corpus"
# German and Yoruba have a dev split, no training split.
TRAIN_LANGUAGES, DEV_LANGUAGES = (
    tuple(codes.split()) for codes in ("ar bn en es fa fi fr hi id ja ko ru sw te th zh", "de yo")
)
LANGUAGES = tuple(sorted(TRAIN_LANGUAGES + DEV_LANGUAGES))


class _Judged(NamedTuple):
    """A question with the ids, or later the texts, of its passages."""

    id: str
    text: str
    positives: Sequence[tuple[str, str]]  # (docid, title and text)
    negatives: Sequence[tuple[str, str]]


def load_miracl_pairs(
    source: str | None = None,
    *,
    languages: Iterable[str] | None = None,
    split: str = "train",
    limit: int | None = None,
    negatives: int = 0,
) -> PairSet:
    """Monolingual training pairs: a question with each of its relevant passages.

    A question's passages, and the passages of questions that share one, share a group. From the published files each
    language's corpus is streamed until all passages are found (131,924 in sw to 32.9 million in en): O(corpus) time,
    O(slice) memory.

    Args:
        source: a local folder or a hub id holding rows; default: the two published repositories.
        languages: default: all.
        split: of the questions.
        limit: the first questions of each language; default: all.
        negatives: attach up to that many passages judged not relevant.

    Raises:
        FileNotFoundError: a missing source or file.
        ValueError: a malformed file; names file, line and field.
    """
    if negatives < 0:
        raise ValueError(f"negatives: found {negatives}, expected >= 0")
    chosen = known_languages("languages", languages, LANGUAGES, "MIRACL")
    if languages is None:
        chosen = TRAIN_LANGUAGES
    root = locate(HUB_ID if source is None else source)
    published = source is None or (is_local(root) and any(Path(root).glob("miracl-v1.0-*")))
    read = _published_rows if published else _own_rows
    found = [(code, row) for code in chosen for row in islice(read(root, code, split), limit)]
    if published:
        found = _with_texts(root, found, negatives)
    groups = DisjointSets()
    for code, row in found:
        for passage, _ in row.positives:
            groups.join((code, "query", row.id), (code, "passage", passage))
    names: dict[object, str] = {}
    return PairSet.from_pairs(
        Pair(
            row.text,
            text,
            code,
            code,
            names.setdefault(groups.root((code, "query", row.id)), f"{code}:{row.id}"),
            tuple(negative for _, negative in row.negatives[:negatives]),
        )
        for code, row in found
        for _, text in row.positives
    )


def load_miracl(
    source: str | None = None,
    *,
    languages: Iterable[str] | None = None,
    split: str = "dev",
    corpus_limit: int | None = None,
) -> RetrievalSet:
    """Questions of ``split`` (``dev``; ``train`` works too) and the passages of their languages, as published.

    Query and passage ids are ``sw:QUERY`` and ``sw:DOCID``. All languages together hold over 100 million passages: name
    the languages wanted. ``corpus_limit`` keeps each language's judged passages and the first others up to that many;
    figures on such a pool are higher than, and not comparable with, published ones. O(corpus) time and memory.

    Raises:
        FileNotFoundError: a missing source or file.
        ValueError: as :func:`load_miracl_pairs` does, and qrels that name a passage that the corpus lacks.
    """
    root = locate(HUB_ID if source is None else source)
    chosen = known_languages("languages", languages, LANGUAGES, "MIRACL")
    queries: list[tuple[str, str, str]] = []
    corpus: list[tuple[str, str, str]] = []
    qrels: dict[str, dict[str, int]] = {}
    for code in chosen:
        judged_passages: dict[str, None] = {}
        for row in _published_rows(root, code, split):
            queries.append((f"{code}:{row.id}", row.text, code))
            positive, negative = ([passage for passage, _ in side] for side in (row.positives, row.negatives))
            qrels[f"{code}:{row.id}"] = {
                f"{code}:{passage}": relevance
                for side, relevance in ((positive, 1), (negative, 0))
                for passage in side
            }
            judged_passages.update(dict.fromkeys((*positive, *negative)))
        room = None if corpus_limit is None else max(0, corpus_limit - len(judged_passages))
        missing = set(judged_passages)
        for passage, text in _corpus(root, code):
            if passage in missing:
                missing.discard(passage)
            elif room is not None:
                if room == 0 and not missing:
                    break
                if room == 0:
                    continue
                room -= 1
            corpus.append((f"{code}:{passage}", text, code))
        if missing:
            raise ValueError(f"qrels: passage {min(missing)!r} of {code} is not in its corpus")
    return RetrievalSet(
        name=f"miracl {split}",
        query_ids=tuple(query for query, _, _ in queries),
        query_texts=tuple(text for _, text, _ in queries),
        query_langs=tuple(code for _, _, code in queries),
        questions=tuple(query for query, _, _ in queries),
        passage_ids=tuple(passage for passage, _, _ in corpus),
        passage_texts=tuple(text for _, text, _ in corpus),
        passage_langs=tuple(code for _, _, code in corpus),
        qrels=qrels,
        tiers=assign_tiers(chosen),
    )


def _published_rows(root: str, code: str, split: str) -> Iterator[_Judged]:
    """Questions that have a judgement, with passage ids and no texts."""
    folder = f"{root}/miracl-v1.0-{code}"
    judged: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {}
    qrels = f"{folder}/qrels/qrels.miracl-v1.0-{code}-{split}.tsv"
    for where, line in stream_lines([qrels]):
        query, _, passage, relevance = columns(where, line, ("query id", "Q0", "docid", "relevance"))
        if relevance not in ("0", "1"):
            raise ValueError(f"{where}relevance: found {relevance!r}, expected 0 or 1")
        positives, others = judged.setdefault(query, ([], []))
        (positives if relevance == "1" else others).append((passage, ""))
    for where, line in stream_lines([f"{folder}/topics/topics.miracl-v1.0-{code}-{split}.tsv"]):
        query, text = columns(where, line, ("query id", "text"))
        if query in judged:
            yield _Judged(query, text, *judged[query])


def _with_texts(root: str, found: list[tuple[str, _Judged]], negatives: int) -> list[tuple[str, _Judged]]:
    """The same questions with passage texts, from their languages' corpora."""
    texts: dict[tuple[str, str], str] = {}
    for code in dict.fromkeys(code for code, _ in found):
        missing = {
            passage
            for language, row in found
            if language == code
            for passage, _ in (*row.positives, *row.negatives[:negatives])
        }
        for passage, text in _corpus(root, code):
            if passage in missing:
                missing.discard(passage)
                texts[code, passage] = text
                if not missing:
                    break
        if missing:
            raise ValueError(f"qrels: passage {min(missing)!r} of {code} is not in its corpus")
    return [
        (
            code,
            row._replace(
                positives=[(passage, texts[code, passage]) for passage, _ in row.positives],
                negatives=[(passage, texts[code, passage]) for passage, _ in row.negatives[:negatives]],
            ),
        )
        for code, row in found
    ]


def _corpus(root: str, code: str) -> Iterator[tuple[str, str]]:
    base = f"hf://datasets/{CORPUS_HUB_ID}" if root == f"hf://datasets/{HUB_ID}" else root
    for where, record in parse_jsonl(stream_lines([f"{base}/miracl-corpus-v1.0-{code}/docs-*.jsonl*"])):
        yield text_field(record, "docid", where), _title_and_text(record, where)


def _own_rows(root: str, code: str, split: str) -> Iterator[_Judged]:
    """Questions from rows that hold their passages."""
    for pattern in (f"{split}*.parquet", f"{split}*.jsonl"):
        file = f"{root}/{code}/{pattern}"
        rows: Iterator[tuple[str, dict[str, object]]]
        rows = (
            stream_rows("parquet", [file]) if file.endswith(".parquet") else parse_jsonl(stream_lines([file]))
        )
        try:
            first = [next(rows)]
        except StopIteration:
            first = []
        except FileNotFoundError:
            continue
        for where, row in chain(first, rows):
            judged = row.get("negative_passages")
            yield _Judged(
                text_field(row, "query_id", where),
                text_field(row, "query", where),
                _passages(row, "positive_passages", where),
                [] if judged is None else _passages(row, "negative_passages", where),
            )
        return
    raise FileNotFoundError(f"source: no {split}*.parquet or {split}*.jsonl in {root}/{code}")


def _passages(row: Mapping[str, object], key: str, where: str) -> list[tuple[str, str]]:
    return [
        (text_field(one, "docid", f"{where}{key}[{i}]."), _title_and_text(one, f"{where}{key}[{i}]."))
        for i, one in enumerate(field(row, key, list, where))
    ]


def _title_and_text(record: Mapping[str, object], where: str) -> str:
    return f"{record.get('title') or ''} {text_field(record, 'text', where)}".strip()
