"""The trainer's data loader: the sampler's batches as training examples, a function of the step.

A ``DataLoader`` item is one whole batch of one rank, named by a :class:`Draw`. The sampler runs in the main process, so
it may change while loader workers run; texts are drawn, switched and tokenised where the workers are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset, Sampler

from pyhbt.augmentation import Augmentation
from pyhbt.collate import Batch, PairCollator
from pyhbt.data.types import Pair
from pyhbt.sampling import HybridBatchSampler

_AUGMENTATION = 3  # a stream of randomness beside the sampler's


@dataclass(frozen=True)
class Draw:
    """One rank's batch of a step: positions of its pairs."""

    step: int
    rows: tuple[int, ...]


class Draws(Sampler[Draw]):
    """Every batch of a training, those of one step for all ranks in a row, as accelerate deals them out."""

    def __init__(self, sampler: HybridBatchSampler) -> None:
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Draw]:
        for step in range(self._sampler.steps):
            for rows in self._sampler.at(step):
                yield Draw(step, tuple(rows))


class DrawnExamples(Dataset[list[Pair]]):
    """Draw -> the pairs of the batch with their augmentation, each a function of seed, step and position."""

    def __init__(self, augmentation: Augmentation, seed: int) -> None:
        self._augmentation = augmentation
        self._seed = seed

    def __len__(self) -> int:
        return len(self._augmentation.pairs)

    def __getitem__(self, draw: Draw) -> list[Pair]:
        return [
            self._augmentation.example(
                row, np.random.default_rng((self._seed, _AUGMENTATION, draw.step, row))
            )
            for row in draw.rows
        ]


@dataclass(frozen=True)
class BatchOfOne:
    """Collates the one item of a loader's batch, which is a whole batch itself."""

    collate: PairCollator

    def __call__(self, items: list[list[Pair]]) -> Batch:
        """The batch of the one list of pairs."""
        (pairs,) = items
        return self.collate(pairs)
