"""Own training pairs from JSON lines, Parquet or CSV, and a study folder made of them.

Columns: ``query``, ``passage``, ``query_lang``, ``passage_lang``; optional ``group`` (pairs whose passages have the
same content share it; default: pairs of one query or of one passage text share one,
:func:`pyhbt.data.groups.with_groups`), ``question`` (translations of a query share it; default: none known) and
``negatives`` (a list of passages that do not answer the query; not in CSV). Other columns are ignored. JSON lines and
Parquet are streamed through the ``datasets`` library, so nothing is cached on disk; O(total text) memory.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pyhbt.data.beir import load_beir
from pyhbt.data.groups import with_groups
from pyhbt.data.hub import stream_rows
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.data.records import existing_file, existing_folder, field, read_jsonl, text_field
from pyhbt.data.retrieval_set import RetrievalSet, StudyData
from pyhbt.data.tiers import assign_tiers, known_languages, language_codes
from pyhbt.files import write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".csv")
_OPTIONAL = ("group", "question", "negatives")


def load_pairs(
    path: str | os.PathLike[str],
    *,
    languages: Iterable[str] | None = None,
    limit: int | None = None,
) -> PairSet:
    """The pairs of a ``.jsonl`` (or ``.jsonl.gz``), ``.parquet`` or ``.csv`` file, in its order.

    Args:
        path: the file.
        languages: keep pairs whose two languages are both listed; default: all.
        limit: read only the first rows; default: all.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a missing column, a wrong type, a null or an empty text (names file, line, of Parquet the row,
            counted from 1, and field); or no pair is left.
    """
    file = existing_file(path)
    chosen = None if languages is None else set(language_codes("languages", languages))
    pairs = with_groups(
        PairSet.from_pairs(
            pair
            for pair in _read(file, limit)
            if chosen is None or (pair.query_lang in chosen and pair.passage_lang in chosen)
        )
    )
    if not len(pairs):
        wanted = "" if chosen is None else f" in {' '.join(sorted(chosen))}"
        raise ValueError(f"{file}: found no pairs{wanted}, expected at least one")
    return pairs


def write_pairs(path: str | os.PathLike[str], pairs: PairSet) -> None:
    """JSON lines that :func:`pyhbt.data.load_pairs` reads, the file whole or not at all; its folder is made.

    Raises:
        ValueError: not named ``.jsonl``.
        OSError: the file cannot be written.
    """
    target = check_jsonl_target(path)
    target.parent.mkdir(parents=True, exist_ok=True)
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
        IsADirectoryError: it is a folder.
    """
    target = Path(path)
    if target.suffix != ".jsonl":
        raise ValueError(f"out: found {target.name!r}, expected a name that ends in .jsonl")
    if target.is_dir():
        raise IsADirectoryError(f"{target}: is a folder, expected the name of a file")
    return target


def load_folder_study(
    folder: str | os.PathLike[str],
    *,
    train: str = "train.jsonl",
    languages: Iterable[str] | None = None,
    low_resource: Iterable[str] | None = None,
    zero_shot: Iterable[str] | None = None,
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

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: as :func:`load_pairs` and :func:`pyhbt.data.load_beir` do; contradictory tiers.
    """
    path = existing_folder(folder)
    pairs = list(_read(existing_file(path / train), None))
    sets: dict[str, RetrievalSet] = {split: load_beir(path / split, split) for split in ("dev", "test")}
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
    dev, test = (
        load_beir(
            path / split, split, languages=[code for code in one.languages if code in tiers], tiers=tiers
        )
        for split, one in sets.items()
    )
    return StudyData(path.name, with_groups(PairSet.from_pairs(kept)), dev, test)


def _read(path: Path, limit: int | None) -> Iterator[Pair]:
    """Pairs of a file; the group is empty where the row names none."""
    for number, (where, row) in enumerate(read_rows(path)):
        if limit is not None and number >= limit:
            return
        negatives: list[object] = []
        if row.get("negatives") is not None:
            negatives = field(row, "negatives", list, where)
        texts = tuple(_negative(entry, f"{where}negatives[{i}]: ") for i, entry in enumerate(negatives))
        yield Pair(
            query=text_field(row, "query", where),
            passage=text_field(row, "passage", where),
            query_lang=text_field(row, "query_lang", where),
            passage_lang=text_field(row, "passage_lang", where),
            group="" if row.get("group") is None else text_field(row, "group", where),
            negatives=texts,
            question="" if row.get("question") is None else text_field(row, "question", where),
        )


def _negative(entry: object, where: str) -> str:
    if not isinstance(entry, str) or not entry.strip():
        raise ValueError(f"{where}found {entry!r}, expected a text")
    return entry


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """``(where, row)`` of every row of a ``.jsonl``, ``.jsonl.gz``, ``.parquet`` or ``.csv`` file, streamed.

    Raises:
        ValueError: a name that ends otherwise, or a file that cannot be read as what its name says.
    """
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        yield from read_jsonl(path)
    elif name.endswith(".parquet"):
        yield from stream_rows("parquet", [str(path)])
    elif name.endswith(".csv"):
        yield from _csv_rows(path)
    else:
        raise ValueError(f"{path}: found suffix {path.suffix!r}, expected one of {' '.join(_SUFFIXES)}")


def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    # Not through datasets: its reader takes texts such as "NA" for missing ones.
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            for row in reader:
                # A cell that may be left out is left out where it is empty: CSV has no null.
                found = {name: cell for name, cell in row.items() if cell or name not in _OPTIONAL}
                yield f"{path}:{reader.line_num}: ", found
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: unreadable as csv after line {reader.line_num}: {error}") from error
