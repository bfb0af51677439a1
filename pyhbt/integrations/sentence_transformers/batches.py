"""Hybrid batches for sentence-transformers' trainer: a dataset of pairs, and what ``batch_sampler=`` takes.

Their trainer tokenises every column as text, so languages are no columns: the sampler knows them from the pairs, and
the rows of the dataset are the pairs in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

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

    Args:
        pairs: the pairs of the training set.
        eval_pairs: the pairs of the trainer's ``eval_dataset``, if it has one; an evaluation always has the same
            batches, as many as its queries need.
        options: those of :class:`HybridBatchSampler` (``ratio``, ``language_sampling``, ``cross_pairs``,
            ``false_negatives``, ``steps``, ``schedule_steps``, ``seed``), but not ``batch_size`` and ``num_ranks``.
            ``seed`` is the trainer's by default; ``steps`` counts batches an epoch and rank, a schedule runs over
            ``schedule_steps``, by default one epoch.

    All ranks get batches of the same kind and languages at the same step. As a callback it tells the sampler the epoch
    when a training on several ranks resumes, where accelerate's wrappers stop the trainer's own word. Pickled, as with
    the arguments in every checkpoint, it leaves the pairs out.

    Raises:
        ValueError: options that :class:`HybridBatchSampler` refuses.
    """

    def __init__(self, pairs: PairSet, *, eval_pairs: PairSet | None = None, **options: Any) -> None:
        for name in ("batch_size", "num_ranks"):
            if name in options:
                raise ValueError(f"{name}: found {options[name]}, expected none: the trainer gives it")
        self._pair_sets = [pairs] if eval_pairs is None else [pairs, eval_pairs]
        for known in self._pair_sets:
            HybridBatchSampler(known, 1, **options)  # refuses what is wrong with the options now
        self._options = options
        self.sampler: HybridBatchSampler | None = None

    def __call__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool = False,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> Sampler[list[int]]:
        """Batches of ``dataset``; ``drop_last`` and ``generator`` have no bearing on them.

        Raises:
            ValueError: ``dataset`` is not made from the pairs.
        """
        pairs = next((known for known in self._pair_sets if _holds(dataset, known)), None)
        if pairs is None:
            lengths = " or ".join(str(len(known)) for known in self._pair_sets)
            raise ValueError(
                f"dataset: found {len(dataset)} rows, expected the {lengths} pairs given, in their order"
            )
        training = pairs is self._pair_sets[0]
        options = {"seed": seed} | self._options
        if not training:
            options = {
                name: value for name, value in options.items() if name not in ("steps", "schedule_steps")
            }
        sampler = HybridBatchSampler(pairs, batch_size, num_ranks=world_size(), **options)
        if training:
            self.sampler = sampler
        return _Batches(sampler)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Choose the epoch's order."""
        if self.sampler is not None:
            self.sampler.set_epoch(int(state.epoch or 0))

    def __deepcopy__(self, memo: dict[int, Any]) -> HybridBatches:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"_pair_sets": [], "_options": self._options, "sampler": None}


class _Batches(Sampler[list[int]]):
    """A hybrid sampler as accelerate reads it.

    No ``batch_size``: accelerate would drop batches that are shorter. ``sampler`` by name: accelerate looks there for
    ``set_epoch``.
    """

    batch_size = None
    drop_last = False

    def __init__(self, sampler: HybridBatchSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)


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
