"""Bitext mining: which sentences of two languages translate one another, by the margins of their embeddings.

Source: Artetxe and Schwenk 2019, arXiv 1811.01136; candidates and retrieval as in LASER's ``mine_bitexts.py`` and in
the bitext mining of sentence-transformers, with exact search for theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from pyhbt.arguments import check_choice, real_number
from pyhbt.mining.margins import Margin, Neighbourhoods, Vectors, neighbourhoods
from pyhbt.ops.search_checks import Similarity

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Retrieval: TypeAlias = Literal["mutual", "forward", "backward", "max"]


class SentencePair(NamedTuple):
    """A source and a target that may translate one another, by position, and their margin."""

    source: int
    target: int
    score: float


@dataclass(frozen=True, eq=False, repr=False)
class Bitext:
    """Sentence pairs by falling score, ties by lower source, then lower target.

    ``sources`` and ``targets`` are int64 (p,), positions in the two sides, ``scores`` float64 (p,), their margins. It
    has a length and yields :class:`SentencePair`.
    """

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[SentencePair]:
        columns = self.sources.tolist(), self.targets.tolist(), self.scores.tolist()
        return map(SentencePair._make, zip(*columns, strict=True))

    def __repr__(self) -> str:
        span = f", scores {self.scores[-1]:.4f} to {self.scores[0]:.4f}" if len(self) else ""
        return f"Bitext({len(self):,} pairs{span})"

    def to_pandas(self) -> pd.DataFrame:
        """One row a pair: source, target, score.

        Raises:
            ImportError: pandas is missing.
        """
        import pandas as pd

        return pd.DataFrame({"source": self.sources, "target": self.targets, "score": self.scores})


def mine_bitext(
    sources: Vectors,
    targets: Vectors,
    *,
    k: int = 4,
    margin: Margin = "ratio",
    retrieval: Retrieval = "mutual",
    threshold: float | None = None,
    similarity: Similarity | None = None,
    progress: bool = False,
) -> Bitext:
    """Pairs of sources and targets that may translate one another, from exact neighbours in both directions.

    A source's candidates are its k nearest targets, a target's its k nearest sources; each takes the one of the highest
    margin, the lower position of two that are equal.

    Args:
        sources: (n, dim) array or tensor, finite, of a dtype that :func:`pyhbt.search` takes, or an
            :class:`pyhbt.ExactIndex` of it.
        targets: (m, dim) likewise, on the same device.
        k: neighbours a sentence, at least 1; where a side has fewer, all of it.
        margin: of the score a of a pair and the mean b over both neighbourhoods: "ratio" a / b, "distance" a - b or
            "absolute" a. Where b is below 2^-23, as among opposite vectors or rows of zeros, the ratio is a / 2^-23.
        retrieval: "forward": every source with its best target; "backward": every target with its best source;
            "mutual": the pairs in both; "max": those in either, the highest first, no sentence twice.
        threshold: least margin of a pair. A ratio of 1 is that of a pair no closer than its neighbours.
        similarity: "cosine" (0 for a row of zeros) or "dot"; default: that of the indexes, or "cosine".
        progress: show bars.

    Returns:
        The pairs, which depend on neither threads nor device; none where a side is empty. 4 n m dim operations, memory
        O((n + m) (dim + k)).

    Raises:
        ValueError: a choice, k or threshold out of range, vectors that do not fit, a row with a NaN or an infinity
            (named), dot products that overflow float32.
        TypeError: another dtype, or a k that is no whole number.
    """
    check_choice("margin", margin, get_args(Margin))
    check_choice("retrieval", retrieval, get_args(Retrieval))
    least = -math.inf if threshold is None else real_number("threshold", threshold)
    if math.isnan(least):
        raise ValueError(f"threshold: found {least}, expected a number")
    near = neighbourhoods(sources, targets, k, similarity=similarity, progress=progress)
    found = _retrieved(near.margins(margin), retrieval)
    keep = found.scores >= least
    return Bitext(found.sources[keep], found.targets[keep], found.scores[keep])


def _retrieved(near: Neighbourhoods, retrieval: Retrieval) -> Bitext:
    n, m = len(near.forward.places), len(near.backward.places)
    if n == 0 or m == 0:
        return Bitext(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    of_source, forward_scores = near.forward.best()
    of_target, backward_scores = near.backward.best()
    forward = _in_order(np.arange(n), of_source, forward_scores)
    if retrieval == "forward":
        return forward
    if retrieval == "mutual":
        mutual = of_target[forward.targets] == forward.sources
        return Bitext(forward.sources[mutual], forward.targets[mutual], forward.scores[mutual])
    if retrieval == "backward":
        return _in_order(of_target, np.arange(m), backward_scores)
    either = _in_order(
        np.concatenate([np.arange(n), of_target]),
        np.concatenate([of_source, np.arange(m)]),
        np.concatenate([forward_scores, backward_scores]),
    )
    return _no_sentence_twice(either, n, m)


def _in_order(sources: NDArray[np.int64], targets: NDArray[np.int64], scores: NDArray[np.float64]) -> Bitext:
    order = np.lexsort((targets, sources, -scores))
    return Bitext(sources[order], targets[order], scores[order])


def _no_sentence_twice(pairs: Bitext, num_sources: int, num_targets: int) -> Bitext:
    """The first pair of each sentence, from the top."""
    used_sources, used_targets = bytearray(num_sources), bytearray(num_targets)
    keep = np.zeros(len(pairs), dtype=np.bool_)
    for row, (source, target, _) in enumerate(pairs):
        if not (used_sources[source] or used_targets[target]):
            keep[row] = used_sources[source] = used_targets[target] = True
    return Bitext(pairs.sources[keep], pairs.targets[keep], pairs.scores[keep])
