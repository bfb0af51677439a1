"""Per-query measures of preference for the query's own language, from the ranks of one multilingual pool.

Shapes: ``ranks`` int64 (n, t), the 1-based ranks of the up to t relevant passages of each of n queries, 0 where a query
has fewer; ``langs`` int64 (n, t), their languages, and ``own`` int64 (n,), the queries', numbered alike; ``gains`` (n,
t). Every measure returns float64 (n,), NaN for queries that it says nothing about. Cost O(n t log t).

They are defined here, after ideas of others whose equations differ or could not be compared: the preference rate, the
graded gains and the split of first places after MLAIRE (arXiv 2605.07249), the rank shift after MLRS (arXiv
2502.11175), where passages are translated and ranked again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyhbt.evaluation.metrics import Gains, Ranks, Values, ndcg, ratio

Langs = NDArray[np.int64]

_OTHER_LANGUAGE = 0.5  # share of its gain that a relevant passage in another language keeps


def first_relevant_in_own_language(ranks: Ranks, langs: Langs, own: Langs) -> Values:
    """1 where the best-ranked relevant passage is in the query's language, else 0.

    NaN for queries without relevant passages in their language, or without any in another: there is nothing to prefer.
    """
    mine, others = _best_ranks(ranks, langs, own)
    return np.where(np.isfinite(mine) & np.isfinite(others), (mine < others).astype(np.float64), np.nan)


def rank_shift(ranks: Ranks, langs: Langs, own: Langs) -> Values:
    """How much of their way up the relevant passages of other languages would go, were they in the query's language.

    With r_i the ranks of the relevant passages in other languages and r the best rank of one in the query's language:
    sum_i max(r_i - r, 0) / sum_i (r_i - 1). 0 says that the query's language is not preferred, 1 that all would come
    first. NaN where either kind is missing, or where the passages of other languages cannot rise.
    """
    present = ranks > 0
    foreign = present & (langs != own[:, None])
    mine, _ = _best_ranks(ranks, langs, own)
    known = np.isfinite(mine)
    target = np.where(known, mine, 0.0)[:, None]
    gained = np.where(foreign, np.maximum(ranks - target, 0.0), 0.0).sum(axis=1)
    possible = np.where(foreign, ranks - 1.0, 0.0).sum(axis=1)
    return ratio(gained, np.where(known, possible, 0.0), np.nan)


def language_graded_ndcg(ranks: Ranks, gains: Gains, langs: Langs, own: Langs, cutoff: int) -> Values:
    """nDCG@k with half the gain for relevant passages in other languages than the query's.

    1 where relevant passages come first and those of the query's language first of all. NaN as in
    :func:`first_relevant_in_own_language`.
    """
    mine, others = _best_ranks(ranks, langs, own)
    graded = np.where(langs == own[:, None], gains, _OTHER_LANGUAGE * gains)
    return np.where(np.isfinite(mine) & np.isfinite(others), ndcg(ranks, graded, cutoff), np.nan)


def first_places(ranks: Ranks, first_langs: Langs, own: Langs, answerable: NDArray[np.bool_]) -> list[Values]:
    """Whether the first passage is right or wrong, in the query's language or another: four indicators that sum to 1.

    Args:
        ranks: of the relevant passages.
        first_langs: (n,), the language of each query's first passage.
        own: that of the query.
        answerable: (n,), whether the pool has passages in the query's language; NaN for the others.

    Returns:
        Right and own language, right and another, wrong and own, wrong and another.
    """
    right, same = (ranks == 1).any(axis=1), first_langs == own
    cases = (right & same, right & ~same, ~right & same, ~right & ~same)
    return [np.where(answerable, case.astype(np.float64), np.nan) for case in cases]


def _best_ranks(ranks: Ranks, langs: Langs, own: Langs) -> tuple[Values, Values]:
    """Best ranks (n,) of relevant passages in the query's language and in others; inf where there is none."""
    present, same = ranks > 0, langs == own[:, None]
    mine = np.where(present & same, ranks, np.inf).min(axis=1, initial=np.inf)
    others = np.where(present & ~same, ranks, np.inf).min(axis=1, initial=np.inf)
    return mine, others
