"""Hybrid batches for sentence-transformers' trainer: a dataset of pairs, and what ``batch_sampler=`` takes.

Their trainer tokenises every column as text, so languages are no columns: the sampler knows them from the pairs, and
the rows of the dataset are the pairs in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from sentence_transformers.base.sampler import (
    BatchSamplers,
    DefaultBatchSampler,
    GroupByLabelBatchSampler,
    NoDuplicatesBatchSampler,
)
from torch.utils.data import RandomSampler, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pyhbt.arguments import check_choice
from pyhbt.data.pair_set import PairSet
from pyhbt.training.distributed import world_size
from pyhbt.training.sampling import HybridBatchSampler

_CHUNK_ROWS = 16_384
_ROWS_COMPARED = 16


def hybrid_dataset(
    pairs: PairSet, *, num_negatives: int | None = None, group_labels: bool = False
) -> Dataset:
    """Rows of ``pairs`` in their order: ``query``, ``passage``, ``negative_1`` ... and, if wanted, ``label``.

    Args:
        pairs: the pairs.
        num_negatives: hard negatives a pair, the first ones of each; by default all, of which every pair must have
            as many as any other.
        group_labels: add ``label`` for a loss with ``group_labels``: the int64 answer group of the passage
            (:attr:`pyhbt.data.PairSet.answer_groups`), or, where there are negatives, the list of those of the passage
            and of each negative, -1 where it is not known to answer any query.

    Raises:
        ValueError: pairs with different numbers of negatives, or with fewer than asked for.

    Memory: each pair's texts, also those that pairs share.
    """
    counts = [len(pairs.negatives.get(row, ())) for row in range(len(pairs))]
    fewest, most = min(counts, default=0), max(counts, default=0)
    if num_negatives is None and fewest != most:
        raise ValueError(
            f"pairs: found {fewest} to {most} negatives a pair, expected one number; "
            f"set num_negatives to {fewest} or less"
        )
    wanted = fewest if num_negatives is None else num_negatives
    if not 0 <= wanted <= fewest:
        raise ValueError(f"num_negatives: found {wanted}, expected 0 to {fewest}")
    queries, passages = pa.array(pairs.queries, pa.string()), pa.array(pairs.passages, pa.string())
    columns = {"query": _take(queries, pairs.query_index), "passage": _take(passages, pairs.passage_index)}
    used = [pairs.passage_index]
    for place in range(wanted):
        used.append(np.array([pairs.negatives[row][place] for row in range(len(pairs))], dtype=np.int64))
        columns[f"negative_{place + 1}"] = _take(passages, used[-1])
    if group_labels:
        labels = pa.array(pairs.answer_groups[np.stack(used, axis=1).ravel()])
        lists = pa.FixedSizeListArray.from_arrays(labels, 1 + wanted) if wanted else labels
        columns["label"] = pa.chunked_array([lists])
    return Dataset(pa.table(columns))


class HybridBatches(TrainerCallback):
    """Hybrid batches of a :func:`hybrid_dataset`: both ``batch_sampler=`` of the arguments and a callback.

    Several datasets (a ``DatasetDict``) go through their multi-dataset samplers, round robin or proportional, which ask
    for the batches of each dataset and mix them.

    Args:
        pairs: the pairs of the training set, or of each of several.
        eval_pairs: the pairs of the trainer's ``eval_dataset``, or of each of several; an evaluation always has the
            same batches, as many as its queries need.
        others: how datasets that are none of these are batched: what ``batch_sampler=`` takes for them, one of the
            names of ``BatchSamplers`` or a callable. None: they are refused.
        options: those of :class:`HybridBatchSampler` (``ratio``, ``language_sampling``, ``cross_pairs``,
            ``false_negatives``, ``steps``, ``schedule_steps``, ``seed``), but not ``batch_size`` and ``num_ranks``.
            ``seed`` is the trainer's by default; ``steps`` counts batches an epoch, rank and dataset, a schedule runs
            over ``schedule_steps``, by default one epoch.

    All ranks get batches of the same kind and languages at the same step; where their multi-dataset samplers deal out
    batches of several datasets, ranks get what these make of them. As a callback it tells the samplers the epoch when a
    training on several ranks resumes, where accelerate's wrappers stop the trainer's own word. Pickled, as with the
    arguments in every checkpoint, it leaves the pairs out.

    Raises:
        ValueError: no pairs, an unknown name in ``others``, options that :class:`HybridBatchSampler` refuses.
    """

    def __init__(
        self,
        pairs: PairSet | Sequence[PairSet],
        *,
        eval_pairs: PairSet | Sequence[PairSet] | None = None,
        others: str | Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        for name in ("batch_size", "num_ranks"):
            if name in options:
                raise ValueError(f"{name}: found {options[name]}, expected none: the trainer gives it")
        self._training = [pairs] if isinstance(pairs, PairSet) else list(pairs)
        self._evaluation = [eval_pairs] if isinstance(eval_pairs, PairSet) else list(eval_pairs or ())
        if not self._training:
            raise ValueError("pairs: found no set of pairs, expected at least 1")
        for known in (*self._training, *self._evaluation):
            HybridBatchSampler(known, 1, **options)  # refuses what is wrong with the options now
        if others is not None and not callable(others):
            check_choice("others", others, tuple(_OTHERS))
        self._others = others
        self._options = options
        self._samplers: dict[int, HybridBatchSampler] = {}

    @property
    def samplers(self) -> tuple[HybridBatchSampler, ...]:
        """Those of the training sets whose batches were asked for, in the order of ``pairs``."""
        return tuple(self._samplers[place] for place in sorted(self._samplers))

    @property
    def sampler(self) -> HybridBatchSampler | None:
        """The first of :attr:`samplers`; None before the trainer asked."""
        return next(iter(self.samplers), None)

    def __call__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool = False,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> Sampler[list[int]]:
        """Batches of ``dataset``; ``drop_last`` and ``generator`` have no bearing on hybrid ones.

        Raises:
            ValueError: ``dataset`` is not made from the pairs, and ``others`` is None.
        """
        place = next((place for place, known in enumerate(self._training) if _holds(dataset, known)), None)
        if place is not None:
            sampler = self._hybrid(self._training[place], batch_size, {"seed": seed} | self._options)
            self._samplers[place] = sampler
            return _Batches(sampler, batch_size=_AnySize(batch_size), drop_last=drop_last)
        for known in self._evaluation:
            if _holds(dataset, known):
                options = {"seed": seed} | self._options
                for name in ("steps", "schedule_steps"):
                    options.pop(name, None)
                return _Batches(
                    self._hybrid(known, batch_size, options), batch_size=None, drop_last=drop_last
                )
        if self._others is None:
            lengths = " or ".join(str(len(known)) for known in (*self._training, *self._evaluation))
            raise ValueError(
                f"dataset: found {len(dataset)} rows, expected the {lengths} pairs given, in their order "
                "(others= batches other datasets)"
            )
        make = self._others if callable(self._others) else _OTHERS[self._others]
        return _Batches(
            make(
                dataset,
                batch_size=batch_size,
                drop_last=drop_last,
                valid_label_columns=valid_label_columns,
                generator=generator,
                seed=seed,
            ),
            batch_size=_AnySize(batch_size),
            drop_last=drop_last,
        )

    @staticmethod
    def _hybrid(pairs: PairSet, batch_size: int, options: dict[str, Any]) -> HybridBatchSampler:
        return HybridBatchSampler(pairs, batch_size, num_ranks=world_size(), **options)

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **others: Any,
    ) -> None:
        """Choose the epoch's order, that of a sampler over several datasets too."""
        epoch = int(state.epoch or 0)
        for sampler in self.samplers:
            sampler.set_epoch(epoch)
        layer = getattr(train_dataloader, "batch_sampler", None)
        while layer is not None:  # accelerate's wrappers hold what they wrap under the same name
            if hasattr(layer, "set_epoch"):
                layer.set_epoch(epoch)
            layer = getattr(layer, "batch_sampler", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> HybridBatches:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_training": [],
            "_evaluation": [],
            "_others": None,
            "_options": self._options,
            "_samplers": {},
        }


