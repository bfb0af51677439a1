"""Made-up studies of known truth, many at a time: scores of arms over seeds and clusters of queries, no training.

score[arm, seed, cluster] = truth[arm] + seed effect[arm, seed] + difficulty[cluster] + taste[arm, cluster]
+ chance[arm, seed, cluster], where clusters have unequal sizes. The macro mean weighs clusters by size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyhbt.study.statistics.contrasts import Endpoint


@dataclass(frozen=True)
class World:
    """``seed``: standard deviation of a training's luck; ``taste``: of what an arm is good at; ``chance``: of both."""

    truth: Sequence[float]
    seeds: int = 3
    clusters: int = 60
    seed: float = 0.01
    difficulty: float = 0.2
    taste: float = 0.05
    chance: float = 0.1

    def scores(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores (a, s, c) and the weights (c,) of clusters, which sum to 1."""
        arms = len(self.truth)
        sizes = rng.gamma(4.0, 1.0, self.clusters)
        shape = arms, self.seeds, self.clusters
        scores = np.array(self.truth)[:, None, None] + rng.normal(0, self.chance, shape)
        scores += rng.normal(0, self.seed, (arms, self.seeds, 1))
        scores += rng.normal(0, self.difficulty, (1, 1, self.clusters))
        scores += rng.normal(0, self.taste, (arms, 1, self.clusters))
        return scores, sizes / sizes.sum()

    def endpoint(self, rng: np.random.Generator) -> Endpoint:
        """What a study keeps of it."""
        scores, weights = self.scores(rng)
        means = scores @ weights
        return Endpoint(means, (scores - means[..., None]) * weights)
