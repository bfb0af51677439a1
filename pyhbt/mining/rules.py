"""The rules by which passages become hard negatives.

Sources: thresholds relative to the positive's score (TopK-PercPos, TopK-MarginPos) are those of NV-Retriever, arXiv
2407.15831; below a positive's score that is negative the share is taken of its magnitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pyhbt.arguments import check_at_least, check_choice
from pyhbt.options import documented, option

Pool: TypeAlias = Literal["passage", "query", "other", "any"]
Draw: TypeAlias = Literal["top", "random"]
Existing: TypeAlias = Literal["keep", "replace"]


@documented
@dataclass(frozen=True, kw_only=True)
class MiningRules:
    """Which passages become negatives of a pair.

    Raises:
        ValueError: a value out of range, or a window of fewer ranks than negatives asked for.
    """

    num_negatives: int = option("Negatives wanted for each pair.", 7)
    skip_top: int = option("Leave out this many of the best passages, the likeliest to answer unlabelled.", 0)
    depth: int = option(
        "Look at passages up to this rank, counted over those of the pool that do not answer.", 100
    )
    pool: Pool = option(
        "Language of negatives: the passage's, the query's, any other than the query's, or any.", "passage"
    )
    share: float | None = option("Most of the positive's score that they may have (TopK-PercPos).", 0.95)
    margin: float | None = option("Least distance below the positive's score (TopK-MarginPos).", None)
    draw: Draw = option(
        "What is taken of these passages: the best, or a random choice by the seed and the pair's position.",
        "top",
    )
    seed: int = option("Fixes the random choice.", 0)
    existing: Existing = option("Negatives that pairs have come first and count, or go.", "keep")

    def __post_init__(self) -> None:
        for name, least in (("num_negatives", 1), ("skip_top", 0), ("depth", 1), ("seed", 0)):
            check_at_least(name, getattr(self, name), least)
        if self.depth - self.skip_top < self.num_negatives:
            raise ValueError(
                f"depth: found {self.depth}, expected at least {self.skip_top + self.num_negatives} "
                f"(skip_top {self.skip_top} and num_negatives {self.num_negatives})"
            )
        if self.share is not None and not 0 < self.share < math.inf:
            raise ValueError(f"share: found {self.share}, expected a finite number above 0")
        if self.margin is not None and not math.isfinite(self.margin):
            raise ValueError(f"margin: found {self.margin}, expected a finite number")
        check_choice("pool", self.pool, get_args(Pool))
        check_choice("draw", self.draw, get_args(Draw))
        check_choice("existing", self.existing, get_args(Existing))

    def limits(self, positive_scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """The highest score (n,) that a negative may have, from that of each positive (n,)."""
        positive = positive_scores.astype(np.float64)
        limits = np.full(len(positive), np.inf)
        if self.share is not None:
            limits = np.minimum(limits, positive - (1 - self.share) * np.abs(positive))
        if self.margin is not None:
            limits = np.minimum(limits, positive - self.margin)
        return limits