class _AnySize(int):
    """A batch size that any number of rows equals.

    Their multi-dataset samplers want a positive integer, and on several ranks accelerate drops batches whose length
    does not equal it, which those of a small language do not.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


class _Batches(Sampler[list[int]]):
    """A sampler as accelerate and their multi-dataset samplers read it.

    ``batch_size`` is None in an evaluation, whose last batch accelerate would cut by it. ``sampler`` by name:
    accelerate looks there for ``set_epoch``.
    """

    def __init__(self, sampler: Any, *, batch_size: int | None, drop_last: bool) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)


def _shuffled(dataset: Dataset, *, generator: torch.Generator | None, **options: Any) -> DefaultBatchSampler:
    return DefaultBatchSampler(RandomSampler(dataset, generator=generator), generator=generator, **options)


def _without_duplicates_hashed(dataset: Dataset, **options: Any) -> NoDuplicatesBatchSampler:
    return NoDuplicatesBatchSampler(dataset, precompute_hashes=True, **options)


_OTHERS: dict[str, Callable[..., Any]] = {
    BatchSamplers.BATCH_SAMPLER.value: _shuffled,
    BatchSamplers.NO_DUPLICATES.value: NoDuplicatesBatchSampler,
    BatchSamplers.NO_DUPLICATES_HASHED.value: _without_duplicates_hashed,
    BatchSamplers.GROUP_BY_LABEL.value: GroupByLabelBatchSampler,
}
"""What the names of ``BatchSamplers`` stand for in their trainer."""


def _holds(dataset: Dataset, pairs: PairSet) -> bool:
    """Whether rows are pairs: as many, and some of them, spread over all, with the pair's texts."""
    if len(dataset) != len(pairs):
        return False
    rows = np.unique(np.linspace(0, len(pairs) - 1, _ROWS_COMPARED, dtype=np.int64)).tolist()
    return all({pairs[row].query, pairs[row].passage} <= _texts(dataset[row]) for row in rows)


def _texts(row: dict[str, Any]) -> set[str]:
    return {value for value in row.values() if isinstance(value, str)}


def _take(texts: pa.StringArray, index: np.ndarray[Any, np.dtype[np.int64]]) -> pa.ChunkedArray:
    """Texts by position, in chunks, since one string array holds 2 GiB."""
    parts = [
        texts.take(pa.array(index[start : start + _CHUNK_ROWS]))
        for start in range(0, len(index), _CHUNK_ROWS)
    ]
    return pa.chunked_array(parts, pa.string())
