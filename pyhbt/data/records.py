"""Reading of JSON, JSON lines and tab-separated lines, with errors that name file, line and field.

``where`` arguments are prefixes of messages such as ``queries.jsonl:12: ``. Files are read line by line.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_T = TypeVar("_T")


def existing_file(path: str | os.PathLike[str]) -> Path:
    """``path`` as a Path.

    Raises:
        TypeError: it is no path.
        FileNotFoundError: it is not a file; in one line.
    """
    found = _path(path)
    if not found.is_file():
        raise FileNotFoundError(f"{found}: no such file")
    return found


def _path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: found {type(path).__name__}, expected a path")
    return Path(path)


def existing_folder(folder: str | os.PathLike[str]) -> Path:
    """``folder`` as a Path.

    Raises:
        FileNotFoundError: it is not a folder; in one line.
    """
    found = Path(folder)
    if not found.is_dir():
        raise FileNotFoundError(f"folder: {found} is not a folder")
    return found


def read_lines(path: str | os.PathLike[str], *, keep_blank: bool = False) -> Iterator[tuple[str, str]]:
    """``(where, line)`` of every line without its line break; blank ones are skipped unless wanted.

    UTF-8, a byte-order mark dropped; a file named ``.gz`` is unpacked on the way.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is not UTF-8.
    """
    for where, line in read_whole_lines(path):
        text = line.rstrip("\r\n")
        if keep_blank or text.strip():
            yield where, text


def read_whole_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """``(where, line)`` of every line with its line break; otherwise as :func:`read_lines`."""
    file = existing_file(path)
    for number, line in enumerate(_lines(file), start=1):
        where = f"{file}:{number}: "
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}not UTF-8: {error}") from error
        yield where, text


def _lines(file: Path) -> Iterator[bytes]:
    """Lines with their breaks, unpacked where the name ends in .gz."""
    try:
        with gzip.open(file, "rb") if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            yield from stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: unreadable as gzip: {error}") from error


def parse_jsonl(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, object]]]:
    """``(where, object)`` of every line.

    Raises:
        ValueError: a line that is not a JSON object.
    """
    for where, line in lines:
        try:
            record = json.loads(line)
        except RecursionError:
            raise ValueError(f"{where}not JSON: nested too deeply") from None
        except ValueError as error:  # numbers of too many digits too
            raise ValueError(f"{where}not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{where}found {type(record).__name__}, expected an object")
        yield where, record


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, object]]]:
    """``(where, object)`` of every line of a file of JSON lines; blank lines are skipped."""
    return parse_jsonl(read_lines(path))


def columns(where: str, line: str, names: tuple[str, ...], separator: str | None = "\t") -> list[str]:
    """The columns of a line, one a name (None: split at any white space).

    Raises:
        ValueError: there are more or fewer.
    """
    found = line.split(separator)
    if len(found) != len(names):
        raise ValueError(f"{where}found {len(found)} columns, expected {len(names)}: {' '.join(names)}")
    return found


def field(record: object, key: str, kind: type[_T], where: str) -> _T:
    """``record[key]``, checked to be a ``kind`` (a bool is no int; a string is Unicode throughout).

    Raises:
        ValueError: it is missing or another; names the field.
    """
    if not isinstance(record, dict) or key not in record:
        raise ValueError(f"{where}{key}: missing, expected {kind.__name__}")
    value = record[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        found = "null" if value is None else type(value).__name__
        raise ValueError(f"{where}{key}: found {found}, expected {kind.__name__}")
    if isinstance(value, str):
        check_unicode(value, f"{where}{key}: ")
    return value


def check_unicode(text: str, where: str) -> None:
    """Refuse a text that no file or tokenizer can hold.

    Raises:
        ValueError: it holds half of a surrogate pair, as JSON's escapes may.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = f"{text[error.start]!r} at character {error.start}"
            raise ValueError(f"{where}found the lone surrogate {found}, expected Unicode text") from None


def text_field(record: object, key: str, where: str) -> str:
    """``record[key]``, checked to be a string that is not blank.

    Raises:
        ValueError: it is missing, another or blank; names the field.
    """
    text = field(record, key, str, where)
    if not text.strip():
        raise ValueError(f"{where}{key}: found an empty text, expected some")
    return text
