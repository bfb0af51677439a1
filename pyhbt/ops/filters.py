"""Which passages a query may find, checked and handed to the native module."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pyhbt.arguments import renamed_fields
from pyhbt.ops import checks
from pyhbt.ops.checks import Array

if TYPE_CHECKING:
    from pyhbt import _core

_CPU = torch.device("cpu")


@renamed_fields(passage_groups="passage_partitions", query_groups="query_partitions")
@dataclass(frozen=True, kw_only=True)
class SearchFilter:
    """Which passages each of ``nq`` queries may find among ``n``; parts combine, and each may be left out.

    One index thus serves every setting without copies. A passage lies in one partition, a query searches some: the
    language of each passage as ``passage_partitions``, say, and the languages that each query searches as
    ``query_partitions``. Where passages of a partition lie side by side, whole stretches are skipped.
    """

    allowed: Array | None = None
    """Passages that may be found: (n,) bool, or int64 positions."""
    passage_partitions: Array | None = None
    """(n,) int64 partition of each passage."""
    query_partitions: Array | None = None
    """(nq,) or (nq, p) int64 partitions that each query searches, -1: none."""
    exclude: Array | None = None
    """(nq,) or (nq, e) int64 passages that a query must not find, its own document say; -1: none."""

    def rows(self, start: int, stop: int) -> SearchFilter:
        """The filter of some of the queries."""
        partitions = None if self.query_partitions is None else self.query_partitions[start:stop]
        exclude = None if self.exclude is None else self.exclude[start:stop]
        return replace(self, query_partitions=partitions, exclude=exclude)

    def passages(self, start: int, stop: int) -> SearchFilter:
        """The filter of the passages from ``start`` to ``stop``, whose positions count from there."""
        allowed, partitions, exclude = self.allowed, self.passage_partitions, self.exclude
        if allowed is not None:
            places = checks.as_tensor(allowed, "filter.allowed")
            if places.dtype == torch.bool:
                allowed = places[start:stop]
            else:
                allowed = places[(places >= start) & (places < stop)] - start
        if exclude is not None:
            passages = checks.as_tensor(exclude, "filter.exclude")
            exclude = torch.where((passages >= start) & (passages < stop), passages - start, -1)
        return replace(
            self,
            allowed=allowed,
            passage_partitions=None if partitions is None else partitions[start:stop],
            exclude=exclude,
        )

    def to(self, device: torch.device) -> SearchFilter:
        """The filter with its parts on a device."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {
            name: None if part is None else checks.as_tensor(part, f"filter.{name}").to(device)
            for name, part in parts.items()
        }
        return SearchFilter(**moved)


class CheckedFilter:
    """A filter as tensors in native layout, which live as long as this object.

    Args:
        device: where the search happens; parts of the filter may lie there or on the CPU.
    """

    def __init__(
        self,
        filter: SearchFilter | None,
        num_queries: int,
        num_passages: int,
        device: torch.device = _CPU,
    ) -> None:
        self._allowed = self._passage_partitions = self._query_partitions = self._excluded = None
        self._num_queries, self._num_passages, self._num_partitions = num_queries, num_passages, 0
        if filter is None:
            return
        if filter.allowed is not None:
            self._allowed = _allowed(_on(device, filter.allowed, "filter.allowed"), num_passages)
        partitions, wanted = filter.passage_partitions, filter.query_partitions
        if (partitions is None) != (wanted is None):
            missing = "passage_partitions" if partitions is None else "query_partitions"
            raise ValueError(
                f"filter.{missing}: found None, expected partitions, since the other side has them"
            )
        if partitions is not None and wanted is not None:
            of_passages = _on(device, partitions, "filter.passage_partitions")
            checks.check_integers(of_passages, "filter.passage_partitions")
            checks.check_length(of_passages, "filter.passage_partitions", num_passages, "passage")
            of_queries = _per_query(device, wanted, "filter.query_partitions", num_queries)
            named = torch.unique(of_queries[of_queries >= 0])
            self._num_partitions = len(named)
            self._passage_partitions = _numbered(of_passages, named)
            self._query_partitions = _once(_ascending(_numbered(of_queries, named)))
        if filter.exclude is not None:
            excluded = _per_query(device, filter.exclude, "filter.exclude", num_queries)
            checks.check_indices(excluded, "filter.exclude", num_passages, "passages")
            self._excluded = _ascending(excluded)

    def pairs(self) -> int:
        """Pairs of query and passage that may be found, counting those excluded one by one."""
        if self._passage_partitions is None or self._query_partitions is None:
            found = self._num_passages if self._allowed is None else int(torch.count_nonzero(self._allowed))
            return self._num_queries * found
        # The last size is that of partition -1: no passages.
        partitions = self._passage_partitions
        if self._allowed is not None:
            partitions = torch.where(self._allowed > 0, partitions, -1)
        sizes = torch.bincount(partitions + 1, minlength=self._num_partitions + 1).roll(-1)
        sizes[-1] = 0
        return int(sizes[self._query_partitions.long()].sum())

    def of_queries(self, chosen: torch.Tensor) -> CheckedFilter:
        """The filter of some of the queries."""
        part = copy(self)
        wanted = self._query_partitions
        part._query_partitions = None if wanted is None else wanted[chosen]
        part._excluded = None if self._excluded is None else self._excluded[chosen]
        return part

    def native(self) -> _core.Filter:
        """As native modules take it."""
        wanted, excluded = self._query_partitions, self._excluded
        return {
            "allowed": _address(self._allowed),
            "passage_partitions": _address(self._passage_partitions),
            "num_partitions": self._num_partitions,
            "query_partitions": _address(wanted),
            "partitions_per_query": 0 if wanted is None else wanted.shape[1],
            "excluded": _address(excluded),
            "excluded_per_query": 0 if excluded is None else excluded.shape[1],
        }


