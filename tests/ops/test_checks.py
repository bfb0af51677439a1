"""The checks that the operations share: views without copies, and errors that name the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pyhbt.ops import checks


def test_arrays_are_viewed_not_copied() -> None:
    array = np.arange(6.0).reshape(2, 3)
    tensor = checks.as_tensor(array, "x")
    array[0, 0] = 7
    assert tensor[0, 0] == 7
    same = torch.ones(1)
    assert checks.as_tensor(same, "x") is same


def test_read_only_arrays_are_viewed_too() -> None:
    array = np.arange(4, dtype=np.float32)
    array.flags.writeable = False
    assert checks.as_tensor(array, "x").data_ptr() == array.ctypes.data
    assert not array.flags.writeable


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], "x: found list, expected a torch tensor or a NumPy array"),
        (np.array(["a"]), "x: found dtype <U1, expected native"),
        (np.ones(2, dtype=">f4"), "x: found dtype >f4, expected native"),
        (np.ones(2, dtype=complex), "x: found dtype complex128"),
    ],
)
def test_what_is_no_array_of_numbers(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        checks.as_tensor(value, "x")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.check_matrix(torch.ones(3), "x"), "x: found 1 dimensions, expected 2"),
        (lambda: checks.check_matrix(torch.ones(3, 0), "x"), "x: found dim 0"),
        (
            lambda: checks.check_same_dim(torch.ones(1, 2), "x", torch.ones(1, 3), "y"),
            "x: found dim 2, expected 3",
        ),
        (lambda: checks.check_length(torch.ones(2), "x", 3, "one a row"), "x: .*2"),
        (lambda: checks.check_indices(torch.tensor([0, 5]), "x", 5, "passages"), "x: .*5"),
        (lambda: checks.check_finite(torch.tensor([[0.0], [float("nan")]]), "x"), "x: row 1|x: .*1"),
        (lambda: checks.check_finite_positive(0.0, "x"), "x: found 0.0, expected a finite number above 0"),
        (lambda: checks.check_finite_positive(float("inf"), "x"), "x: found inf"),
    ],
)
def test_values_are_refused_by_name(check: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check()


def test_kinds_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="x: found"):
        checks.check_integers(torch.ones(2), "x")
    checks.check_integers(torch.ones(2, dtype=torch.int64), "x")
    checks.check_finite(torch.zeros(0, 3), "x")
    checks.check_finite(torch.full((40_000, 1), 3e38), "x")
