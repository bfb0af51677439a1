"""Bitext mining by the formulas, in NumPy and plain Python: full score matrices, LASER's loops, a stated order.

``score_candidates``, the strategies and the greedy choice are those of LASER's source/mine_bitexts.py and of
sentence-transformers' bitext_mining.py; what those leave to ``argsort`` is lower source, then lower target here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int, float]
MARGINS = ("ratio", "distance", "absolute")
RETRIEVALS = ("mutual", "forward", "backward", "max")


def score_matrix(x: NDArray[Any], y: NDArray[Any], similarity: str) -> NDArray[np.float64]:
    """(n, m) in float64."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    scores: NDArray[np.float64] = a @ b.T
    if similarity == "cosine":
        norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
        scores = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
    return scores


def nearest(scores: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As ``knn`` of LASER; scores as a search gives them, rounded to float32."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1).astype(np.float32).astype(np.float64), order


def margin_of(a: float, mean: float, margin: str) -> float:
    if margin == "absolute":
        return a
    return a - mean if margin == "distance" else a / max(mean, 2**-23)


def score_candidates(
    near: tuple[NDArray[np.float64], NDArray[np.int64]],
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    margin: str,
) -> list[list[tuple[float, int]]]:
    """(margin, place) of every candidate of every sentence."""
    scores, places = near
    return [
        [
            (margin_of(scores[i, j], (own[i] + others[place]) / 2, margin), int(place))
            for j, place in enumerate(places[i])
        ]
        for i in range(len(scores))
    ]


def candidates(
    x: NDArray[Any], y: NDArray[Any], k: int, margin: str, similarity: str
) -> tuple[list[list[tuple[float, int]]], list[list[tuple[float, int]]]]:
    scores = score_matrix(x, y, similarity)
    there, back = nearest(scores, k), nearest(scores.T, k)
    forward_means, backward_means = there[0].mean(axis=1), back[0].mean(axis=1)
    return (
        score_candidates(there, forward_means, backward_means, margin),
        score_candidates(back, backward_means, forward_means, margin),
    )


def best(rows: list[list[tuple[float, int]]]) -> list[tuple[float, int]]:
    return [min(row, key=lambda found: (-found[0], found[1])) for row in rows]


def mined(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    k: int = 4,
    margin: str = "ratio",
    retrieval: str = "mutual",
    threshold: float = -np.inf,
    similarity: str = "cosine",
) -> list[Pair]:
    forward, backward = map(best, candidates(x, y, k, margin, similarity))
    of_source = [(i, j, score) for i, (score, j) in enumerate(forward)]
    of_target = [(i, j, score) for j, (score, i) in enumerate(backward)]
    if retrieval == "forward":
        chosen = of_source
    elif retrieval == "backward":
        chosen = of_target
    elif retrieval == "mutual":
        chosen = [(i, j, score) for i, j, score in of_source if backward[j][1] == i]
    else:
        chosen, seen_sources, seen_targets = [], set(), set()
        for i, j, score in sorted(of_source + of_target, key=in_order):
            if i not in seen_sources and j not in seen_targets:
                seen_sources.add(i)
                seen_targets.add(j)
                chosen.append((i, j, score))
    return sorted((pair for pair in chosen if pair[2] >= threshold), key=in_order)


def in_order(pair: Pair) -> tuple[float, int, int]:
    return -pair[2], pair[0], pair[1]


def errors(x: NDArray[Any], y: NDArray[Any], **options: Any) -> tuple[int, int]:
    """Sentences whose best candidate is not that of their own number, in both directions."""
    sides = candidates(x, y, options.get("k", 4), options["margin"], options.get("similarity", "cosine"))
    forward, backward = (
        sum(place != number for number, (_, place) in enumerate(best(side))) for side in sides
    )
    return forward, backward
