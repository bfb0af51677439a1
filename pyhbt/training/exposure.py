"""What the batches of a training showed: kinds, languages, examples, distinct pairs and texts, tokens, negatives.

Counted over the batches of all ranks together, as they are drawn, so that every rank knows it without exchange.
A checkpoint carries the counts. Cost: O(batch log batch) a batch. Imports nothing heavy.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyhbt.data.pair_set import PairSet
    from pyhbt.encoders import Encoder
    from pyhbt.training.batches import Draw

ALL: Final = "*"  # in the place of a language: all of them
_CHUNK_TEXTS = 4096
_DISTINCT = ("pairs", "queries", "passages")


class Count(NamedTuple):
    """Batches, the pairs in them (examples), how many batches were short, and sums over the examples.

    ``tokens`` are those of query and passage, ``negatives`` the passages that the query was contrasted with.
    """

    batches: int = 0
    pairs: int = 0
    short: int = 0
    tokens: int = 0
    negatives: int = 0

    def plus(self, pairs: int, short: bool, tokens: int = 0, negatives: int = 0) -> Count:
        """With one batch more, of so many pairs."""
        return Count(
            self.batches + 1,
            self.pairs + pairs,
            self.short + short,
            self.tokens + tokens,
            self.negatives + negatives,
        )

    def __or__(self, other: Count) -> Count:
        """Both together."""
        return Count(*map(sum, zip(self, other, strict=True)))

    @property
    def pairs_per_batch(self) -> float:
        """Mean number of pairs; 0 where there was no batch."""
        return self.pairs / self.batches if self.batches else 0.0

    @property
    def negatives_per_query(self) -> float:
        """Mean number of negatives; 0 where there was no batch."""
        return self.negatives / self.pairs if self.pairs else 0.0


class Figure(NamedTuple):
    """One figure of an exposure; ``*`` is all languages, kind "all" both kinds."""

    kind: str
    query_lang: str
    passage_lang: str
    name: str
    value: float


@dataclass(frozen=True)
class TextLengths:
    """Tokens of every text of some pairs, as an encoder makes them: prefixes included, cut to its maximum.

    ``queries`` and ``passages`` are int32, in the order of the pairs' texts.
    """

    queries: NDArray[np.int32]
    passages: NDArray[np.int32]

    @classmethod
    def of(cls, encoder: Encoder, pairs: PairSet) -> TextLengths:
        """Tokenise every distinct text once. O(texts)."""

        def lengths(texts: tuple[str, ...], kind: Any) -> NDArray[np.int32]:
            parts = [
                [len(ids) for ids in encoder.token_ids(texts[start : start + _CHUNK_TEXTS], kind)]
                for start in range(0, len(texts), _CHUNK_TEXTS)
            ]
            return np.array([length for part in parts for length in part], dtype=np.int32)

        return cls(lengths(pairs.queries, "query"), lengths(pairs.passages, "passage"))

    def of_rows(self, pairs: PairSet, rows: Any = slice(None)) -> NDArray[np.int64]:
        """Tokens of query and passage of each pair of ``rows``, int64 (n,)."""
        total: NDArray[np.int64] = self.queries[pairs.query_index[rows]].astype(np.int64)
        total += self.passages[pairs.passage_index[rows]]
        return total


class Exposure:
    """Counts of the batches so far: by kind, and by the languages of query and passage.

    ``batch_size`` is the number of pairs of a full batch, all ranks together; a batch of fewer distinct pairs is short.
    A batch of many language pairs counts for each of them. With ``pairs``, distinct ones are told apart; with
    ``lengths``, tokens are counted.
    """

    def __init__(
        self, batch_size: int, pairs: PairSet | None = None, lengths: TextLengths | None = None
    ) -> None:
        self.batch_size = batch_size
        self.kinds: dict[str, Count] = {}
        self.languages: dict[tuple[str, str], Count] = {}
        self.has_tokens = lengths is not None
        self._pairs = pairs
        self._lengths = lengths
        self._seen = np.zeros(0 if pairs is None else len(pairs), dtype=np.bool_)
        self._distinct: dict[tuple[str, str, str], list[int]] = {}  # of a restored state without pairs

    def add(
        self,
        pairs: Mapping[tuple[str, str], int],
        tokens: Mapping[tuple[str, str], int] | None = None,
        negatives: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """A batch, by its number of pairs in each (query language, passage language), all of one kind.

        ``tokens`` and ``negatives`` are the sums over these pairs.
        """
        tokens, negatives = tokens or {}, negatives or {}
        total = sum(pairs.values())
        short = total < self.batch_size
        kind = "cross-lingual" if any(query != passage for query, passage in pairs) else "monolingual"
        sums = sum(tokens.values()), sum(negatives.values())
        self.kinds[kind] = self.kinds.get(kind, Count()).plus(total, short, *sums)
        for languages, number in pairs.items():
            count = self.languages.get(languages, Count())
            self.languages[languages] = count.plus(
                number, short, tokens.get(languages, 0), negatives.get(languages, 0)
            )

    def add_rows(self, rows: NDArray[np.int64]) -> None:
        """A batch, by the positions of its distinct pairs."""
        pairs = self._pairs
        if pairs is None:
            raise ValueError("pairs: found None, expected those that rows are positions in")
        code = pairs.query_langs[rows] * len(pairs.languages) + pairs.passage_langs[rows]
        codes, place = np.unique(code, return_inverse=True)
        counts = np.bincount(place)
        lengths = None if self._lengths is None else self._lengths.of_rows(pairs, rows)
        sums = [
            None if values is None else np.bincount(place, values).astype(np.int64)
            for values in (lengths, _negatives(pairs, rows))
        ]
        names = [
            (pairs.languages[query], pairs.languages[passage])
            for query, passage in (divmod(int(value), len(pairs.languages)) for value in codes)
        ]
        by_languages = [
            None if values is None else dict(zip(names, values.tolist(), strict=True))
            for values in (counts, *sums)
        ]
        self._seen[rows] = True
        self.add(by_languages[0] or {}, by_languages[1], by_languages[2])

    @property
    def total(self) -> Count:
        """Both kinds together."""
        return _sum(self.kinds.values())

    @property
    def languages_as_queries(self) -> frozenset[str]:
        """Languages that queries were drawn in."""
        return frozenset(query for query, _ in self.languages)

    @property
    def languages_as_passages(self) -> frozenset[str]:
        """Languages that passages were drawn in."""
        return frozenset(passage for _, passage in self.languages)

    @property
    def figures(self) -> dict[str, float]:
        """For a row of the log; so far: mean number of pairs a batch, and how many batches were short."""
        return {"pairs_per_batch": self.total.pairs_per_batch, "short_batches": self.total.short}

    def totals(self) -> list[Figure]:
        """What grows over a training, over all languages and kinds: batches, examples, and tokens where they count."""
        return list(self._of_count("all", ALL, ALL, self.total))[: 3 if self.has_tokens else 2]

    def rows(self) -> list[Figure]:
        """Figures in all, by kind, by language of queries and by that of passages; :meth:`state` has the pairs too.

        ``exposure batches``, ``exposure examples``, ``exposure tokens``, ``exposure short batches``, ``exposure
        negatives per query``, ``exposure distinct pairs`` / ``queries`` / ``passages``; and in all ``exposure ratio``,
        the share of cross-lingual batches.
        """
        found = []
        for kind, query, passage, count in self._parts():
            if ALL not in (query, passage):
                continue  # a language pair
            found += list(self._of_count(kind, query, passage, count))
            distinct = self.distinct(kind, query, passage)
            if distinct is not None:
                found += [
                    Figure(kind, query, passage, f"exposure distinct {name}", number)
                    for name, number in zip(_DISTINCT, distinct, strict=True)
                ]
        batches = self.total.batches
        if batches:
            ratio = self.kinds.get("cross-lingual", Count()).batches / batches
            found.append(Figure("all", ALL, ALL, "exposure ratio", ratio))
        return found

    def _parts(self) -> Iterator[tuple[str, str, str, Count]]:
        yield "all", ALL, ALL, self.total
        for kind, count in sorted(self.kinds.items()):
            yield kind, ALL, ALL, count
        for (query, passage), count in sorted(self.languages.items()):
            yield "monolingual" if query == passage else "cross-lingual", query, passage, count
        for language in sorted(self.languages_as_queries):
            mine = [count for (query, _), count in self.languages.items() if query == language]
            yield "all", language, ALL, _sum(mine)
        for language in sorted(self.languages_as_passages):
            mine = [count for (_, passage), count in self.languages.items() if passage == language]
            yield "all", ALL, language, _sum(mine)

    def _of_count(self, kind: str, query: str, passage: str, count: Count) -> Iterator[Figure]:
        named = {"batches": count.batches, "examples": count.pairs}
        if self.has_tokens:
            named["tokens"] = count.tokens
        named |= {"short batches": count.short}
        for name, value in named.items():
            yield Figure(kind, query, passage, f"exposure {name}", value)
        yield Figure(kind, query, passage, "exposure negatives per query", count.negatives_per_query)

    def distinct(self, kind: str, query_lang: str, passage_lang: str) -> list[int] | None:
        """Distinct pairs, query texts and passage texts of a part; None where they were not told apart."""
        if self._pairs is None:
            return self._distinct.get((kind, query_lang, passage_lang))
        pairs = self._pairs
        chosen = self._seen.copy()
        same = pairs.query_langs == pairs.passage_langs
        if kind != "all":
            chosen &= same if kind == "monolingual" else ~same
        for column, language in ((pairs.query_langs, query_lang), (pairs.passage_langs, passage_lang)):
            if language != ALL:
                chosen &= column == pairs.languages.index(language)
        rows = np.flatnonzero(chosen)
        return [len(rows), len(np.unique(pairs.query_index[rows])), len(np.unique(pairs.passage_index[rows]))]

    def state(self) -> dict[str, Any]:
        """Numbers for JSON, from which :meth:`restore` makes the same counts."""
        state: dict[str, Any] = {
            "batch_size": self.batch_size,
            "tokens": self.has_tokens,
            "kinds": {kind: list(count) for kind, count in sorted(self.kinds.items())},
            "languages": [[*languages, *count] for languages, count in sorted(self.languages.items())],
            "distinct": [
                [*key, *numbers]
                for *key, _ in self._parts()
                if (numbers := self.distinct(key[0], key[1], key[2])) is not None
            ],
        }
        if self._pairs is not None:
            packed = zlib.compress(np.packbits(self._seen).tobytes())
            state["seen"] = base64.b85encode(packed).decode("ascii")
        return state

    @classmethod
    def restore(
        cls,
        state: Mapping[str, Any],
        pairs: PairSet | None = None,
        lengths: TextLengths | None = None,
    ) -> Exposure:
        """The counts of a state; with ``pairs``, those of the training, more batches may be added.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        exposure = cls(int(state["batch_size"]), pairs, lengths)
        exposure.has_tokens = bool(state.get("tokens", False))
        exposure.kinds = {kind: Count(*count) for kind, count in state["kinds"].items()}
        exposure.languages = {
            (query, passage): Count(*count) for query, passage, *count in state["languages"]
        }
        exposure._distinct = {
            (kind, query, passage): numbers for kind, query, passage, *numbers in state.get("distinct", ())
        }
        if pairs is not None and "seen" in state:
            packed = np.frombuffer(zlib.decompress(base64.b85decode(state["seen"])), dtype=np.uint8)
            exposure._seen = np.unpackbits(packed, count=len(pairs)).astype(np.bool_)
        return exposure

    @classmethod
    def merged(cls, first: Exposure, second: Exposure) -> Exposure:
        """What two trainings on the same pairs saw together."""
        both = cls(first.batch_size, first._pairs, first._lengths)
        both.has_tokens = first.has_tokens and second.has_tokens
        for one in (first, second):
            for kind, count in one.kinds.items():
                both.kinds[kind] = both.kinds.get(kind, Count()) | count
            for languages, count in one.languages.items():
                both.languages[languages] = both.languages.get(languages, Count()) | count
        both._seen = first._seen | second._seen
        return both


