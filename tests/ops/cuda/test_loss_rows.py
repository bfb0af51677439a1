"""What a call keeps of its rows, on the emulator: the parts that tests of the loss do not reach on the CPU."""

from __future__ import annotations

import pytest
import torch

from pyhbt.ops.cuda.loss_rows import LossRows
from tests.emulated import emulated_kernels
from tests.losses import make


def rows_of(positives: list[int], temperature: float | torch.Tensor) -> LossRows:
    queries, passages, _ = make(3, 5, 7)
    rows = LossRows(
        *(emulated_kernels(), queries, passages, torch.tensor(positives), torch.ones(3), temperature),
        margin=torch.inf,
        cosine=False,
        share=1.0,
        groups=None,
        zeros=torch.zeros(7, dtype=torch.int32),
    )
    rows.logsumexp.fill_(1.0)
    rows.solve(slice(0, 3))
    return rows


def test_a_temperature_that_nobody_looked_at() -> None:
    found = rows_of([1, 2, 4], torch.tensor(0.25, dtype=torch.float64))
    expected = rows_of([1, 2, 4], 0.25)
    for one, other in zip(found.totals(None), expected.totals(None), strict=True):
        assert torch.equal(one, other)
    assert found.refused.tolist() == [0, 0]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bad_temperature_makes_all_losses_nan(bad: float) -> None:
    rows = rows_of([1, -1, 4], torch.tensor(bad, dtype=torch.float64))
    losses, loss, _ = rows.totals(None)
    assert losses.isnan().tolist() == [True, False, True]
    assert bool(loss.isnan())
    assert rows.refused.tolist() == [0, 1]


def test_a_positive_that_is_no_passage() -> None:
    rows = rows_of([1, 5, 4], 0.25)
    assert rows.totals(None)[0].isnan().tolist() == [False, True, False]
    assert rows.refused.tolist() == [1, 0]
