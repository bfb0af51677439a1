"""Where a file's fields are: columns under other names, and languages that no column tells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyhbt.arguments import did_you_mean
from pyhbt.data.records import check_unicode, text_field
from pyhbt.data.records import field as record_field

REQUIRED = ("query", "passage", "query_lang", "passage_lang")
OPTIONAL = ("group", "question", "negatives")
FIELDS = (*REQUIRED, *OPTIONAL)
"""What a row of pairs holds; see docs/guides/data.md."""


@dataclass(frozen=True)
class ColumnMap:
    """The columns of pairs: ``columns`` maps fields to the names that columns have, others have the field's own.

    ``query_lang`` and ``passage_lang`` are the languages of rows that name none.

    Raises:
        TypeError: columns that are no mapping of strings, a language that is no string.
        ValueError: an unknown field, or an empty name or language.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    query_lang: str | None = None
    passage_lang: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Mapping):
            raise TypeError(f"columns: found {self.columns!r}, expected a mapping of fields to columns")
        for name, column in self.columns.items():
            if not isinstance(name, str) or not isinstance(column, str):
                raise TypeError(f"columns: found {name!r}: {column!r}, expected strings")
            if name not in FIELDS:
                raise ValueError(
                    f"columns: found field {name!r}, expected one of {', '.join(FIELDS)}{did_you_mean(name, FIELDS)}"
                )
            if not column:
                raise ValueError(f"columns: found an empty name for {name!r}, expected that of a column")
        for name in ("query_lang", "passage_lang"):
            check_language(name, getattr(self, name))

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        return tuple(column for name in FIELDS if (column := self._column(name)) is not None)

    def _column(self, name: str) -> str | None:
        """The column of a field; None where the column of its name is another field's."""
        return self.columns.get(name, None if name in self.columns.values() else name)

    def check(self, where: str, found: Collection[str], fields: Collection[str] = FIELDS) -> None:
        """Refuse columns that lack one that is mapped, of ``fields`` alone.

        Raises:
            ValueError: one is absent; names those that are there.
        """
        for name, column in self.columns.items():
            if name in fields and column not in found:
                raise ValueError(
                    f"{where}columns: found no column {column!r} for {name}, expected one of "
                    f"{', '.join(found)}{did_you_mean(column, found)}"
                )

    def fields(self, row: Mapping[str, object]) -> dict[str, object]:
        """The row by fields; what is neither is left out."""
        fields: dict[str, object] = {}
        for name in FIELDS:
            column = self._column(name)
            if column is not None and column in row:
                fields[name] = row[column]
        for name, language in (("query_lang", self.query_lang), ("passage_lang", self.passage_lang)):
            if language is not None and fields.get(name) in (None, ""):
                fields[name] = language
        return fields


def pair_fields(where: str, row: Mapping[str, object]) -> dict[str, Any]:
    """The arguments of a pair from a row by fields; an empty cell of a field that may be left out is as good as none.

    Raises:
        ValueError: a field is missing, of another type, or a text is empty.
    """
    given = {name: value for name, value in row.items() if name not in OPTIONAL or not _blank(value)}
    negatives: list[object] = []
    if given.get("negatives") is not None:
        negatives = record_field(given, "negatives", list, where)
    return {
        "query": text_field(row, "query", where),
        "passage": text_field(row, "passage", where),
        "query_lang": text_field(row, "query_lang", where),
        "passage_lang": text_field(row, "passage_lang", where),
        "group": "" if given.get("group") is None else text_field(given, "group", where),
        "negatives": tuple(_negative(entry, f"{where}negatives[{i}]: ") for i, entry in enumerate(negatives)),
        "question": "" if given.get("question") is None else text_field(given, "question", where),
    }


def _blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _negative(entry: object, where: str) -> str:
    if not isinstance(entry, str) or not entry.strip():
        raise ValueError(f"{where}found {entry!r}, expected a text")
    check_unicode(entry, where)
    return entry


def check_language(name: str, language: object) -> None:
    """Refuse what is no code of a language; None is none given.

    Raises:
        TypeError: no string.
        ValueError: blank.
    """
    if language is None:
        return
    if not isinstance(language, str):
        raise TypeError(f"{name}: found {language!r}, expected a language code (a string)")
    if not language.strip():
        raise ValueError(f"{name}: found {language!r}, expected a language code")


def parse_columns(given: Iterable[str] | None) -> dict[str, str] | None:
    """``("query=question", ...)`` as a mapping.

    Raises:
        ValueError: an entry of another form, or a field twice.
    """
    if given is None:
        return None
    columns: dict[str, str] = {}
    for entry in given:
        name, sign, column = entry.partition("=")
        if not sign or not name or not column:
            raise ValueError(f"columns: found {entry!r}, expected FIELD=COLUMN such as query=question")
        if name in columns:
            raise ValueError(f"columns: found {name!r} twice, expected one column a field")
        columns[name] = column
    return columns
