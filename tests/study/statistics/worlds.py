"""Made-up studies of known truth, many at a time: scores of arms over seeds and clusters of queries, no training.

score[arm, seed, cluster] = truth[arm] + seed effect[arm, seed] + difficulty[cluster] + taste[arm, cluster]
+ chance[arm, seed, cluster], where clusters have unequal sizes. The macro mean weighs clusters by size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

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


def differences_over_pairs(
    rng: np.random.Generator, studies: int, seeds: int, clusters: int, pairs: int = 3
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences of two equally good arms in macro means over language pairs, in many studies at once.

    A cluster has 1 to 6 queries in each pair, or none in 40 % of them; scores are 0 or 1; noise is of arm and seed, of
    seed and pair, of arm and cluster, and of all. The influences follow the definition of
    ``Evaluation.influences``.

    Returns:
        Values (studies, seeds) and influences (studies, seeds, clusters).
    """
    shape = studies, 2, seeds, clusters, pairs
    queries = 1 + rng.binomial(5, 0.2, (studies, 1, 1, clusters, 1))
    queries = queries * (rng.random((studies, 1, 1, clusters, pairs)) < 0.6)
    latent = rng.normal(0, 1, (studies, 1, 1, clusters, 1)) + rng.normal(0, 0.5, (1, 1, 1, 1, pairs))
    latent = (
        latent
        + rng.normal(0, 0.1, (studies, 2, seeds, 1, 1))
        + rng.normal(0, 0.3, (studies, 1, seeds, 1, pairs))
    )
    latent = latent + rng.normal(0, 0.3, (studies, 2, 1, clusters, 1)) + rng.normal(0, 0.3, shape)
    scores = rng.binomial(
        np.broadcast_to(queries, shape), special.ndtr(2 * latent)
    )  # sums of a cluster and pair
    in_pair = queries.sum(axis=3, keepdims=True)
    means = scores.sum(axis=3, keepdims=True) / in_pair
    moved = ((scores - means * queries) / in_pair).mean(axis=4)
    macro = means.mean(axis=(3, 4))
    return macro[:, 1] - macro[:, 0], moved[:, 1] - moved[:, 0]
