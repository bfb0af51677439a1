"""Margins of sentence pairs: how much closer two sentences are than either is to its neighbours.

Source: Artetxe and Schwenk 2019, arXiv 1811.01136. With the score a of a pair (x, y), its cosine as a rule, and the
mean over both neighbourhoods, b = sum over NN_k(x) of cos(x, z) / 2k + sum over NN_k(y) of cos(y, z) / 2k, a margin is
a (equation 1), a - b (equation 2) or a / b (equation 3, and LASER's default).

Precision: a is what :func:`pyhbt.search` gives, the float64 score rounded to float32, so that a GPU gives the same; all
that follows is float64, and means are summed in the order of ranks. Nothing depends on threads or instruction sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pyhbt.arguments import whole_number
from pyhbt.ops import checks
from pyhbt.ops.checks import Array
from pyhbt.ops.search_checks import Similarity, check_options, check_vectors
from pyhbt.retrieval.index import ExactIndex

Margin: TypeAlias = Literal["ratio", "distance", "absolute"]
Vectors: TypeAlias = "Array | ExactIndex"

LEAST_MEAN = 2.0**-23
"""A ratio divides by no less: about what rounding to float32 leaves unknown of a cosine."""


@dataclass(frozen=True)
class Candidates:
    """The nearest neighbours of one side in the other, by falling score.

    ``places`` int64 (n, k) are positions in the other side, ``scores`` float64 (n, k) likewise.
    """

    places: NDArray[np.int64]
    scores: NDArray[np.float64]

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The place (n,) of the highest score of each row, the lower of two that are equal, and that score (n,)."""
        highest = self.scores.max(axis=1)
        places = np.where(self.scores == highest[:, None], self.places, np.iinfo(np.int64).max)
        return places.min(axis=1), highest


@dataclass(frozen=True)
class Neighbourhoods:
    """Neighbours in both directions: of n sources (n, min(k, m)) and of m targets (m, min(k, n))."""

    forward: Candidates
    backward: Candidates

    def margins(self, margin: Margin) -> Neighbourhoods:
        """The same with margins in the place of scores; O((n + m) k).

        Where b is not above 0, no ratio says anything: it is a / 2^-23 then, high for any a above 0, low for any below.
        """
        means = _means(self.forward.scores), _means(self.backward.scores)
        return Neighbourhoods(
            _with_margins(self.forward, margin, *means), _with_margins(self.backward, margin, *means[::-1])
        )


def neighbourhoods(
    sources: Vectors,
    targets: Vectors,
    k: int,
    *,
    similarity: Similarity | None = None,
    aligned: bool = False,
    progress: bool = False,
) -> Neighbourhoods:
    """The k nearest targets of each source and the k nearest sources of each target, exactly.

    Args:
        sources: (n, dim) of a dtype that :func:`pyhbt.search` takes, or an :class:`pyhbt.ExactIndex` of them.
        targets: (m, dim) likewise, on the same device.
        k: at least 1; where a side has fewer, all of it.
        similarity: "cosine" (0 for a row of zeros) or "dot"; default: that of the indexes, or "cosine".
        aligned: refuse sides of different lengths, or of none.
        progress: show bars.

    Returns:
        Neighbours by falling score, ties by lower position. 4 n m dim operations, memory O((n + m) (dim + k)).

    Raises:
        ValueError: a k, shape, device or similarity that does not fit; a row that is not finite (named); scores that
            overflow.
        TypeError: another dtype or kind.
    """
    k = whole_number("k", k, 1)
    wanted = _similarity(sources, targets, similarity)
    left, right = _index(sources, "sources", wanted), _index(targets, "targets", wanted)
    if right.dim != left.dim:
        raise ValueError(f"targets: found dim {right.dim}, expected {left.dim} (the dim of sources)")
    if right.device != left.device:
        raise ValueError(
            f"targets: found device {right.device}, expected {left.device} (the device of sources)"
        )
    if aligned and len(right) != len(left):
        raise ValueError(f"targets: found {len(right)} vectors, expected {len(left)} (one for each source)")
    if aligned and len(left) == 0:
        raise ValueError("sources: found none, expected at least one")
    forward, backward = _search(left, right, k, progress), _search(right, left, k, progress)
    return _agreed(forward, backward)


def _similarity(sources: Vectors, targets: Vectors, similarity: Similarity | None) -> Similarity:
    given = {
        name: index.similarity
        for name, index in (("sources", sources), ("targets", targets))
        if isinstance(index, ExactIndex)
    }
    wanted = next(iter(given.values()), "cosine") if similarity is None else similarity
    check_options(wanted, "auto")
    for name, found in given.items():
        if found != wanted:
            raise ValueError(f"similarity: found {wanted!r}, expected {found!r}, that of the index of {name}")
    return "dot" if wanted == "dot" else "cosine"


def _index(value: Vectors, name: str, similarity: Similarity) -> ExactIndex:
    if isinstance(value, ExactIndex):
        return value
    vectors = checks.as_tensor(value, name).detach()
    check_vectors(vectors, name)
    checks.check_finite(vectors, name)  # here, where the side has its name
    return ExactIndex(vectors, similarity=similarity)


def _search(queries: ExactIndex, corpus: ExactIndex, k: int, progress: bool) -> Candidates:
    if len(queries) == 0 or len(corpus) == 0:
        return Candidates(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0)))
    rows = checks.as_tensor(queries.vectors, "queries").to(corpus.device)
    scores, places = corpus.search(rows, k, progress=progress)
    if not bool(torch.isfinite(scores).all()):
        raise ValueError(
            "similarity: found dot products that float32 cannot hold, expected 'cosine' for them"
        )
    return Candidates(places.cpu().numpy(), scores.cpu().double().numpy())


def _agreed(forward: Candidates, backward: Candidates) -> Neighbourhoods:
    """One score a pair: cosines divide by the norms in the order of the search, which may turn their last bit."""
    n, m = len(forward.places), len(backward.places)
    keys = np.arange(n)[:, None] * m + forward.places, backward.places * m + np.arange(m)[:, None]
    _, first, second = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    there, back = forward.scores.copy(), backward.scores.copy()
    there.flat[first] = back.flat[second] = np.maximum(there.flat[first], back.flat[second])
    return Neighbourhoods(Candidates(forward.places, there), Candidates(backward.places, back))


def _means(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row, summed from the left."""
    total: NDArray[np.float64] = np.zeros(len(scores))
    for column in scores.T:
        np.add(total, column, out=total)
    np.divide(total, max(1, scores.shape[1]), out=total)
    return total


def _with_margins(
    found: Candidates, margin: Margin, own: NDArray[np.float64], others: NDArray[np.float64]
) -> Candidates:
    if margin == "absolute":
        return found
    means = (own[:, None] + others[found.places]) / 2
    if margin == "distance":
        return Candidates(found.places, found.scores - means)
    return Candidates(found.places, found.scores / np.maximum(means, LEAST_MEAN))
