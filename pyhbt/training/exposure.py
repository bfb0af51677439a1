"""What the batches of a training held: languages, kinds, and how many were short.

Counted over the batches of all ranks together, as they are drawn, so that every rank knows it without exchange.
A checkpoint carries the counts. Cost: O(batch log batch) a batch. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from pyhbt.data.pair_set import PairSet
    from pyhbt.training.batches import Draw


class Count(NamedTuple):
    """Batches, the pairs in them, and how many of the batches were short."""

    batches: int = 0
    pairs: int = 0
    short: int = 0

    def plus(self, pairs: int, short: bool) -> Count:
        """With one batch more, of so many pairs."""
        return Count(self.batches + 1, self.pairs + pairs, self.short + short)

    @property
    def pairs_per_batch(self) -> float:
        """Mean number of pairs; 0 where there was no batch."""
        return self.pairs / self.batches if self.batches else 0.0


class Exposure:
    """Counts of the batches so far: by kind, and by the languages of query and passage.

    ``batch_size`` is the number of pairs of a full batch, all ranks together; a batch of fewer distinct pairs is short.
    A batch of many language pairs counts for each of them.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.kinds: dict[str, Count] = {}
        self.languages: dict[tuple[str, str], Count] = {}

    def add(self, pairs: Mapping[tuple[str, str], int]) -> None:
        """A batch, by its number of pairs in each (query language, passage language), all of one kind."""
        total = sum(pairs.values())
        short = total < self.batch_size
        kind = "cross-lingual" if any(query != passage for query, passage in pairs) else "monolingual"
        self.kinds[kind] = self.kinds.get(kind, Count()).plus(total, short)
        for languages, number in pairs.items():
            self.languages[languages] = self.languages.get(languages, Count()).plus(number, short)

    @property
    def total(self) -> Count:
        """Both kinds together."""
        return Count(*map(sum, zip(*self.kinds.values(), strict=True))) if self.kinds else Count()

    @property
    def figures(self) -> dict[str, float]:
        """For a row of the log; so far: mean number of pairs a batch, and how many batches were short."""
        return {"pairs_per_batch": self.total.pairs_per_batch, "short_batches": self.total.short}

    def state(self) -> dict[str, Any]:
        """Numbers for JSON, from which :meth:`restore` makes the same counts."""
        return {
            "batch_size": self.batch_size,
            "kinds": {kind: list(count) for kind, count in sorted(self.kinds.items())},
            "languages": [[*languages, *count] for languages, count in sorted(self.languages.items())],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Exposure:
        """The counts of a state.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        exposure = cls(int(state["batch_size"]))
        exposure.kinds = {kind: Count(*count) for kind, count in state["kinds"].items()}
        exposure.languages = {
            (query, passage): Count(*count) for query, passage, *count in state["languages"]
        }
        return exposure


class _Draws(Protocol):
    def __iter__(self) -> Iterator[Draw]: ...
    def __len__(self) -> int: ...


class CountedDraws:
    """Draws of a training on their way to the data loader, and what was in those that have been trained on.

    A loader draws ahead, so a batch waits here until :meth:`count_to` says that its step is done; of draws that are
    repeated when a training goes on, those counted before are left out.
    """

    def __init__(self, pairs: PairSet, exposure: Exposure) -> None:
        self.exposure = exposure
        self._pairs = pairs
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
            self._count(np.unique(self._waiting.pop(done)))
        return self.exposure

    def _count(self, rows: Any) -> None:
        names = self._pairs.languages
        languages = np.stack([self._pairs.query_langs[rows], self._pairs.passage_langs[rows]], axis=1)
        distinct, numbers = np.unique(languages, axis=0, return_counts=True)
        self.exposure.add(
            {
                (names[query], names[passage]): number
                for (query, passage), number in zip(distinct.tolist(), numbers.tolist(), strict=True)
            }
        )


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
