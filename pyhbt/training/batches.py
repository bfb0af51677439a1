"""Training batches: which pairs a step draws, their texts with what is added to them, and their tensors.

A ``DataLoader`` item is one whole batch of one rank, named by a :class:`Draw`. The sampler runs in the main process, so
it may change while loader workers run; texts are drawn, switched and tokenised where the workers are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from pyhbt.arguments import check_at_least
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders.base import Encoder, Features
from pyhbt.training.augmentation import Augmentation
from pyhbt.training.sampling import HybridBatchSampler

_AUGMENTATION = 3  # a stream of randomness beside the sampler's


class Batch(TypedDict):
    """One training batch: n queries, translations of some of them, m >= n passages.

    ``texts`` are mini-batches of texts of similar length, as the encoder's ``forward`` takes them; ``order`` int64
    (t,) is where each text's vector is among theirs, for queries, translations, passages in a row. Passage i < n is
    query i's own; then come parallel passages, then hard negatives. Row j of the loss has the query ``query_of[j]``
    and the passage ``positives[j]``, both int64 (r,), r >= n. ``query_groups`` (n,) and ``passage_groups`` (m,) are
    int64 group ids, -1 for hard negatives, the same in every batch and on every rank. ``translated`` int64
    (translations,) is the query that each translation belongs to.
    """

    texts: list[Features]
    order: Tensor
    num_queries: int
    translated: Tensor
    query_of: Tensor
    positives: Tensor
    query_groups: Tensor
    passage_groups: Tensor
    cross_lingual: bool


class Examples(NamedTuple):
    """The pairs of one batch, and the int64 group ids of their passages, (n,)."""

    pairs: list[Pair]
    group_ids: NDArray[np.int64]

    @classmethod
    def of(cls, pairs: PairSet, rows: Sequence[int]) -> Examples:
        """The pairs at positions ``rows``, as they are."""
        return cls([pairs[row] for row in rows], pairs.group_ids[pairs.groups[list(rows)]])


class PairCollator:
    """Turns the examples of a batch into a :class:`Batch`; equal hard negatives are encoded once.

    ``mini_batch_size``: most texts in a mini-batch (None: no limit).
    """

    def __init__(self, encoder: Encoder, mini_batch_size: int | None = None) -> None:
        if mini_batch_size is not None:
            check_at_least("mini_batch_size", mini_batch_size, 1)
        self.encoder = encoder
        self.mini_batch_size = mini_batch_size

    def __call__(self, examples: Examples) -> Batch:
        """Tokenise, pack and number the texts; O(text).

        Raises:
            ValueError: no pairs, or pairs of both kinds (monolingual and cross-lingual) in one batch.
        """
        pairs, groups = examples
        kinds = {pair.query_lang != pair.passage_lang for pair in pairs}
        if len(kinds) != 1:
            raise ValueError(
                "pairs: found "
                + ("none" if not kinds else "monolingual and cross-lingual pairs in one batch")
                + ", expected pairs of one kind"
            )
        translated = [i for i, pair in enumerate(pairs) if pair.parallel_query is not None]
        parallel = [(i, text) for i, pair in enumerate(pairs) for text in pair.parallel_passages]
        negatives = list(dict.fromkeys(text for pair in pairs for text in pair.negatives))
        queries = [pair.query for pair in pairs] + [pairs[i].parallel_query or "" for i in translated]
        passages = [pair.passage for pair in pairs] + [text for _, text in parallel] + negatives
        texts, order = self.encoder.pack(
            self.encoder.token_ids(queries, "query") + self.encoder.token_ids(passages, "passage"),
            self.mini_batch_size,
        )
        query_of = np.array([*range(len(pairs)), *(i for i, _ in parallel)], dtype=np.int64)
        return Batch(
            texts=texts,
            order=order,
            num_queries=len(pairs),
            translated=torch.tensor(translated, dtype=torch.int64),
            query_of=torch.from_numpy(query_of),
            positives=torch.arange(len(query_of)),
            query_groups=torch.from_numpy(groups),
            passage_groups=torch.from_numpy(
                np.concatenate([groups[query_of], np.full(len(negatives), -1, dtype=np.int64)])
            ),
            cross_lingual=kinds.pop(),
        )


@dataclass(frozen=True)
class Draw:
    """One rank's batch of a step: positions of its pairs; none where it is drawn only to be passed over."""

    step: int
    rows: tuple[int, ...]


class Draws(Sampler[Draw]):
    """The batches of an epoch of ``epoch_steps`` steps, those of one step for all ranks in a row, as accelerate deals
    them out.

    Steps are those of the sampler, which spans the whole training. A pass begins where :meth:`begin` says and ends with
    its epoch or with the training.
    """

    def __init__(self, sampler: HybridBatchSampler, epoch_steps: int) -> None:
        self._sampler = sampler
        self.epoch_steps = epoch_steps
        self._first, self._begin = 0, 0

    def __len__(self) -> int:
        """Batches of a whole epoch, over all ranks."""
        return self.epoch_steps * self._sampler.num_ranks

    def begin(self, step: int, already: int = 0) -> None:
        """Let the next pass begin with ``step``, after ``already`` steps of its epoch, which come without pairs."""
        self._first, self._begin = step - already, step

    def __iter__(self) -> Iterator[Draw]:
        for step in range(self._first, min(self._first + self.epoch_steps, self._sampler.steps)):
            if step < self._begin:
                yield from repeat(Draw(step, ()), self._sampler.num_ranks)
            else:
                for rows in self._sampler.at(step):
                    yield Draw(step, tuple(rows))


class DrawnExamples(Dataset[Examples]):
    """Draw -> the examples of the batch, with what ``augmentation`` adds: a function of seed, step and position."""

    def __init__(self, pairs: PairSet, seed: int, augmentation: Augmentation | None = None) -> None:
        self._pairs = pairs
        self._seed = seed
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, draw: Draw) -> Examples:
        examples = Examples.of(self._pairs, draw.rows)
        if self._augmentation is None:
            return examples
        generators = (np.random.default_rng((self._seed, _AUGMENTATION, draw.step, row)) for row in draw.rows)
        added = map(self._augmentation.example, draw.rows, generators)
        return examples._replace(pairs=list(added))


@dataclass(frozen=True)
class BatchOfOne:
    """Collates the one item of a loader's batch, which is a whole batch itself."""

    collate: PairCollator

    def __call__(self, items: list[Examples]) -> Batch:
        """The batch of the one item."""
        (examples,) = items
        return self.collate(examples)
