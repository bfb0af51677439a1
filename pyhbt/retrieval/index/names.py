"""Names of passages: strings or integers, all different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from pyhbt.ops import checks
from pyhbt.ops.checks import Array

Name: TypeAlias = "str | int"
Ids: TypeAlias = "Sequence[str] | Sequence[int] | npt.NDArray[Any] | torch.Tensor"


def listed(ids: Ids | None) -> list[Name] | None:
    """As a list of Python's strings or integers.

    Raises:
        TypeError: other kinds, or both.
    """
    if ids is None:
        return None
    names: list[Name]
    if isinstance(ids, (np.ndarray, torch.Tensor)):
        names = ids.tolist()
    else:
        names = [name.item() if isinstance(name, np.generic) else name for name in ids]
    _kind(names)
    return names


def check_count(names: Sequence[Name] | None, count: int) -> None:
    """Refuse another number of names than of passages.

    Raises:
        ValueError: not as many names as passages.
    """
    if names is not None and len(names) != count:
        raise ValueError(f"ids: found {len(names)}, expected {count} (one for each passage)")


def check_positions(indices: torch.Tensor, count: int) -> None:
    """Refuse what are no positions of ``count`` passages, or -1.

    Raises:
        ValueError: names the first bad row and its value.
        TypeError: no whole numbers.
    """
    if indices.dtype == torch.bool or indices.is_floating_point() or indices.is_complex():
        raise TypeError(f"indices: found dtype {indices.dtype}, expected whole numbers")
    checks.check_indices(indices, "indices", count, "passages")


class Names:
    """The names of an index's passages and where each is."""

    def __init__(self, names: list[Name], *, checked: bool = False) -> None:
        if not checked:
            _check_different(names)
        self._names = names
        self._places: dict[Name, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    @property
    def listed(self) -> list[Name]:
        """In the order of passages."""
        return self._names

    @property
    def places(self) -> dict[Name, int]:
        """The position of each."""
        known = len(self._places)
        if known < len(self._names):
            self._places.update(zip(self._names[known:], range(known, len(self._names)), strict=True))
        return self._places

    def of(self, indices: Array) -> list[list[Name]]:
        """The names of found passages (nq, k), a list for each query; absent ones (-1) are left out.

        Raises:
            ValueError: another shape, or a position that no passage has.
            TypeError: no whole numbers.
        """
        found = checks.as_tensor(indices, "indices")
        checks.check_matrix(found, "indices")
        check_positions(found, len(self))
        return [[self._names[place] for place in row if place >= 0] for row in found.tolist()]

    def check(self, more: list[Name]) -> None:
        """Refuse names that may not be added.

        Raises:
            ValueError: a name twice, or one that the index has.
            TypeError: names of another kind.
        """
        _check_different(more)
        _kind(self._names[:1] + more[:1])
        if len(self) > 0 and not self.places.keys().isdisjoint(more):
            again = next(name for name in more if name in self.places)
            raise ValueError(f"ids: found {again!r} again, expected different ones")

    def extend(self, more: list[Name]) -> None:
        """Adds names that were checked."""
        self._names.extend(more)


def _kind(names: list[Name]) -> None:
    kinds = {type(name) for name in names}
    if not (kinds <= {str} or kinds <= {int}):
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"ids: found {found}, expected strings or integers")


def _check_different(names: list[Name]) -> None:
    if len(set(names)) < len(names):
        again = next(name for name, times in Counter(names).items() if times > 1)
        raise ValueError(f"ids: found {again!r} twice, expected different ones")
