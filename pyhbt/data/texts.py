"""Texts, passages and ids of files: the one reader that every command shares.

A ``.jsonl`` file (or ``.jsonl.gz``) holds an object a line; of any other file each line is a text or an id, an empty
one too. O(size of the file).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pyhbt.data.records import read_jsonl, read_lines, text_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class Passage(NamedTuple):
    """A passage of a corpus."""

    text: str
    lang: str


def read_texts(path: Path, field: str = "text") -> list[str]:
    """The texts of a file in their order; ``field`` is the one that holds them in JSON lines.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is not UTF-8, or no object with a text in that field; names file, line and field.
    """
    if is_jsonl(path):
        return [_string(row, field, where) for where, row in read_jsonl(path)]
    return [text for _, text in read_lines(path, keep_blank=True)]


def load_corpus(path: Path) -> list[Passage]:
    """Passages of a file of JSON lines with ``text`` and ``lang``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line without those fields; names file, line and field.
    """
    return [
        Passage(text_field(row, "text", where), text_field(row, "lang", where))
        for where, row in read_jsonl(path)
    ]


def read_ids(ids: Path | None, source: Path, count: int, name: str) -> list[str]:
    """Ids of ``count`` rows: lines of ``ids``; else ``_id`` or ``id`` of the JSON lines of ``source``, else numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: more or fewer than ``count``, or what :func:`check_ids` refuses; ``name`` is the argument named.
    """
    if ids is not None:
        found = [line for _, line in read_lines(ids, keep_blank=True)]
    elif is_jsonl(source):
        rows = (row for _, row in read_jsonl(source))
        found = [str(row.get("_id", row.get("id", number))) for number, row in enumerate(rows)]
    else:
        found = [str(row) for row in range(count)]
    if len(found) != count:
        raise ValueError(f"{name}: found {len(found)}, expected {count} (one for each row)")
    check_ids(found, name)
    return found


def check_ids(ids: Sequence[str], name: str) -> None:
    """Refuse ids that a run cannot hold; white space parts its columns.

    Raises:
        ValueError: an id twice, or one with white space.
    """
    if len(set(ids)) < len(ids):
        raise ValueError(f"{name}: found {_repeated(ids)!r} twice, expected different ones")
    for text in ids:
        if text.split() != [text]:
            raise ValueError(f"{name}: found {text!r}, expected an id without white space")


def is_jsonl(path: Path) -> bool:
    """Whether a file's name says that it holds JSON lines."""
    return path.name.endswith((".jsonl", ".jsonl.gz"))


def _string(row: dict[str, object], field: str, where: str) -> str:
    text = row.get(field)
    if not isinstance(text, str):
        raise ValueError(f"{where}{field}: expected a JSON object with this text field")
    return text


def _repeated(ids: Iterable[str]) -> str:
    return next(text for text, times in Counter(ids).items() if times > 1)