def check_filter(
    filter: SearchFilter | CheckedFilter | None,
    num_queries: int,
    num_passages: int,
    device: torch.device = _CPU,
) -> CheckedFilter | None:
    """A filter, checked unless it was already."""
    if filter is None or isinstance(filter, CheckedFilter):
        return filter
    return CheckedFilter(filter, num_queries, num_passages, device)


def _on(device: torch.device, value: Array, name: str) -> torch.Tensor:
    tensor = checks.as_tensor(value, name)
    if tensor.device not in (_CPU, device):
        also = "" if device == _CPU else f" or {device}"
        raise ValueError(
            f"{name}: found device {tensor.device}, expected cpu{also}; move it there with .cpu()"
        )
    return tensor.to(device)


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _allowed(allowed: torch.Tensor, num_passages: int) -> torch.Tensor:
    if allowed.dtype == torch.bool:
        checks.check_length(allowed, "filter.allowed", num_passages, "passage")
        return allowed.to(torch.uint8).contiguous()
    checks.check_integers(allowed, "filter.allowed")
    if allowed.ndim != 1:
        raise ValueError(f"filter.allowed: found {allowed.ndim} dimensions, expected 1")
    if len(allowed) and not 0 <= int(allowed.min()) <= int(allowed.max()) < num_passages:
        raise ValueError(
            f"filter.allowed: found positions {int(allowed.min())} to {int(allowed.max())}, expected 0 to "
            f"{num_passages - 1}"
        )
    places, times = torch.unique(allowed, return_counts=True)
    if len(places) < len(allowed):
        repeated = int(places[times > 1][0])
        raise ValueError(
            f"filter.allowed: found position {repeated} twice, expected each once (a mask of 0 and 1 has to be bool)"
        )
    mask = torch.zeros(num_passages, dtype=torch.uint8, device=allowed.device)
    mask[allowed] = 1
    return mask


def _per_query(device: torch.device, value: Array, name: str, num_queries: int) -> torch.Tensor:
    tensor = _on(device, value, name)
    checks.check_integers(tensor, name)
    if tensor.ndim not in (1, 2) or len(tensor) != num_queries:
        raise ValueError(
            f"{name}: found shape {tuple(tensor.shape)}, expected ({num_queries},) or ({num_queries}, x)"
        )
    return tensor.reshape(num_queries, tensor.shape[1] if tensor.ndim == 2 else 1).contiguous()


def _numbered(partitions: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
    """The place of each partition among those named by queries, int32; -1: no query names it.

    Where a thousand of a million partitions are named, nothing has the size of a million times the queries.
    """
    if not len(named):
        return torch.full_like(partitions, -1, dtype=torch.int32)
    first, last = int(named[0]), int(named[-1])
    if last - first <= 4 * len(partitions):  # a table is faster than bisection
        table = torch.full((last - first + 2,), -1, dtype=torch.int32, device=named.device)
        table[named - first] = torch.arange(len(named), dtype=torch.int32, device=named.device)
        # What lies outside meets the -1 at the table's end.
        within = (partitions >= first) & (partitions <= last)
        return table[torch.where(within, partitions - first, last - first + 1)]
    place = torch.searchsorted(named, partitions).clamp(max=len(named) - 1)
    return torch.where(named[place] == partitions, place, -1).to(torch.int32)


def _ascending(rows: torch.Tensor) -> torch.Tensor:
    """Rows sorted."""
    if rows.shape[1] < 2:
        return rows
    # NumPy sorts by vector instructions, in a tenth of the time.
    return rows.sort(dim=1).values if rows.is_cuda else torch.from_numpy(np.sort(rows.numpy(), axis=1))


def _once(rows: torch.Tensor) -> torch.Tensor:
    """Sorted rows of numbers from -1 on, with -1 in place of what is repeated."""
    repeated = rows[:, 1:] == rows[:, :-1]
    rows[:, 1:][repeated] = -1
    return _ascending(rows)
