"""Training pairs by column, each distinct text once.

A parallel corpus in L languages costs L texts and L * L integers an item rather than L * L strings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pyhbt.data.answers import joined


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example: a query, a passage that answers it, and passages that do not.

    ``group`` names the content of the passage: translations of one passage share it. ``question`` names what is asked:
    translations of one query share it, and their passages are parallel; empty: the query has no known translation.
    What answers a query by any pair of its set is never its negative (:attr:`PairSet.answer_groups`).
    ``parallel_query`` and ``parallel_passages`` are the query and the passage in other languages, where a training
    wants them (:class:`pyhbt.training.augmentation.Augmentation`).
    """

    query: str
    passage: str
    query_lang: str
    passage_lang: str
    group: str
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
        """Columns of ``pairs``, in their order; O(total text)."""
        queries, passages, languages, groups = _Index(), _Index(), _Index(), _Index()
        question_names: list[str] = []
        named: dict[str, int] = {}
        rows: list[tuple[int, int, int, int, int, int]] = []
        negatives: dict[int, tuple[int, ...]] = {}
        for pair in pairs:
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
        return cls._from_table(queries, passages, languages, groups, question_names, table, negatives)

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


class _Index:
    """Distinct names in order of first sight."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}

    def add(self, name: str) -> int:
        return self._positions.setdefault(name, len(self._positions))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._positions)
