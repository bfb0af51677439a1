"""Which passages a query may find, checked and handed to the native module."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

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
        self._allowed = self._passage_partitions = self._pools = self._excluded = None
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
            self._passage_partitions, self._pools = _pools(of_passages, of_queries)
        if filter.exclude is not None:
            self._excluded = _per_query(device, filter.exclude, "filter.exclude", num_queries)
            checks.check_indices(self._excluded, "filter.exclude", num_passages, "passages")

    def of_queries(self, chosen: torch.Tensor) -> CheckedFilter:
        """The filter of some of the queries."""
        part = copy(self)
        part._pools = None if self._pools is None else self._pools[chosen]
        part._excluded = None if self._excluded is None else self._excluded[chosen]
        return part

    def native(self) -> _core.Filter:
        """As native modules take it."""
        pools, excluded = self._pools, self._excluded
        return {
            "allowed": _address(self._allowed),
            "passage_partitions": _address(self._passage_partitions),
            "pools": _address(pools),
            "num_partitions": 0 if pools is None else pools.shape[1],
            "excluded": _address(excluded),
            "excluded_per_query": 0 if excluded is None else excluded.shape[1],
        }


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


def _pools(partitions: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Partitions numbered from 0, and the pools (nq, num_partitions) in these numbers."""
    names, numbers = torch.unique(partitions, return_inverse=True)
    pools = torch.zeros(len(wanted), max(1, len(names)), dtype=torch.uint8, device=partitions.device)
    if len(names):
        place = torch.searchsorted(names, wanted).clamp(max=len(names) - 1)
        known = (names[place] == wanted) & (wanted >= 0)
        rows, columns = known.nonzero(as_tuple=True)
        pools[rows, place[rows, columns]] = 1
    return numbers.to(torch.int32).contiguous(), pools
