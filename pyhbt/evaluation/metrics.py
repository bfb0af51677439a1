"""Per-query retrieval measures from the ranks of the relevant passages.

Shapes: ``ranks`` int64 (n, t), the 1-based ranks of the up to t relevant passages of each of n queries, 0 where a
query has fewer; ``gains`` (n, t), the relevance of the same passages, needed by nDCG alone. Every measure returns
float64 (n,) and is equal to trec_eval's of the same name on a full run without ties. A query whose ranks are all
0 scores 0. Cost O(n t log t).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]
Gains = NDArray[np.float64]
Values = NDArray[np.float64]


def average_precision(ranks: Ranks, cutoff: int | None = None) -> Values:
    """Mean over the relevant passages of precision at their rank; trec_eval's ``map`` (or ``map_cut``)."""
    ordered = np.sort(np.where(ranks > 0, ranks, np.iinfo(np.int64).max), axis=1)
    found = ordered < np.iinfo(np.int64).max
    if cutoff is not None:
        found &= ordered <= cutoff
    precision = np.arange(1, ranks.shape[1] + 1) / ordered
    return ratio(np.where(found, precision, 0.0).sum(axis=1), (ranks > 0).sum(axis=1))


def recall(ranks: Ranks, cutoff: int) -> Values:
    """Share of the relevant passages ranked within the cutoff; trec_eval's ``recall``."""
    return ratio(((ranks > 0) & (ranks <= cutoff)).sum(axis=1), (ranks > 0).sum(axis=1))


def reciprocal_rank(ranks: Ranks, cutoff: int | None = None) -> Values:
    """1 / rank of the first relevant passage, 0 beyond the cutoff; trec_eval's ``recip_rank``."""
    first = np.where(ranks > 0, ranks, np.iinfo(np.int64).max).min(axis=1, initial=np.iinfo(np.int64).max)
    within = first < np.iinfo(np.int64).max if cutoff is None else first <= cutoff
    return np.where(within, 1.0 / first, 0.0)


def ndcg(ranks: Ranks, gains: Gains, cutoff: int) -> Values:
    """Discounted gain over that of the ideal order, gains linear and discounts log2(rank + 1).

    trec_eval's ``ndcg_cut``; Järvelin & Kekäläinen 2002, doi:10.1145/582415.582418, in the form of Burges et al.
    2005 with linear gains.
    """
    present = ranks > 0
    gains = np.where(present, gains, 0.0)
    seen = present & (ranks <= cutoff)
    gained = (np.where(seen, gains, 0.0) / np.log2(np.where(present, ranks, 1) + 1.0)).sum(axis=1)
    ideal = -np.sort(-gains, axis=1)[:, :cutoff]
    best = (ideal / np.log2(np.arange(ideal.shape[1]) + 2.0)).sum(axis=1)
    return ratio(gained, best)


def measure(name: str) -> Callable[[Ranks, Gains], Values]:
    """The measure of that name: ``mAP``, ``mAP@k``, ``recall@k``, ``nDCG@k``, ``MRR`` or ``MRR@k``.

    Raises:
        ValueError: no such measure, or a cutoff below 1.
    """
    match = re.fullmatch(r"(mAP|recall|nDCG|MRR)(?:@([0-9]+))?", name)
    cutoff = int(match[2]) if match and match[2] else None
    if match is None or cutoff == 0 or (cutoff is None and match[1] in ("recall", "nDCG")):
        raise ValueError(
            f"metric: found {name!r}, expected mAP, mAP@k, recall@k, nDCG@k, MRR or MRR@k, k >= 1"
        )
    if match[1] == "mAP":
        return lambda ranks, gains: average_precision(ranks, cutoff)
    if match[1] == "MRR":
        return lambda ranks, gains: reciprocal_rank(ranks, cutoff)
    depth = cutoff or 1
    if match[1] == "recall":
        return lambda ranks, gains: recall(ranks, depth)
    return lambda ranks, gains: ndcg(ranks, gains, depth)


def ratio(
    numerator: NDArray[np.floating] | NDArray[np.int64], denominator: NDArray[np.generic], empty: float = 0.0
) -> Values:
    """numerator / denominator, ``empty`` where the denominator is 0."""
    bottom = denominator.astype(np.float64)
    quotient = np.full(len(bottom), empty)
    np.divide(numerator, bottom, out=quotient, where=bottom > 0)
    return quotient
