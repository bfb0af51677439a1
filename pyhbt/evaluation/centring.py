"""Language centring: each language's mean embedding is subtracted before scoring.

A training-free baseline against language bias that needs no labels (cf. Shift, arXiv 2606.18801): a multilingual
encoder places each language in its own region, so that a mixed pool is ranked by language first. What a training
method gains beyond centring is a gain; what centring gives as well is not.

Passage means come from the corpus itself, which is there at indexing time. Query means never include a query that
they are subtracted from: queries are split into two halves by query group (so translations stay together), and
each half is centred by the means of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Centring = Literal["none", "passages", "both"]
CENTRINGS: tuple[Centring, ...] = get_args(Centring)

DESCRIPTION = {
    "none": "embeddings as the encoder gives them",
    "passages": "each passage minus the mean of its language's passages plus the mean of all passages",
    "both": (
        "each passage minus the mean of its language's passages in the corpus; each query minus the mean of its "
        "language's queries in the other half of a two-fold split by query group"
    ),
}


def parse_centring(name: str) -> Centring:
    """The centring of that name; ValueError if there is none."""
    for known in CENTRINGS:
        if name == known:
            return known
    raise ValueError(f"centring: found {name!r}, expected one of {', '.join(CENTRINGS)}")


def centre(
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    query_langs: Sequence[str],
    query_groups: Sequence[str],
    passage_langs: Sequence[str],
    centring: Centring,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centred unit vectors, float32 of the shapes given: queries (n, d), passages (m, d); O((n + m) d).

    A language with queries in one half only keeps them as they are: it has no others to take a mean from.

    Raises:
        ValueError: ``centring`` unknown.
    """
    if parse_centring(centring) == "none":
        return queries, passages
    langs = np.asarray(passage_langs)
    moved = passages.astype(np.float64)
    overall = moved.mean(axis=0) if len(moved) else 0.0
    for lang in set(passage_langs):
        here = langs == lang
        moved[here] -= moved[here].mean(axis=0)
    if centring == "passages":
        return queries, _unit(moved + overall)
    half = np.array([_half(group) for group in query_groups])
    langs = np.asarray(query_langs)
    centred = queries.astype(np.float64)
    for lang in set(query_langs):
        for part in (False, True):
            here, others = (langs == lang) & (half == part), (langs == lang) & (half != part)
            if others.any():
                centred[here] -= queries[others].mean(axis=0, dtype=np.float64)
    return _unit(centred), _unit(moved)


def _half(group: str) -> bool:
    """A fixed coin for each query group, the same in every run and process."""
    return bool(hashlib.blake2b(group.encode(), digest_size=1).digest()[0] & 1)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows divided by their length; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit.astype(np.float32)
