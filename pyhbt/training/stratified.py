"""Stratified draws: random in their order, without the noise of independent ones in how often each thing is drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST_ROUNDS = 20_000


def stratified_events(
    probabilities: NDArray[np.float64], phase: float, before: float = 0.0
) -> NDArray[np.bool_]:
    """Whether an event happens at each step, bool (n,), by systematic sampling.

    With C(t) the sum of ``before`` and the probabilities up to step t, it happens at t where floor(C(t) + phase) is
    above floor(C(t - 1) + phase). So the number of events in any window of steps differs from the sum of their
    probabilities by less than one, and over phases uniform in [0, 1) each step's chance is its probability (Madow 1949,
    doi:10.1214/aoms/1177729988). O(n).
    """
    sums = before + np.concatenate([[0.0], np.cumsum(probabilities)])
    if len(probabilities) and (probabilities == probabilities[0]).all():
        sums = before + np.arange(len(probabilities) + 1) * probabilities[0]  # one rounding instead of n
    happens: NDArray[np.bool_] = np.diff(np.floor(sums + phase)) > 0
    return happens


def stratified_uniforms(rng: np.random.Generator, count: int, strata: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), float64 (count,), each uniform, that fill equal strata evenly.

    Of every ``strata`` consecutive ones (or, of very many, a multiple of it) exactly one lies in each of as many equal
    parts of [0, 1), all at the same place in its part, in random order. So of such a round of R draws any interval of
    length w gets between w R - 1 and w R + 1. A longer sequence begins with the shorter one. O(count).
    """
    size = strata * -(-count // (strata * _MOST_ROUNDS)) if count else strata
    rounds = [(rng.permutation(size) + rng.random()) / size for _ in range(-(-count // size))]
    return np.concatenate([*rounds, np.empty(0)])[:count]
