"""Training batches: which pairs a step draws, their texts with what is added to them, and their tensors.

A ``DataLoader`` item is one whole batch of one rank, named by a :class:`Draw`. The sampler runs in the main process, so
it may change while loader workers run; texts are drawn, switched and tokenised where the workers are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from types import MappingProxyType
from typing import Generic, NamedTuple, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from pyhbt.arguments import check_at_least
from pyhbt.data.answers import joined
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.data.teacher_scores import ScoredCandidates, TeacherScores
from pyhbt.encoders import Encoder, EncoderLike, as_encoder
from pyhbt.encoders.base import Features
from pyhbt.training.augmentation import Augmentation
from pyhbt.training.guide import guide_features
from pyhbt.training.sampling import HybridBatchSampler

_T = TypeVar("_T")

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
    """One training batch: n queries, translations of some of them, m passages.

    ``texts`` are mini-batches of texts of similar length, as the encoder's ``forward`` takes them; ``order`` int64
    (t,) is where each text's vector is among theirs, for queries, translations, passages in a row; equal texts of a
    kind have one vector. The passages are distinct: the pairs' own, then parallel ones, then hard negatives. Row j of
    the loss has the query ``query_of[j]`` and the passage ``positives[j]``, both int64 (r,), r >= n; the first n are
    the pairs. ``query_groups`` (n,) and ``passage_groups`` (m,) are int64 ids, the same in every batch and on every
    rank: what answers a query has the query's id, a text not known to answer any has -1. ``translated`` int64
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
    """The pairs of one batch, the int64 ids (n,) of what answers their queries, and the ids of other texts.

    ``text_ids`` holds those of the hard negatives that answer a query of the pairs' set; ``scored`` a teacher's scores,
    if there are any.
    """

    pairs: list[Pair]
    group_ids: NDArray[np.int64]
    text_ids: Mapping[str, int] = MappingProxyType({})
    scored: ScoredCandidates | None = None

    @classmethod
    def of(cls, pairs: PairSet, rows: Sequence[int]) -> Examples:
        """The pairs at positions ``rows``, as they are."""
        answers, places = pairs.answer_groups, list(rows)
        negatives = {text for row in places for text in pairs.negatives.get(row, ()) if answers[text] >= 0}
        return cls(
            [pairs[row] for row in places],
            pairs.group_ids[answers[pairs.passage_index[places]]],
            {pairs.passages[text]: int(pairs.group_ids[answers[text]]) for text in negatives},
        )


class PairCollator:
    """Turns the examples of a batch into a :class:`Batch`; equal texts are encoded once.

    ``mini_batch_size``: most texts in a mini-batch (None: no limit); ``guide``: another encoder that reads the batch.
    """

    def __init__(
        self, encoder: EncoderLike, mini_batch_size: int | None = None, guide: Encoder | None = None
    ) -> None:
        if mini_batch_size is not None:
            check_at_least("mini_batch_size", mini_batch_size, 1)
        self.encoder = as_encoder(encoder)
        self.mini_batch_size = mini_batch_size
        self.guide = guide

    def __call__(self, examples: Examples) -> Batch:
        """Tokenise, pack and number the texts; O(text).

        Raises:
            ValueError: no pairs, or pairs of both kinds (monolingual and cross-lingual) in one batch.
        """
        pairs, groups, text_ids, scored = examples
        kinds = {pair.query_lang != pair.passage_lang for pair in pairs}
        if len(kinds) != 1:
            raise ValueError(
                "pairs: found "
                + ("none" if not kinds else "monolingual and cross-lingual pairs in one batch")
                + ", expected pairs of one kind"
            )
        translated = [i for i, pair in enumerate(pairs) if pair.parallel_query is not None]
        parallel = [i for i, pair in enumerate(pairs) for _ in pair.parallel_passages]
        query_of = np.array([*range(len(pairs)), *parallel], dtype=np.int64)
        queries = _Distinct(pair.query for pair in pairs)
        queries.add(pairs[i].parallel_query or "" for i in translated)
        passages = _Distinct(pair.passage for pair in pairs)
        passages.add(text for pair in pairs for text in pair.parallel_passages)
        positives = np.array(passages.places, dtype=np.int64)
        # Code-switching may have made texts equal that are not so in the pairs' set.
        asked = np.array(_Distinct((pair.query, pair.query_lang) for pair in pairs).places, dtype=np.int64)
        ids = joined((groups[query_of], positives, asked[query_of]))
        now = dict(zip(groups[query_of].tolist(), ids.tolist(), strict=True))
        passages.add(text for pair in pairs for text in pair.negatives)
        known = (text_ids.get(text, -1) for text in passages.values)
        passage_ids = np.array([now.get(one, one) for one in known], dtype=np.int64)
        passage_ids[positives] = ids
        texts, order = self.encoder.pack(
            self.encoder.token_ids(list(queries.values), "query")
            + self.encoder.token_ids(list(passages.values), "passage"),
            self.mini_batch_size,
        )
        vectors = [*queries.places, *range(len(queries.values), len(order))]
        batch = Batch(
            texts=texts,
            order=order[vectors],
            num_queries=len(pairs),
            translated=torch.tensor(translated, dtype=torch.int64),
            query_of=torch.from_numpy(query_of),
            positives=torch.from_numpy(positives),
            query_groups=torch.from_numpy(ids[: len(pairs)]),
            passage_groups=torch.from_numpy(passage_ids),
            cross_lingual=kinds.pop(),
        )
        if self.guide is not None:
            batch["guide_texts"], batch["guide_order"] = guide_features(
                self.guide, [pair.query for pair in pairs], list(passages.values), self.mini_batch_size
            )
        if scored is not None:
            self._add_teacher(batch, scored, pairs, passages.values)
        return batch

    def _add_teacher(
        self,
        batch: Batch,
        scored: ScoredCandidates,
        pairs: Sequence[Pair],
        places: Mapping[str, int],
    ) -> None:
        """Add a teacher's scores, by the places of the passages in the batch."""
        positives = batch["positives"].tolist()
        passages = [
            positives[pair] if slot == 0 else places[pairs[pair].negatives[slot - 1]]
            for pair, slot in zip(scored.pairs.tolist(), scored.slots.tolist(), strict=True)
        ]
        dtype = torch.float32 if self.encoder.device.type == "mps" else torch.float64
        batch["teacher_queries"] = torch.from_numpy(scored.queries)
        batch["teacher_passages"] = torch.tensor(passages, dtype=torch.int64)
        batch["teacher_scores"] = torch.from_numpy(scored.scores).to(dtype)


class _Distinct(Generic[_T]):
    """Distinct values in order of first sight, and the place of each of those given among them."""

    def __init__(self, given: Iterable[_T]) -> None:
        self.values: dict[_T, int] = {}
        self.places: list[int] = []
        self.add(given)

    def add(self, given: Iterable[_T]) -> None:
        self.places += [self.values.setdefault(value, len(self.values)) for value in given]


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
