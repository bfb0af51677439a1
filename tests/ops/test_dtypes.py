"""One table of dtypes, for Python and every native module."""

from __future__ import annotations

import torch

from pyhbt.ops._native import core
from pyhbt.ops.dtypes import DTYPES
from tests.emulated import emulated_kernels


def test_the_table_is_that_of_the_native_module() -> None:
    assert list(DTYPES.values()) == list(core.DTYPES) == ["float32", "float16", "bfloat16"]
    assert all(str(dtype) == f"torch.{name}" for dtype, name in DTYPES.items())


def test_the_cuda_module_has_the_same() -> None:
    assert list(emulated_kernels().module.DTYPES) == list(core.DTYPES)
    assert set(DTYPES) == {torch.float32, torch.float16, torch.bfloat16}
