"""Pools: the corpora that queries of each language are ranked in, prepared once for every evaluation of a set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import Tier, scarcer
from pyhbt.evaluation.names import ALL_LANGUAGES, TWO_LANGUAGE, Setting
from pyhbt.evaluation.result import Block
from pyhbt.ops import ranks as exact_ranks
from pyhbt.ops.groups import grouped_ranks

AND = "+"  # between the two languages of a pool


@dataclass(frozen=True)
class Pool:
    """A corpus and the queries that have relevant passages in it.

    ``passages`` and ``queries`` are positions in the set; ``targets`` int64 (queries, t) are the relevant
    passages as positions in the pool, padded by -1; ``gains`` are their relevances.
    """

    lang: str
    passages: NDArray[np.int64]
    queries: NDArray[np.int64]
    targets: NDArray[np.int64]
    gains: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        lang: str,
        passages: NDArray[np.int64],
        judgements: NDArray[np.int64],
        wanted: NDArray[np.bool_],
    ) -> Pool:
        """The pool ``passages`` for the queries ``wanted`` (one flag a query), from :func:`judgements_of`."""
        query, passage, gain = judgements
        place = np.full(passage.max(initial=-1) + 1, -1, dtype=np.int64)
        inside = passages[passages < len(place)]
        place[inside] = np.flatnonzero(passages < len(place))
        chosen = (place[passage] >= 0) & wanted[query]
        queries, row, counts = np.unique(query[chosen], return_inverse=True, return_counts=True)
        column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(queries), int(counts.max(initial=0)))
        targets, gains = np.full(shape, -1, dtype=np.int64), np.zeros(shape)
        targets[row, column] = place[passage[chosen]]
        gains[row, column] = gain[chosen]
        return cls(lang, passages, queries, targets, gains)

    def ranks(self, queries: Tensor, passages: Tensor) -> NDArray[np.int64]:
        """Ranks of the targets, int64 (queries, t), from the embeddings of the whole set."""
        found: NDArray[np.int64] = exact_ranks(
            select_rows(queries, self.queries),
            select_rows(passages, self.passages),
            torch.from_numpy(self.targets),
        ).numpy()
        return found

    def setting(self, query_lang: str) -> Setting:
        """What a query of a language asks of this pool."""
        if self.lang == ALL_LANGUAGES:
            return "multilingual"
        if AND in self.lang:
            return TWO_LANGUAGE
        return "monolingual" if self.lang == query_lang else "cross-lingual"


class PoolGroup:
    """Pools that are scored together: one array over the queries of all of them, cut into blocks of a language pair.

    Args:
        pools: at least one.
        data: the set that they are of.
    """

    def __init__(self, pools: Sequence[Pool], data: RetrievalSet) -> None:
        self._pools = tuple(pools)
        self._ends = np.cumsum([len(pool.queries) for pool in self._pools])
        self.gains = np.zeros((int(self._ends[-1]), max(pool.targets.shape[1] for pool in self._pools)))
        for pool, part in self.parts():
            self.gains[part, : pool.gains.shape[1]] = pool.gains
        queries = np.concatenate([pool.queries for pool in self._pools])
        langs, lang = np.unique(np.asarray(data.query_langs), return_inverse=True)
        number = np.repeat(np.arange(len(self._pools)), [len(pool.queries) for pool in self._pools])
        pairs, self._block, counts = np.unique(
            number * len(langs) + lang[queries], return_inverse=True, return_counts=True
        )
        self._order = np.argsort(self._block, kind="stable")
        self._queries = queries[self._order]
        self._stops = np.cumsum(counts)
        self._heads = [
            self._head(self._pools[pair // len(langs)], str(langs[pair % len(langs)]), data.tiers)
            for pair in pairs
        ]

    def parts(self) -> Iterator[tuple[Pool, slice]]:
        """Each pool and its rows."""
        for pool, end in zip(self._pools, self._ends, strict=True):
            yield pool, slice(int(end) - len(pool.queries), int(end))

    @staticmethod
    def _head(pool: Pool, query_lang: str, tiers: Mapping[str, Tier]) -> tuple[Setting, str, str, Tier]:
        setting, tier = pool.setting(query_lang), tiers[query_lang]
        for lang in pool.lang.split(AND) if setting != "multilingual" else ():
            tier = scarcer(tier, tiers[lang])
        return setting, query_lang, pool.lang, tier

    def ranks(self, queries: Tensor, passages: Tensor) -> NDArray[np.int64]:
        """Ranks of the relevant passages, int64 (rows, t), 0 where there are fewer; rows as ``gains``."""
        found = np.zeros(self.gains.shape, dtype=np.int64)
        for pool, part in self.parts():
            found[part, : pool.targets.shape[1]] = pool.ranks(queries, passages)
        return found

    def blocks(self, values: Mapping[str, NDArray[np.float64]]) -> Iterator[Block]:
        """The scores of every row, by metric, cut into blocks."""
        means = {
            name: means_by(self._block, value, len(self._heads)).tolist() for name, value in values.items()
        }
        ordered = {name: value[self._order] for name, value in values.items()}  # slices are views
        start = 0
        for number, (head, stop) in enumerate(zip(self._heads, self._stops.tolist(), strict=True)):
            yield Block(
                *head,
                self._queries[start:stop],
                {name: value[start:stop] for name, value in ordered.items()},
                {name: mean[number] for name, mean in means.items()},
            )
            start = stop


class OnePass:
    """Ranks in the pool of all languages and in those of one language each, from one pass over the passages.

    Args:
        single: the pools of one language.
        whole: the pool of all.
        ends: int64 (languages,), one past the last passage of each language, in the order of the passages.
    """

    def __init__(self, single: PoolGroup, whole: Pool, ends: NDArray[np.int64]) -> None:
        self._whole, self._ends = whole, torch.from_numpy(ends)
        size = len(whole.passages)
        present = np.flatnonzero(whole.targets >= 0)
        keys = _keys(whole, size)[whole.targets >= 0]  # rising, as judgements are sorted
        self._shape = single.gains.shape
        rows, places = [], []
        for pool, part in single.parts():
            mine = np.argwhere(pool.targets >= 0)
            wanted = _keys(pool, size)[pool.targets >= 0]
            rows.append((mine[:, 0] + part.start) * self._shape[1] + mine[:, 1])
            places.append(present[np.searchsorted(keys, wanted)])
        self._rows, self._places = np.concatenate(rows), np.concatenate(places)

    def ranks(self, queries: Tensor, passages: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ranks as of :meth:`PoolGroup.ranks`: in the pools of one language, and in that of all."""
        asking = select_rows(queries, self._whole.queries)
        everywhere, within = grouped_ranks(
            asking, passages, torch.from_numpy(self._whole.targets), self._ends
        )
        found = np.zeros(self._shape, dtype=np.int64)
        found.reshape(-1)[self._rows] = within.numpy().reshape(-1)[self._places]
        return found, everywhere.numpy()


