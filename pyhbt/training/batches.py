"""Training batches: which pairs a step draws, their texts with what is added to them, and their tensors.

A ``DataLoader`` item is one whole batch of one rank, named by a :class:`Draw`. The sampler runs in the main process, so
it may change while loader workers run; texts are drawn, switched and tokenised where the workers are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from pyhbt.arguments import check_at_least
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.data.teacher_scores import ScoredCandidates, TeacherScores
from pyhbt.encoders.base import Encoder, Features
from pyhbt.training.augmentation import Augmentation
from pyhbt.training.guide import guide_features
from pyhbt.training.sampling import HybridBatchSampler

_AUGMENTATION = 3  # a stream of randomness beside the sampler's


class JudgedBatch(TypedDict, total=False):
    """What others than the pairs say of a batch, where a training has a guide or a teacher.

    ``guide_texts``, ``guide_order``: the texts of queries and passages as the guide takes them, and where the vector of
    each is, int64 (n + m,). ``teacher_queries``, ``teacher_passages``, int64 (s,): positions among queries and
    passages, those of one query in a row; ``teacher_scores`` (s,) float64 (float32 on devices without it).
    """

    guide_texts: list[Features]
    guide_order: Tensor
    teacher_queries: Tensor
    teacher_passages: Tensor
    teacher_scores: Tensor


class Batch(JudgedBatch):
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
    """The pairs of one batch, the int64 group ids of their passages, (n,), and a teacher's scores, if there are any."""

    pairs: list[Pair]
    group_ids: NDArray[np.int64]
    scored: ScoredCandidates | None = None

    @classmethod
    def of(cls, pairs: PairSet, rows: Sequence[int]) -> Examples:
        """The pairs at positions ``rows``, as they are."""
        return cls([pairs[row] for row in rows], pairs.group_ids[pairs.groups[list(rows)]])


class PairCollator:
    """Turns the examples of a batch into a :class:`Batch`; equal hard negatives are encoded once.

    ``mini_batch_size``: most texts in a mini-batch (None: no limit); ``guide``: another encoder that reads the batch.
    """

    def __init__(
        self, encoder: Encoder, mini_batch_size: int | None = None, guide: Encoder | None = None
    ) -> None:
        if mini_batch_size is not None:
            check_at_least("mini_batch_size", mini_batch_size, 1)
        self.encoder = encoder
        self.mini_batch_size = mini_batch_size
        self.guide = guide

    def __call__(self, examples: Examples) -> Batch:
        """Tokenise, pack and number the texts; O(text).

        Raises:
            ValueError: no pairs, or pairs of both kinds (monolingual and cross-lingual) in one batch.
        """
        pairs, groups, scored = examples
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
        batch = Batch(
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
        if self.guide is not None:
            batch["guide_texts"], batch["guide_order"] = guide_features(
                self.guide, [pair.query for pair in pairs], passages, self.mini_batch_size
            )
        if scored is not None:
            place = {text: len(query_of) + number for number, text in enumerate(negatives)}
            self._add_teacher(batch, scored, pairs, place)
        return batch

    def _add_teacher(
        self,
        batch: Batch,
        scored: ScoredCandidates,
        pairs: Sequence[Pair],
        place_of_negative: Mapping[str, int],
    ) -> None:
        """Add a teacher's scores, by the places of the passages in the batch."""
        positives = batch["positives"].tolist()
        passages = [
            positives[pair] if slot == 0 else place_of_negative[pairs[pair].negatives[slot - 1]]
            for pair, slot in zip(scored.pairs.tolist(), scored.slots.tolist(), strict=True)
        ]
        dtype = torch.float32 if self.encoder.device.type == "mps" else torch.float64
        batch["teacher_queries"] = torch.from_numpy(scored.queries)
        batch["teacher_passages"] = torch.tensor(passages, dtype=torch.int64)
        batch["teacher_scores"] = torch.from_numpy(scored.scores).to(dtype)


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


class DrawnExamples(Dataset[Examples]):
    """Draw -> the examples of the batch, with what ``augmentation`` adds: a function of seed, step and position.

    ``teacher_scores`` are added where they are given; those of texts hold for their code-switched forms too.
    """

    def __init__(
        self,
        pairs: PairSet,
        seed: int,
        augmentation: Augmentation | None = None,
        teacher_scores: TeacherScores | None = None,
    ) -> None:
        self._pairs = pairs
        self._seed = seed
        self._augmentation = augmentation
        self._teacher_scores = teacher_scores

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, draw: Draw) -> Examples:
        examples = Examples.of(self._pairs, draw.rows)
        if self._teacher_scores is not None:
            examples = examples._replace(scored=self._teacher_scores.of(draw.rows))
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