def _sum(counts: Iterable[Count]) -> Count:
    total = Count()
    for count in counts:
        total |= count
    return total


def _negatives(pairs: PairSet, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each pair of a batch: its passages and hard negatives that do not answer the pair's query, int64 (n,).

    Passages that a training adds to pairs, such as translations, are not counted.
    """
    own = pairs.passage_index[rows]
    hard = [text for row in rows.tolist() for text in pairs.negatives.get(row, ())]
    texts = np.unique(np.concatenate([own, np.array(hard, dtype=own.dtype)]))
    groups, counts = np.unique(pairs.answer_groups[texts], return_counts=True)
    mine = pairs.answer_groups[own]
    answers: NDArray[np.int64] = counts[np.searchsorted(groups, mine)]
    return len(texts) - answers


class _Draws(Protocol):
    def __iter__(self) -> Iterator[Draw]: ...
    def __len__(self) -> int: ...


class CountedDraws:
    """Draws of a training on their way to the data loader, and what was in those that have been trained on.

    A loader draws ahead, so a batch waits here until :meth:`count_to` says that its step is done; of draws that are
    repeated when a training goes on, those counted before are left out.
    """

    def __init__(self, exposure: Exposure) -> None:
        self.exposure = exposure
        self._waiting: dict[int, list[int]] = {}

    def watch(self, draws: _Draws) -> _WatchedDraws:
        """The same draws, seen."""
        return _WatchedDraws(draws, self._see)

    def _see(self, draw: Draw) -> None:
        if draw.step >= self.exposure.total.batches:
            self._waiting.setdefault(draw.step, []).extend(draw.rows)

    def count_to(self, step: int) -> Exposure:
        """Count the batches before ``step``, from 0; returns the counts so far."""
        for done in sorted(number for number in self._waiting if number < step):
            self.exposure.add_rows(np.unique(self._waiting.pop(done)))
        return self.exposure


class _WatchedDraws(Iterable["Draw"]):
    def __init__(self, draws: _Draws, see: Any) -> None:
        self._draws = draws
        self._see = see

    def __len__(self) -> int:
        return len(self._draws)

    def __iter__(self) -> Iterator[Draw]:
        for draw in self._draws:
            self._see(draw)
            yield draw
