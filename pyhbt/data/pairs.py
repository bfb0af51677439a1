"""Own training pairs from JSON lines, Parquet, CSV or TSV, and a study folder made of them.

Columns: ``query``, ``passage``, ``query_lang``, ``passage_lang``; optional ``group`` (pairs whose passages have the
same content share it; default: pairs of one query or of one passage text share one,
:meth:`PairSet.with_groups`), ``question`` (translations of a query share it; default: none known) and
``negatives`` (a list of passages that do not answer the query; not in CSV and TSV). Other columns are ignored, and
columns may have other names (:class:`pyhbt.data.columns.ColumnMap`). O(total text) memory.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pyhbt.data.beir import load_beir
from pyhbt.data.columns import REQUIRED, ColumnMap, pair_fields
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.data.records import existing_file, existing_folder
from pyhbt.data.retrieval_set import StudyData, in_languages
from pyhbt.data.rows import read_rows
from pyhbt.data.tiers import assign_tiers, known_languages, language_codes
from pyhbt.files import check_file_target, write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator, Mapping


def load_pairs(
    path: str | os.PathLike[str],
    *,
    languages: Iterable[str] | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    query_lang: str | None = None,
    passage_lang: str | None = None,
) -> PairSet:
    """The pairs of a ``.jsonl``, ``.csv``, ``.tsv`` (each also ``.gz``) or ``.parquet`` file, in its order.

    Args:
        path: the file.
        languages: keep pairs whose two languages are both listed; default: all.
        limit: read only the first rows; default: all.
        columns: names of columns by field, ``{"query": "question"}``; default: the fields' own names.
        query_lang: language of queries whose row names none.
        passage_lang: likewise of passages.

    Raises:
        FileNotFoundError: no such file.
        TypeError: columns or languages of another type.
        ValueError: a missing column, a wrong type, a null or an empty text (names file, line, of Parquet the row,
            counted from 1, and field); an unknown field, a column or a language that the file lacks; or no pair is
            left.
    """
    mapped = ColumnMap(columns or {}, query_lang, passage_lang)
    file = existing_file(path)
    chosen = None if languages is None else set(language_codes("languages", languages))
    found: dict[str, None] = {}
    kept: list[Pair] = []
    for pair in _read(file, limit, mapped):
        found.update(dict.fromkeys((pair.query_lang, pair.passage_lang)))
        if chosen is None or (pair.query_lang in chosen and pair.passage_lang in chosen):
            kept.append(pair)
    if found:
        where = str(file) if limit is None else f"the first {limit} rows of {file}"
        known_languages("languages", chosen and sorted(chosen), sorted(found), where)
    if not kept:
        wanted = "" if chosen is None else f" in {' '.join(sorted(chosen))}"
        raise ValueError(f"{file}: found no pairs{wanted}, expected at least one")
    return PairSet.from_pairs(kept)


def write_pairs(path: str | os.PathLike[str], pairs: PairSet) -> None:
    """JSON lines that :func:`pyhbt.data.load_pairs` reads, the file whole or not at all; its folder is made.

    Raises:
        ValueError: not named ``.jsonl``.
        OSError: the file cannot be written.
    """
    target = check_jsonl_target(path)
    with write_atomically(target) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for pair in pairs:
            row: dict[str, object] = {
                "query": pair.query,
                "passage": pair.passage,
                "query_lang": pair.query_lang,
                "passage_lang": pair.passage_lang,
                "group": pair.group,
                "negatives": pair.negatives,
            }
            if pair.question:
                row["question"] = pair.question
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def check_jsonl_target(path: str | os.PathLike[str]) -> Path:
    """``path`` as a Path; what is no name for a file of pairs is refused.

    Raises:
        ValueError: ``path`` does not end in .jsonl.
        OSError: a folder is there, or no file can be written.
    """
    return check_file_target("out", path, ".jsonl")


def load_folder_study(
    folder: str | os.PathLike[str],
    *,
    train: str = "train.jsonl",
    languages: Iterable[str] | None = None,
    low_resource: Iterable[str] | None = None,
    zero_shot: Iterable[str] | None = None,
    columns: Mapping[str, str] | None = None,
    query_lang: str | None = None,
    passage_lang: str | None = None,
    skip_unusable: bool = False,
) -> StudyData:
    """A study on own data: ``FOLDER/train.jsonl`` (see :func:`load_pairs`) and BEIR folders ``dev/``, ``test/``.

    ``dev/qrels/dev.tsv`` and ``test/qrels/test.tsv`` hold the judgements. Training pairs with a zero-shot language are
    left out; those with a low-resource language are all kept: how few they are is the file's affair. Languages of
    neither list are seen.

    Args:
        folder: the folder.
        train: name of the file of pairs in it.
        languages: those of the data to use, the other two lists among them; default: all.
        low_resource: default: none.
        zero_shot: default: none.
        columns: as :func:`load_pairs` takes it.
        query_lang: language of queries that name none, in the pairs and in the BEIR folders.
        passage_lang: likewise of passages.
        skip_unusable: as :func:`pyhbt.data.load_beir` takes it.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: as :func:`load_pairs` and :func:`pyhbt.data.load_beir` do; contradictory tiers.
    """
    path = existing_folder(folder)
    pairs = list(_read(existing_file(path / train), None, ColumnMap(columns or {}, query_lang, passage_lang)))
    sets = {
        split: load_beir(
            path / split,
            split,
            query_lang=query_lang,
            passage_lang=passage_lang,
            skip_unusable=skip_unusable,
        )
        for split in ("dev", "test")
    }
    found = {lang for pair in pairs for lang in (pair.query_lang, pair.passage_lang)}
    available = sorted(found.union(*(one.languages for one in sets.values())))
    chosen = known_languages("languages", languages, available, str(path))
    tiers = assign_tiers(chosen, low_resource, zero_shot)
    trained = {lang for lang, tier in tiers.items() if tier != "zero-shot"}
    kept = [pair for pair in pairs if pair.query_lang in trained and pair.passage_lang in trained]
    if not kept:
        raise ValueError(
            f"{path / train}: found no pairs in {' '.join(sorted(trained))}, expected at least one"
        )
    dev, test = (in_languages(one, tiers, tiers) for one in sets.values())
    return StudyData(path.name, PairSet.from_pairs(kept), dev, test)


def _read(path: Path, limit: int | None, columns: ColumnMap) -> Iterator[Pair]:
    """Pairs of a file; the group is empty where the row names none."""

    def check(names: Collection[str]) -> None:
        columns.check(f"{path}: ", names)

    seen: dict[str, None] = {}
    for where, row in islice(read_rows(path, columns.wanted, check), limit):
        columns.check(where, row, REQUIRED)
        seen.update(dict.fromkeys(row))
        yield Pair(**pair_fields(where, columns.fields(row)))
    if seen:  # in JSON lines a row may lack what another has
        check(seen)