def _keys(pool: Pool, size: int) -> NDArray[np.int64]:
    """A number for every query and target of a pool (queries, t), the same in every pool of a set."""
    keys: NDArray[np.int64] = pool.queries[:, None] * size + pool.passages[pool.targets]
    return keys


def language_ends(langs: NDArray[np.str_]) -> NDArray[np.int64] | None:
    """Where the passages of each language end; None where those of one do not lie side by side."""
    ends = np.append(np.flatnonzero(langs[1:] != langs[:-1]) + 1, len(langs))
    return ends if len(ends) == len(np.unique(langs)) else None


def judgements_of(data: RetrievalSet) -> NDArray[np.int64]:
    """Relevant (query, passage, relevance) by position, int64 (3, r), sorted by query."""
    query_place = {name: place for place, name in enumerate(data.query_ids)}
    passage_place = {name: place for place, name in enumerate(data.passage_ids)}
    rows = [
        (query_place[query], passage_place[passage], relevance)
        for query, passages in data.qrels.items()
        for passage, relevance in passages.items()
        if relevance > 0
    ]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return np.ascontiguousarray(table[np.lexsort((table[:, 1], table[:, 0]))].T)


def means_by(code: NDArray[np.int64], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Mean of the values of each code that are not NaN, float64 (size,); NaN for a code without any."""
    defined = ~np.isnan(values)
    sums = np.bincount(code[defined], weights=values[defined], minlength=size)
    counts = np.bincount(code[defined], minlength=size)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
    return means


def select_rows(embeddings: Tensor, rows: NDArray[np.int64]) -> Tensor:
    """The rows chosen, in rising order; the embeddings themselves where that is all of them."""
    return embeddings if len(rows) == len(embeddings) else embeddings[torch.from_numpy(rows)]
