"""Training pairs by column, each distinct text once.

A parallel corpus in L languages costs L texts and L * L integers an item rather than L * L strings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pyhbt.arguments import check_names
from pyhbt.data.answers import joined
from pyhbt.data.columns import REQUIRED, ColumnMap, pair_fields
from pyhbt.data.disjoint import DisjointSets


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example: a query, a passage that answers it, and passages that do not.

    ``group`` names the content of the passage: translations of one passage share it; empty: made of what pairs share
    (:meth:`PairSet.with_groups`). ``question`` names what is asked:
    translations of one query share it, and their passages are parallel; empty: the query has no known translation.
    What answers a query by any pair of its set is never its negative (:attr:`PairSet.answer_groups`).
    ``parallel_query`` and ``parallel_passages`` are the query and the passage in other languages, where a training
    wants them (:class:`pyhbt.training.augmentation.Augmentation`).
    """

    query: str
    passage: str
    query_lang: str
    passage_lang: str
    group: str = ""
    negatives: tuple[str, ...] = ()
    question: str = ""
    parallel_query: str | None = None
    parallel_passages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParallelItem:
    """One question and its answer in several languages.

    Any query language may be paired with any passage language.
    """

    group: str
    queries: Mapping[str, str]
    passages: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class PairSet(Sequence[Pair]):
    """Training pairs by column. Build one with :meth:`from_pairs` or :meth:`from_parallel`.

    ``queries`` and ``passages`` hold the distinct texts. The arrays, all int64 of shape (num_pairs,), point into
    them: ``query_index``, ``passage_index``; ``query_langs`` and ``passage_langs`` into ``languages``; ``groups``
    into ``group_names``; ``questions`` into ``question_names``, which has one empty entry for every pair without
    a named question. ``negatives`` maps a pair's position to positions in ``passages``.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    languages: tuple[str, ...]
    group_names: tuple[str, ...]
    question_names: tuple[str, ...]
    query_index: NDArray[np.int64]
    passage_index: NDArray[np.int64]
    query_langs: NDArray[np.int64]
    passage_langs: NDArray[np.int64]
    groups: NDArray[np.int64]
    questions: NDArray[np.int64]
    negatives: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Pair]) -> PairSet:
        """Columns of ``pairs``, in their order, with groups for those that name none (:meth:`with_groups`).

        O(total text).

        Raises:
            TypeError: something that is no :class:`Pair`.
        """
        queries, passages, languages, groups = _Index(), _Index(), _Index(), _Index()
        question_names: list[str] = []
        named: dict[str, int] = {}
        rows: list[tuple[int, int, int, int, int, int]] = []
        negatives: dict[int, tuple[int, ...]] = {}
        for pair in pairs:
            if not isinstance(pair, Pair):
                raise TypeError(
                    f"pairs: found {type(pair).__name__}, expected a Pair at position {len(rows)}"
                )
            question = named.get(pair.question, len(question_names))
            if question == len(question_names):
                question_names.append(pair.question)
                if pair.question:
                    named[pair.question] = question
            if pair.negatives:
                negatives[len(rows)] = tuple(passages.add(text) for text in pair.negatives)
            rows.append(
                (
                    queries.add(pair.query),
                    passages.add(pair.passage),
                    languages.add(pair.query_lang),
                    languages.add(pair.passage_lang),
                    groups.add(pair.group),
                    question,
                )
            )
        table = np.array(rows, dtype=np.int64).reshape(-1, 6)
        made = cls._from_table(queries, passages, languages, groups, question_names, table, negatives)
        return made.with_groups()

    @classmethod
    def from_dataset(
        cls,
        dataset: Iterable[Mapping[str, object]],
        *,
        columns: Mapping[str, str] | None = None,
        query_lang: str | None = None,
        passage_lang: str | None = None,
    ) -> PairSet:
        """The pairs of a ``datasets.Dataset`` (or any iterable of rows), as :func:`pyhbt.data.load_pairs` reads a file.

        Args:
            dataset: its rows; other columns are not read.
            columns: names of columns by field, ``{"query": "question"}``; default: the fields' own names.
            query_lang: language of queries whose row names none.
            passage_lang: likewise of passages.

        Raises:
            TypeError: a row that is no mapping; columns or languages of another type.
            ValueError: a missing column, a wrong type, a null or an empty text (names row, counted from 1, and field),
                an unknown field or a column that is not there; or no row.
        """
        mapped = ColumnMap(columns or {}, query_lang, passage_lang)
        if isinstance(dataset, (str, bytes, Mapping)):
            raise TypeError(
                f"dataset: found {type(dataset).__name__}, expected a Dataset or rows (one split of them)"
            )
        names = getattr(dataset, "column_names", None)
        rows: Any = dataset
        if names is not None:
            mapped.check("dataset: ", names)
            rows = dataset.select_columns([name for name in names if name in mapped.wanted])  # type: ignore[attr-defined]
        pairs: list[Pair] = []
        for number, row in enumerate(rows, start=1):
            where = f"dataset:{number}: "
            if not isinstance(row, Mapping):
                raise TypeError(f"{where}found {type(row).__name__}, expected a mapping")
            mapped.check(where, row, REQUIRED)
            pairs.append(Pair(**pair_fields(where, mapped.fields(row))))
        if not pairs:
            raise ValueError("dataset: found no rows, expected at least one")
        return cls.from_pairs(pairs)

    @classmethod
    def from_parallel(cls, items: Iterable[ParallelItem]) -> PairSet:
        """Every query language of an item with every passage language of it; O(total text + pairs)."""
        queries, passages, languages, groups = _Index(), _Index(), _Index(), _Index()
        blocks: list[NDArray[np.int64]] = []
        number = -1
        for number, item in enumerate(items):
            group = groups.add(item.group)
            query_side = [(queries.add(text), languages.add(lang)) for lang, text in item.queries.items()]
            passage_side = [(passages.add(text), languages.add(lang)) for lang, text in item.passages.items()]
            if not query_side or not passage_side:
                continue
            query_columns = np.repeat(np.array(query_side, dtype=np.int64), len(passage_side), axis=0)
            passage_columns = np.tile(np.array(passage_side, dtype=np.int64), (len(query_side), 1))
            block = np.empty((len(query_columns), 6), dtype=np.int64)
            block[:, 0], block[:, 2] = query_columns.T
            block[:, 1], block[:, 3] = passage_columns.T
            block[:, 4], block[:, 5] = group, number
            blocks.append(block)
        table = np.concatenate(blocks) if blocks else np.empty((0, 6), dtype=np.int64)
        question_names = [str(question) for question in range(number + 1)]
        return cls._from_table(queries, passages, languages, groups, question_names, table, {})

    @classmethod
    def _from_table(
        cls,
        queries: _Index,
        passages: _Index,
        languages: _Index,
        groups: _Index,
        question_names: Sequence[str],
        table: NDArray[np.int64],
        negatives: Mapping[int, tuple[int, ...]],
    ) -> PairSet:
        """Columns of ``table`` (num_pairs, 6): query, passage, query language, passage language, group, question."""
        query_index, passage_index, query_langs, passage_langs, group_index, questions = np.ascontiguousarray(
            table.T
        )
        return cls(
            queries=queries.names,
            passages=passages.names,
            languages=languages.names,
            group_names=groups.names,
            question_names=tuple(question_names),
            query_index=query_index,
            passage_index=passage_index,
            query_langs=query_langs,
            passage_langs=passage_langs,
            groups=group_index,
            questions=questions,
            negatives=negatives,
        )

    def with_groups(self) -> PairSet:
        """Groups for the pairs that name none, whose group is empty; O(pairs).

        Among these pairs those share a group that have one question, or, where they name none, one query text in one
        language; and those that have one passage text. The group's name is the first of its passages. Groups that are
        named stay as they are.
        """
        if "" not in self.group_names:
            return self
        names = [self.group_names[group] for group in self.groups]
        open_rows = [row for row, name in enumerate(names) if not name]
        same = DisjointSets()
        for row in open_rows:
            question = self.question_names[self.questions[row]]
            query = (int(self.query_index[row]), int(self.query_langs[row]))
            asked = ("question", question) if question else ("query", query)
            same.join(asked, ("passage", int(self.passage_index[row])))
        first: dict[Hashable, str] = {}
        for row in open_rows:
            passage = int(self.passage_index[row])
            names[row] = first.setdefault(same.root(("passage", passage)), self.passages[passage])
        places: dict[str, int] = {}
        groups = [places.setdefault(name, len(places)) for name in names]
        return replace(self, group_names=tuple(places), groups=np.array(groups, dtype=np.int64))

    @cached_property
    def answer_groups(self) -> NDArray[np.int64]:
        """For each of ``passages`` the group that stands for all texts that answer the same queries; made once.

        int64 (num_passages,), positions in ``group_names``; -1 where a text is known only as a negative. Pairs have the
        same answers that share a group, a question, a query (its text and language) or a passage text, directly or
        through other pairs: whatever answers a query has the answer group of the query's own passage. The first of
        the groups so joined stands for them. O(pairs log pairs).
        """
        asked = self.query_index * len(self.languages) + self.query_langs
        found = np.full(len(self.passages), -1, dtype=np.int64)
        found[self.passage_index] = joined((self.groups, self.questions, asked, self.passage_index))
        return found

    @cached_property
    def group_ids(self) -> NDArray[np.int64]:
        """A number of 63 bits for each of ``group_names``, (num_groups,), the same in every process; made once.

        Two names share a number with odds of 2^-63.
        """
        digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in self.group_names)
        return np.array([int.from_bytes(digest, "little") >> 1 for digest in digests], dtype=np.int64)

    def __post_init__(self) -> None:
        for name in ("queries", "passages", "languages", "group_names", "question_names"):
            check_names(name, getattr(self, name))
        for name, names in _COLUMNS.items():
            column = getattr(self, name)
            if not isinstance(column, np.ndarray):
                raise TypeError(f"{name}: found {type(column).__name__}, expected an int64 array")
            if column.dtype != np.int64 or column.shape != self.query_index.shape or column.ndim != 1:
                raise ValueError(
                    f"{name}: found {column.dtype} {column.shape}, expected int64 ({len(self.query_index)},)"
                )
            size = len(getattr(self, names))
            if len(column) and not (column.min() >= 0 and column.max() < size):
                raise ValueError(
                    f"{name}: found positions from {column.min()} to {column.max()}, expected 0 to {size - 1}"
                )

    def __len__(self) -> int:
        return len(self.query_index)

    @overload
    def __getitem__(self, position: int) -> Pair: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Pair]: ...
    def __getitem__(self, position: int | slice) -> Pair | Sequence[Pair]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        position = range(len(self))[position]
        return Pair(
            query=self.queries[self.query_index[position]],
            passage=self.passages[self.passage_index[position]],
            query_lang=self.languages[self.query_langs[position]],
            passage_lang=self.languages[self.passage_langs[position]],
            group=self.group_names[self.groups[position]],
            negatives=tuple(self.passages[i] for i in self.negatives.get(position, ())),
            question=self.question_names[self.questions[position]],
        )

    def __repr__(self) -> str:
        return (
            f"PairSet({len(self):,} pairs, {len(self.group_names):,} groups, "
            f"{len(self.languages)} languages: {' '.join(self.languages)})"
        )


_COLUMNS = {
    "query_index": "queries",
    "passage_index": "passages",
    "query_langs": "languages",
    "passage_langs": "languages",
    "groups": "group_names",
    "questions": "question_names",
}
"""The columns, and the names that each points into."""


class _Index:
    """Distinct names in order of first sight."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}

    def add(self, name: str) -> int:
        return self._positions.setdefault(name, len(self._positions))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._positions)
