"""Error rates of similarity search: how often the best match of a sentence is not its translation.

Sources: LASER's test on Tatoeba (Artetxe and Schwenk 2019, arXiv 1812.10464), the nearest neighbour by cosine; xsim of
LASER and of NLLB (arXiv 2207.04672), the best of the k nearest by their margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from pyhbt.arguments import check_choice
from pyhbt.mining.margins import Margin, Vectors, neighbourhoods
from pyhbt.ops.search_checks import Similarity


@dataclass(frozen=True)
class BitextErrorRates:
    """Errors among aligned pairs, by direction."""

    pairs: int
    forward_errors: int
    """Sources whose best target is another than their translation."""
    backward_errors: int
    """Targets whose best source is."""

    @property
    def forward(self) -> float:
        """Share of the sources."""
        return self.forward_errors / self.pairs

    @property
    def backward(self) -> float:
        """Share of the targets."""
        return self.backward_errors / self.pairs

    @property
    def mean(self) -> float:
        """Of both directions."""
        return (self.forward + self.backward) / 2


def bitext_error_rates(
    sources: Vectors,
    targets: Vectors,
    *,
    k: int = 4,
    margin: Margin = "ratio",
    similarity: Similarity | None = None,
) -> BitextErrorRates:
    """Error rates of aligned pairs, of which source i and target i are translations.

    A match is by position: where another target is equal to the translation, the lower of the two is the best.

    Args:
        sources: (n, dim), as for :func:`pyhbt.mining.mine_bitext`, n at least 1.
        targets: (n, dim) likewise.
        k: neighbours a sentence; where there are fewer, all.
        margin: "ratio" is xsim, "absolute" the nearest neighbour, "distance" the third.
        similarity: "cosine" or "dot"; default: that of the indexes, or "cosine".

    Raises:
        ValueError: sides of different lengths, no pairs, and what :func:`pyhbt.mining.mine_bitext` refuses.
        TypeError: as there.
    """
    check_choice("margin", margin, get_args(Margin))
    near = neighbourhoods(sources, targets, k, similarity=similarity, aligned=True).margins(margin)
    own = np.arange(len(near.forward.places))
    forward, backward = (int((side.best()[0] != own).sum()) for side in (near.forward, near.backward))
    return BitextErrorRates(len(own), forward, backward)
