"""What a call would launch on a GPU, and where it would wait, counted on the emulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pyhbt.ops import _contrastive_op
from pyhbt.ops.cuda import contrastive as cuda_contrastive
from tests.emulated import emulated_kernels

ALLOCATE = (
    "empty",
    "new_empty",
    "empty_like",
    "empty_strided",
    "_unsafe_view",
    "lift_fresh",
    "scalar_tensor",
)
WAIT = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal")


class Launches(TorchDispatchMode):
    """Counts torch's operations that would launch kernels, those that would wait for the GPU, and our kernels.

    An operation of torch counts as one launch, though a sort takes several; views and allocations take none.
    ``tolist`` is seen by no mode: the one look of ``check_refused`` has tests of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.torch: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.ours = 0
        """Kernels of csrc/cuda."""

    @property
    def all(self) -> int:
        """Launches of both kinds."""
        return self.ours + self.torch.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        result = func(*args, **(kwargs or {}))
        if name in WAIT:
            self.waits[name] += 1
        elif func.namespace == "aten" and name not in ALLOCATE and not _is_view(func, args, result):
            self.torch[name] += 1
        return result


def _is_view(func: Any, args: tuple[Any, ...], result: Any) -> bool:
    """Whether an operation that may return its input under another shape did so: ``to`` and others copy at times."""
    if not any(part.alias_info is not None and not part.alias_info.is_write for part in func._schema.returns):
        return False
    made = result if isinstance(result, (list, tuple)) else [result]
    given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
    return all(x.untyped_storage().data_ptr() in given for x in made)


def count(monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> Launches:
    """Of a call whose losses take the CUDA path, with the temperature as on a GPU, where nobody reads it."""
    counted, module = Launches(), emulated_kernels().module
    run = partial(cuda_contrastive.contrastive_loss, emulated_kernels())

    def inside(*args: Any) -> Any:
        with counted:  # an operator of ours runs below the mode
            return run(*args)

    monkeypatch.setattr(_contrastive_op, "_native", inside)
    monkeypatch.setattr(cuda_contrastive, "unread_temperature", lambda given: given.detach().double())
    before = module.launches()
    with counted:
        call()
    counted.ours = module.launches() - before
    return counted
