"""How many kernels a call of the loss launches on a GPU, and that it waits for none: counted on the emulator."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pyhbt.ops import contrastive_loss
from pyhbt.ops.cuda import contrastive as cuda_contrastive
from tests.launches import Launches, count
from tests.losses import make

MOST = 20  # of a call of one panel, with its gradients
GROUPS: dict[str, Any] = {"query_groups": torch.arange(40) // 2, "passage_groups": torch.arange(48) // 2}


def counted(
    monkeypatch: pytest.MonkeyPatch, n: int, m: int, positives: torch.Tensor | None = None, **options: Any
) -> tuple[Launches, Launches]:
    """Of the call alone, and with its backward pass."""
    queries, passages = (x.requires_grad_() for x in make(n, m, 16)[:2])
    inputs = [queries, passages]
    temperature = options.get("temperature")
    if isinstance(temperature, torch.Tensor):
        inputs.append(temperature)
    forward = count(monkeypatch, lambda: contrastive_loss(queries, passages, positives, **options))

    def both() -> None:
        loss = contrastive_loss(queries, passages, positives, **options)
        torch.autograd.grad(loss, inputs, torch.tensor(2.0))

    return forward, count(monkeypatch, both)


@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_call_of_one_panel(
    similarity: str, symmetric: bool, learnt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperature = torch.tensor(0.05, requires_grad=True) if learnt else 0.05
    forward, both = counted(
        monkeypatch, 40, 48, similarity=similarity, symmetric=symmetric, temperature=temperature
    )
    assert both.ours >= 6  # else nothing has been counted
    assert both.torch["mm"] + both.torch["matmul"] == 3
    assert both.all <= MOST
    assert not forward.waits


def test_the_plainest_call(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, both = counted(monkeypatch, 40, 48)
    assert (forward.ours, forward.torch.total()) == (6, 6)
    assert (both.ours, both.torch.total()) == (6, 8)


def test_given_positives(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, both = counted(monkeypatch, 40, 48, torch.arange(40))
    assert both.all <= MOST
    assert not forward.waits


def test_a_call_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    temperature = torch.tensor(0.05, requires_grad=True)
    _, both = counted(
        monkeypatch,
        *(40, 48, torch.arange(40)),
        temperature=temperature,
        similarity="cosine",
        symmetric=True,
        margin=0.1,
        **GROUPS,
    )
    assert both.all <= 26


@pytest.mark.parametrize(("symmetric", "more"), [(False, 18), (True, 18)])
def test_each_panel_more(symmetric: bool, more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three products, three kernels of ours: six launches a panel, with the merge of columns or the row's end."""
    totals = []
    for panels in (1, 4):
        monkeypatch.setattr(cuda_contrastive, "PANEL_BYTES", 4 * 128 * 128 // panels)
        totals.append(counted(monkeypatch, 128, 128, symmetric=symmetric)[1].all)
    assert totals[1] - totals[0] == more
