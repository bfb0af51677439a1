"""Several indexes searched as one, without a copy: their results are merged by the scores that decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch

from pyhbt.arguments import check_type, whole_number
from pyhbt.ops import checks
from pyhbt.ops.checks import Array
from pyhbt.ops.exact import Found
from pyhbt.ops.filters import CheckedFilter, SearchFilter
from pyhbt.ops.range import MOST_RESULTS, RangeResults
from pyhbt.ops.search_checks import Screening, check_k
from pyhbt.retrieval.index.exact import ExactIndex
from pyhbt.retrieval.index.names import Name, check_positions


class JoinedIndex:
    """Indexes as one: the passages of the first, then those of the second, and so on.

    Results are those of one index of all passages, bit for bit. Nothing is copied, so corpora that are kept apart (one
    for each language or month, in memory or memory-mapped) can be searched together in any combination.

    Args:
        indexes: at least one, all of one dim, similarity and device.

    Raises:
        ValueError: none, or indexes that do not fit.
        TypeError: other things than indexes.
    """

    def __init__(self, indexes: Iterable[ExactIndex]) -> None:
        self._indexes = tuple(indexes)
        if not self._indexes:
            raise ValueError("indexes: found none, expected at least one")
        for place, index in enumerate(self._indexes):
            check_type(f"indexes[{place}]", index, ExactIndex)
            for what in ("dim", "similarity", "device"):
                found, expected = getattr(index, what), getattr(self._indexes[0], what)
                if found != expected:
                    raise ValueError(
                        f"indexes[{place}]: found {what} {found}, expected {expected} (that of the first)"
                    )

    def __len__(self) -> int:
        return sum(map(len, self._indexes))

    def __repr__(self) -> str:
        count = len(self._indexes)
        return f"JoinedIndex({count} indexes, {len(self):,} passages, {self.dim} dims, {self.similarity})"

    @property
    def indexes(self) -> tuple[ExactIndex, ...]:
        """In their order."""
        return self._indexes

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._indexes[0].dim

    @property
    def similarity(self) -> str:
        """ "dot" or "cosine"."""
        return self._indexes[0].similarity

    def parts(self, indices: Array) -> tuple[torch.Tensor, torch.Tensor]:
        """Which index each found passage is of, and its position there; both int64 of the shape of ``indices``.

        Absent ones (-1) are -1 in both.

        Raises:
            ValueError: a position that no passage has.
            TypeError: no whole numbers.
        """
        found = checks.as_tensor(indices, "indices").cpu()
        check_positions(found, len(self))
        found = found.long()
        starts = torch.tensor([start for start, _ in self._bounds()])
        at = torch.searchsorted(starts, found, right=True) - 1  # of equal starts the last: others are empty
        position = found - starts[at.clamp(min=0)]
        return at.where(found >= 0, -1), position.where(found >= 0, -1)

    def ids_of(self, indices: Array) -> list[list[Name]]:
        """The names of found passages (nq, k), a list for each query; absent ones (-1) are left out.

        Raises:
            ValueError: an index without ids, indices of another shape, or a position that no passage has.
        """
        checks.check_matrix(checks.as_tensor(indices, "indices"), "indices")
        names = [self._ids(place) for place in range(len(self._indexes))]
        at, position = self.parts(indices)
        return [
            [names[one][where] for one, where in zip(*row, strict=True) if one >= 0]
            for row in zip(at.tolist(), position.tolist(), strict=True)
        ]

    @overload
    def search(
        self,
        queries: npt.NDArray[Any],
        k: int,
        *,
        filter: SearchFilter | None = ...,
        screening: Screening = ...,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
    @overload
    def search(
        self,
        queries: torch.Tensor,
        k: int,
        *,
        filter: SearchFilter | None = ...,
        screening: Screening = ...,
    ) -> Found: ...
    def search(
        self,
        queries: Array,
        k: int,
        *,
        filter: SearchFilter | None = None,
        screening: Screening = "auto",
    ) -> Found | tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """As :meth:`pyhbt.ExactIndex.search`; the filter counts passages through all indexes."""
        k = check_k(k, len(self))

        def search(index: ExactIndex, part: SearchFilter | None, start: int) -> tuple[torch.Tensor, ...]:
            exact, scores, indices = index.search_with_exact_scores(
                queries, min(k, max(1, len(index))), filter=part, screening=screening
            )
            return exact, scores, torch.where(indices >= 0, indices + start, -1)

        found = [torch.cat(part, dim=1) for part in zip(*self._each(search, queries, filter), strict=True)]
        scores, indices = best_of(found[0], found[1], found[2], k)
        return (scores, indices) if isinstance(queries, torch.Tensor) else (scores.numpy(), indices.numpy())

    def search_range(
        self,
        queries: Array,
        threshold: float | Array,
        *,
        filter: SearchFilter | None = None,
        screening: Screening = "auto",
        max_results: int = MOST_RESULTS,
    ) -> RangeResults:
        """As :meth:`pyhbt.ExactIndex.search_range`; the filter counts passages through all indexes."""
        left = whole_number("max_results", max_results, 0)

        def search(
            index: ExactIndex, part: SearchFilter | None, start: int
        ) -> tuple[RangeResults, torch.Tensor, int]:
            nonlocal left
            found, exact = index.range_with_exact_scores(
                queries, threshold, filter=part, screening=screening, max_results=left
            )
            left -= len(exact)
            return found, exact, start

        merged = _merged_ranges(list(self._each(search, queries, filter)))
        return merged.to(self._device) if isinstance(queries, torch.Tensor) else merged.numpy()

    @property
    def _device(self) -> torch.device:
        return self._indexes[0].device

    def _bounds(self) -> list[tuple[int, int]]:
        ends = np.cumsum([0, *map(len, self._indexes)]).tolist()
        return list(pairwise(ends))

    def _ids(self, place: int) -> Sequence[Name]:
        ids = self._indexes[place].ids
        if ids is None:
            raise ValueError(f"ids: indexes[{place}] was built without ids")
        return ids

    def _each(self, search: Callable[..., Any], queries: Array, filter: SearchFilter | None) -> Iterator[Any]:
        if filter is not None:  # as a whole, before it is cut
            check_type("filter", filter, SearchFilter)
            CheckedFilter(filter, len(queries), len(self), self._device)
        for index, (start, stop) in zip(self._indexes, self._bounds(), strict=True):
            part = None if filter is None else filter.passages(start, stop)
            yield search(index, part, start)


def best_of(exact: torch.Tensor, scores: torch.Tensor, indices: torch.Tensor, k: int) -> Found:
    """The k best of lists (nq, x) that stand side by side, each in order, in the order of their passages.

    A stable sort by the float64 scores that decide leaves ties by lower index.
    """
    order = exact.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return scores.gather(1, order), indices.gather(1, order)


def _merged_ranges(parts: list[tuple[RangeResults, torch.Tensor, int]]) -> RangeResults:
    """Rows of several searches as one, in the order of their exact scores; positions count from each one's start."""
    counts = np.stack([np.diff(np.asarray(found.offsets)) for found, _, _ in parts])
    rows = np.concatenate([np.repeat(np.arange(counts.shape[1]), count) for count in counts])
    exact = np.concatenate([scores.numpy() for _, scores, _ in parts])
    indices = np.concatenate([np.asarray(found.indices) + start for found, _, start in parts])
    order = np.lexsort((indices, -exact, rows))
    scores = np.concatenate([np.asarray(found.scores) for found, _, _ in parts])
    offsets = np.cumsum(np.concatenate([[0], counts.sum(axis=0)]), dtype=np.int64)
    return RangeResults(*map(torch.from_numpy, (offsets, scores[order], indices[order])))
