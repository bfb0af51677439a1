"""Texts, passages and ids of files: the one reader that every command shares.

A ``.jsonl`` file (or ``.jsonl.gz``) holds an object a line; of any other file each line is a text or an id, an empty
one too. O(size of the file).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyhbt.data.records import check_unicode, read_jsonl, read_lines, text_field

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence


class Passage(NamedTuple):
    """A passage of a corpus."""

    text: str
    lang: str


def read_texts(path: str | os.PathLike[str], field: str = "text") -> list[str]:
    """The texts of a file in their order; ``field`` is the one that holds them in JSON lines.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is not UTF-8, or no object with a text in that field; names file, line and field.
    """
    if is_jsonl(path):
        return [_string(row, field, where) for where, row in read_jsonl(path)]
    return [text for _, text in read_lines(path, keep_blank=True)]


def load_corpus(path: str | os.PathLike[str]) -> list[Passage]:
    """Passages of a file of JSON lines with ``text`` and ``lang``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line without those fields; names file, line and field.
    """
    return [
        Passage(text_field(row, "text", where), text_field(row, "lang", where))
        for where, row in read_jsonl(path)
    ]


def read_ids(
    ids: str | os.PathLike[str] | None, source: str | os.PathLike[str], count: int, name: str
) -> list[str]:
    """Ids of ``count`` rows: lines of ``ids``; else ``_id`` or ``id`` of the JSON lines of ``source``, else numbers.

    An id that is null is as good as none; whole numbers are ids.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an id of JSON lines that is no string or whole number (names file and line); more or fewer than
            ``count``, or what :func:`check_ids` refuses; ``name`` is the argument named.
    """
    if ids is not None:
        name = f"{name}: {ids}"
        found = [line for _, line in read_lines(ids, keep_blank=True)]
    elif is_jsonl(source):
        name = f"{name}: {source}"
        found = [_identity(row, number, where) for number, (where, row) in enumerate(read_jsonl(source))]
    else:
        found = [str(row) for row in range(count)]
    if len(found) != count:
        raise ValueError(f"{name}: found {len(found)}, expected {count} (one for each row)")
    check_ids(found, name)
    return found


def check_ids(ids: Sequence[str], name: str) -> None:
    """Refuse ids that a run cannot hold; white space parts its columns.

    Raises:
        ValueError: an id twice, one with white space, or a query's that begins with ``#``.
    """
    if len(set(ids)) < len(ids):
        raise ValueError(f"{name}: found {_repeated(ids)!r} twice, expected different ones")
    for text in ids:
        if text.split() != [text]:
            raise ValueError(f"{name}: found {text!r}, expected an id without white space")
        if text.startswith("#") and name.startswith("query_ids"):
            raise ValueError(
                f"{name}: found {text!r}, expected no '#' at its start, which makes a comment of its line"
            )


def is_jsonl(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that it holds JSON lines."""
    return Path(path).name.lower().endswith((".jsonl", ".jsonl.gz"))


def _string(row: dict[str, object], field: str, where: str) -> str:
    text = row.get(field)
    if not isinstance(text, str):
        raise ValueError(f"{where}{field}: expected a JSON object with this text field")
    check_unicode(text, f"{where}{field}: ")
    return text


def _identity(row: dict[str, object], number: int, where: str) -> str:
    """``_id``, else ``id``, else the row's number."""
    for key in ("_id", "id"):
        found = row.get(key)
        if found is not None:
            if isinstance(found, bool) or not isinstance(found, str | int):
                raise ValueError(f"{where}{key}: found {found!r}, expected a string or a whole number")
            check_unicode(str(found), f"{where}{key}: ")
            return str(found)
    return str(number)


def _repeated(ids: Iterable[str]) -> str:
    return next(text for text, times in Counter(ids).items() if times > 1)
