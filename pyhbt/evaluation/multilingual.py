"""Measures of language bias and preference, from the pool of all languages; prepared once for a retrieval set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.evaluation.bias import max_rank, mean_rank_correlation, peer, peer_depends_on_ranks, rank_distance
from pyhbt.evaluation.names import (
    FIRST_PLACES,
    FIRST_RELEVANT,
    GRADED_CUTOFF,
    GRADED_NDCG,
    MAX_RANK,
    PEER,
    PEER_CUTOFF,
    RANK_CORRELATION,
    RANK_CORRELATION_CUTOFF,
    RANK_DISTANCE,
    RANK_SHIFT,
    TOP_1_SAME_LANGUAGE,
)
from pyhbt.evaluation.pools import Pool, select_rows
from pyhbt.evaluation.preference import (
    first_places,
    first_relevant_in_own_language,
    language_graded_ndcg,
    rank_shift,
)
from pyhbt.ops import search


class LanguageMeasures:
    """What ranks in the pool of all languages say about the languages of queries and passages.

    Args:
        data: the retrieval set.
        pool: its pool of all languages, with at least one query.
    """

    def __init__(self, data: RetrievalSet, pool: Pool) -> None:
        self._pool = pool
        query_langs = np.asarray(data.query_langs)[pool.queries]
        coded, self._passage_langs = np.unique(np.asarray(data.passage_langs), return_inverse=True)
        places = np.minimum(np.searchsorted(coded, query_langs), len(coded) - 1)
        self._own = np.where(coded[places] == query_langs, places, -1)  # -1: no passage has it
        self._query_langs = np.unique(query_langs, return_inverse=True)[1]
        self._questions = np.unique(np.asarray(data.questions)[pool.queries], return_inverse=True)[1]
        self._target_langs = self._passage_langs[pool.targets]
        self._peer_tells = peer_depends_on_ranks(pool.gains, self._target_langs)

    def of(
        self, found: NDArray[np.int64], queries: Tensor, passages: Tensor
    ) -> dict[str, NDArray[np.float64]]:
        """Each measure of each of the pool's queries: from the ranks ``found`` and a search, O(n m d)."""
        pool, langs, own = self._pool, self._target_langs, self._own
        depth = min(RANK_CORRELATION_CUTOFF, len(pool.passages))
        first = search(select_rows(queries, pool.queries), passages, depth)[1].numpy()
        first_langs, answerable = self._passage_langs[first[:, 0]], own >= 0
        same = np.where(answerable, (first_langs == own).astype(np.float64), np.nan)
        places = first_places(found, first_langs, own, answerable)
        fairness = np.full(len(found), np.nan)
        tells = self._peer_tells
        fairness[tells] = peer(found[tells], pool.gains[tells], langs[tells], PEER_CUTOFF)
        return {
            RANK_DISTANCE: rank_distance(found, langs),
            MAX_RANK: max_rank(found, langs),
            TOP_1_SAME_LANGUAGE: same,
            RANK_CORRELATION: mean_rank_correlation(first, self._questions, self._query_langs),
            PEER: fairness,
            FIRST_RELEVANT: first_relevant_in_own_language(found, langs, own),
            RANK_SHIFT: rank_shift(found, langs, own),
            GRADED_NDCG: language_graded_ndcg(found, pool.gains, langs, own, GRADED_CUTOFF),
            **dict(zip(FIRST_PLACES, places, strict=True)),
        }
