"""A teacher's scores of (query, passage), such as a cross-encoder's, for training pairs.

A file of rows ``query``, ``passage``, ``score``: JSON lines (also ``.jsonl.gz``), Parquet or CSV; other columns are
ignored. Texts are those of the pairs, letter for letter.
"""

from __future__ import annotations

import logging
import math
from array import array
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from pyhbt.data.records import existing_file, text_field
from pyhbt.data.rows import read_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyhbt.data.pair_set import PairSet

_COLUMNS = ("query", "passage", "score")

logger = logging.getLogger(__name__)


class ScoredCandidates(NamedTuple):
    """The scores that a teacher gave to candidates of the queries of some pairs.

    Arrays of shape (s,), those of one query in a row: ``queries`` int64, which of the pairs' queries; the candidate is
    the passage of the pair ``pairs`` where ``slots`` is 0, else the negative ``slots`` - 1 of that pair, both int64;
    ``scores`` float64.
    """

    queries: NDArray[np.int64]
    pairs: NDArray[np.int64]
    slots: NDArray[np.int64]
    scores: NDArray[np.float64]


class TeacherScores:
    """Scores of pairs' queries with passages and negatives of the same set; read them with :meth:`load`.

    Memory: 16 bytes a score that fits, 8 a query; while reading, an entry of a dictionary for each distinct text.
    """

    def __init__(self, pairs: PairSet, keys: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        """``keys``: query * number of passages + passage, ascending, each once; ``scores`` of them."""
        width = max(1, len(pairs.passages))
        self._pairs = pairs
        self._keys = keys
        self._scores = scores
        self._starts = np.searchsorted(keys, np.arange(len(pairs.queries) + 1) * width)

    @classmethod
    def load(cls, path: str | os.PathLike[str], pairs: PairSet) -> TeacherScores:
        """The scores of a file that belong to texts of ``pairs``; logs how many pairs they cover.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a missing column, an empty text, a score that is no finite number, or two scores of the same
                query and passage (each names file and line); no row fits the pairs; no query has two scores.
        """
        file = existing_file(path)
        query_of = {text: place for place, text in enumerate(pairs.queries)}
        passage_of = {text: place for place, text in enumerate(pairs.passages)}
        found, values = array("q"), array("d")
        num_rows = 0
        for where, row in read_rows(file, _COLUMNS):
            num_rows += 1
            query, passage = (text_field(row, name, where) for name in ("query", "passage"))
            score = _score(row, where)
            if query in query_of and passage in passage_of:
                found.append(query_of[query] * len(pairs.passages) + passage_of[passage])
                values.append(score)
        if not found:
            raise ValueError(
                f"{file}: found {num_rows} rows, of which none has a query and a passage of the pairs, expected some"
            )
        keys, scores = np.frombuffer(found, dtype=np.int64), np.frombuffer(values, dtype=np.float64)
        order = np.argsort(keys, kind="stable")
        keys, scores = keys[order], scores[order]
        repeated = keys[1:] == keys[:-1]
        contradictory = repeated & (scores[1:] != scores[:-1])
        if contradictory.any():
            key = int(keys[1:][contradictory][0])
            of_query, of_passage = divmod(key, len(pairs.passages))
            _refuse_contradiction(file, pairs.queries[of_query], pairs.passages[of_passage])
        first = np.concatenate([[True], ~repeated])
        made = cls(pairs, keys[first], scores[first])
        if np.diff(made._starts).max(initial=0) < 2:
            raise ValueError(f"{file}: found one score a query, expected two of a query at least, to compare")
        own, compared = made.coverage()
        logger.log(
            logging.INFO if compared == len(pairs) else logging.WARNING,
            "%s: %d of %d rows fit; %d of %d pairs have a score of their passage, %d of these one of a negative too",
            *(file, len(found), num_rows, own, len(pairs), compared),
        )
        return made

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which query and passage (query * number of passages + passage, ascending), and the score, of each."""
        return self._keys, self._scores

    def coverage(self) -> tuple[int, int]:
        """How many pairs have a score of their passage, and how many of these one of a negative of theirs too."""
        pairs = self._pairs
        own = self._known(pairs.query_index, pairs.passage_index)
        counts = np.array([len(texts) for texts in pairs.negatives.values()], dtype=np.int64)
        rows = np.repeat(np.array(list(pairs.negatives), dtype=np.int64), counts)
        texts = np.fromiter(chain.from_iterable(pairs.negatives.values()), dtype=np.int64, count=len(rows))
        with_negative = np.zeros(len(pairs), dtype=bool)
        with_negative[rows[self._known(pairs.query_index[rows], texts)]] = True
        return int(own.sum()), int((own & with_negative).sum())

    def of(self, rows: Sequence[int]) -> ScoredCandidates:
        """The scores of the queries of the pairs at ``rows`` with passages and negatives of these pairs.

        A text that is several candidates counts once: as the query's own passage, else where it comes first, passages
        before negatives. O(scores of these queries + c log c), c candidates.
        """
        pairs, places = self._pairs, np.asarray(rows, dtype=np.int64)
        negatives = [pairs.negatives.get(int(row), ()) for row in places]
        own = pairs.passage_index[places]
        listed = [(int(text), place, 0) for place, text in enumerate(own)]
        listed += [
            (text, place, slot)
            for place, texts in enumerate(negatives)
            for slot, text in enumerate(texts, start=1)
        ]
        texts, in_pair, in_slot = np.array(listed, dtype=np.int64).reshape(-1, 3).T
        distinct, first = np.unique(texts, return_index=True)

        begins, ends = (self._starts[pairs.query_index[places] + step] for step in (0, 1))
        queries = np.repeat(np.arange(len(places)), ends - begins)
        entries = np.concatenate(
            [np.arange(begin, end) for begin, end in zip(begins, ends, strict=True)]
            or [np.empty(0, np.int64)]
        ).astype(np.int64)
        passages = self._keys[entries] % max(1, len(pairs.passages))
        there = np.isin(passages, distinct)
        queries, entries, passages = queries[there], entries[there], passages[there]
        candidates = first[np.searchsorted(distinct, passages)]
        is_own = passages == own[queries]
        return ScoredCandidates(
            queries.astype(np.int64),
            np.where(is_own, queries, in_pair[candidates]).astype(np.int64),
            np.where(is_own, 0, in_slot[candidates]).astype(np.int64),
            self._scores[entries],
        )

    def _known(self, queries: NDArray[np.int64], passages: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.isin(queries * len(self._pairs.passages) + passages, self._keys)


def _score(row: Mapping[str, object], where: str) -> float:
    if "score" not in row:
        raise ValueError(f"{where}score: missing, expected a number")
    value = row["score"]
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            score = float(value)
            if math.isfinite(score):
                return score
    except (OverflowError, ValueError):
        pass
    raise ValueError(f"{where}score: found {value!r}, expected a finite number")


def _refuse_contradiction(file: Path, query: str, passage: str) -> NoReturn:
    """Read the file once more, for the two rows."""
    rows = [
        (where.removesuffix(": "), _score(row, where))
        for where, row in read_rows(file, _COLUMNS)
        if (row["query"], row["passage"]) == (query, passage)
    ]
    (first, score), *rest = rows
    where, other = next((where, value) for where, value in rest if value != score)
    raise ValueError(
        f"{where}: score: found {other:g}, expected {score:g} as in {first}, of the same query and passage"
    )
