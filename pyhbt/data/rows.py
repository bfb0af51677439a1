"""Rows of a file of JSON lines, CSV, TSV or Parquet, one after the other, with errors that name file and line.

JSON lines, CSV and TSV may be packed by gzip (``.gz``). CSV and TSV have a header; cells are parted by commas or tabs
and may stand in double quotes, as RFC 4180 says, line breaks in them too. Files are streamed and nothing is written;
O(size of the columns that are read).
"""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

from pyhbt.data.records import existing_file, read_jsonl, read_whole_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    Row = Mapping[str, object]

_BATCH = 1024
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".jsonl", ".csv", ".tsv", ".jsonl.gz", ".csv.gz", ".tsv.gz", ".parquet")


def read_rows(
    path: Path,
    wanted: Collection[str] | None = None,
    check_columns: Callable[[Collection[str]], None] | None = None,
) -> Iterator[tuple[str, Row]]:
    """``(where, row)`` of every row of a file, the form by its name.

    Args:
        path: ends in one of ``SUFFIXES``.
        wanted: the columns to read of Parquet, where others may have any type; default: all.
        check_columns: called with the names of the columns before the first row; not of JSON lines.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a name that ends otherwise, or a file that cannot be read as what its name says; names file and
            line, of Parquet the row, counted from 1.
    """
    file = existing_file(path)
    name = file.name.lower().removesuffix(".gz")
    form = name[name.rfind(".") :] if "." in name else ""
    if not file.name.lower().endswith(SUFFIXES):
        raise ValueError(f"{file}: found suffix {file.suffix!r}, expected one of {' '.join(SUFFIXES)}")
    if form == ".jsonl":
        yield from read_jsonl(file)
    elif form == ".parquet":
        yield from read_parquet(file, wanted, check_columns)
    else:
        yield from _delimited(file, _SEPARATORS[form], check_columns)


def read_parquet(
    file: Path,
    wanted: Collection[str] | None = None,
    check_columns: Callable[[Collection[str]], None] | None = None,
) -> Iterator[tuple[str, Row]]:
    """``(where, row)`` of every row of a Parquet file; arguments and errors are those of :func:`read_rows`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            chosen = names if wanted is None else [name for name in names if name in wanted]
            _check_distinct(f"{file}: ", chosen)
            if check_columns is not None:
                check_columns(names)
            for batch in table.iter_batches(_BATCH, columns=chosen):
                # to_pylist() of a batch without columns has no rows
                found = batch.to_pylist() if batch.num_columns else [{} for _ in range(batch.num_rows)]
                for row in found:
                    number += 1
                    yield f"{file}:{number}: ", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file}: unreadable as parquet after row {number}: {reason}") from error


def _check_distinct(where: str, names: Collection[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{where}found the column {name!r} twice, expected different names")
        seen.add(name)


def _delimited(
    file: Path, separator: str, check_columns: Callable[[Collection[str]], None] | None
) -> Iterator[tuple[str, Row]]:
    """Not through a library that takes texts such as "NA" for missing ones, or a long row for a shifted one."""
    reader = csv.reader(_text(file), delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        where = f"{file}:{reader.line_num + 1}: "  # where the row begins: cells may span lines
        limit = csv.field_size_limit(sys.maxsize)
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise ValueError(
                f"{where}unreadable as {file.name.lower().removesuffix('.gz')[-3:]}: {error}"
            ) from error
        finally:
            csv.field_size_limit(limit)
        if header is None:
            if not any(name.strip() for name in cells):
                break
            _check_distinct(where, cells)
            if check_columns is not None:
                check_columns(cells)
            header = cells
        elif cells and (len(header) == 1 or cells[0].strip() or len(cells) > 1):  # no blank line
            if len(cells) != len(header):
                sign = "comma" if separator == "," else "tab"
                raise ValueError(
                    f"{where}found {len(cells)} cells, expected {len(header)} as in the header; "
                    f"a cell that holds a {sign} stands in quotes"
                )
            yield where, dict(zip(header, cells, strict=True))
    if header is None:
        raise ValueError(f"{file}:1: found no header, expected names of columns")


def _text(file: Path) -> Iterator[str]:
    for where, line in read_whole_lines(file):
        if "\0" in line:
            raise ValueError(f"{where}found a NUL byte, expected text")
        yield line
