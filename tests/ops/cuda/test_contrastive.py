"""The loss on the CUDA kernels: within the budgets of the CPU operation's tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pyhbt.ops import contrastive_loss, panels, reference
from pyhbt.ops.cuda import contrastive as cuda_contrastive
from pyhbt.ops.cuda.kernels import kernels
from tests import losses
from tests.emulated import emulated_kernels
from tests.losses import RECTANGLES, REDUCTIONS, SIZES, make

pytestmark = pytest.mark.usefixtures("gpu")


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_square_batches(size: int, symmetric: bool) -> None:
    queries, passages, _ = make(size, size, 33, size)
    for reduction in REDUCTIONS:
        losses.check(
            queries,
            passages,
            temperature=0.05,
            symmetric=symmetric,
            reduction=reduction,
            ordinary=losses.ON_A_GPU,
        )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("n", "m"), RECTANGLES)
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_shared_missing_and_grouped_positives(n: int, m: int, symmetric: bool, similarity: str) -> None:
    queries, passages, generator = make(n, m, 9, n + m)
    positives = torch.randint(-1, m, (n,), generator=generator)
    losses.check(
        *(queries, passages, positives),
        temperature=0.05,
        similarity=similarity,
        symmetric=symmetric,
        query_groups=torch.randint(-1, 4, (n,), generator=generator),
        passage_groups=torch.randint(-1, 4, (m,), generator=generator),
        margin=0.1,
        reduction="mean",
        ordinary=losses.ON_A_GPU,
    )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_one_gradient_alone(symmetric: bool, similarity: str, gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    given = [x.to(device) for x in make(130, 150, 9, 1)[:2]]

    def gradients(*wanted: bool) -> list[torch.Tensor | None]:
        inputs = [x.clone().requires_grad_(grad) for x, grad in zip(given, wanted, strict=True)]
        contrastive_loss(inputs[0], inputs[1], symmetric=symmetric, similarity=similarity).backward()
        return [x.grad for x in inputs]

    queries, passages = gradients(True, True)
    own_queries, none = gradients(True, False)
    also_none, own_passages = gradients(False, True)
    assert none is None
    assert also_none is None
    assert own_queries is not None
    assert own_passages is not None
    torch.testing.assert_close(own_queries, queries)
    torch.testing.assert_close(own_passages, passages)


def test_symmetric_batch_that_does_not_keep_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "RETAINED_BYTES", 0)
    queries, passages, _ = make(130, 150, 9, 1)
    losses.check(
        queries, passages, temperature=0.05, symmetric=True, reduction="mean", ordinary=losses.ON_A_GPU
    )


@pytest.mark.parametrize("symmetric", [False, True])
def test_peaked_rows_keep_their_accuracy(symmetric: bool, gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    queries, noise, _ = make(150, 150, 33, 2)
    queries = torch.nn.functional.normalize(queries)
    passages = torch.nn.functional.normalize(queries + 1e-3 * noise)
    options: dict[str, Any] = {"temperature": 0.02, "symmetric": symmetric, "reduction": "mean"}
    q, p = (x.to(device, copy=True).requires_grad_() for x in (queries, passages))
    loss = contrastive_loss(q, p, **options)
    loss.backward()
    wide = [x.double().requires_grad_() for x in (queries, passages)]
    truth = reference.contrastive_loss(wide[0], wide[1], **options)
    truth.backward()
    assert loss.item() == pytest.approx(truth.item(), rel=losses.PEAKED)
    for found, expected in ((q, wide[0]), (p, wide[1])):
        assert found.grad is not None
        assert expected.grad is not None
        assert losses.relative_error(found.grad.cpu(), expected.grad) <= losses.PEAKED


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize(("dtype", "unit"), [(torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)])
def test_half_precision_embeddings(dtype: torch.dtype, unit: float, cosine: bool, gpu: str) -> None:
    """Losses as accurate as in float32; gradients with the rounding of one softmax weight each."""
    device = "cuda" if gpu == "cuda" else "cpu"
    queries, passages, _ = make(70, 90, 33, 4)
    options: dict[str, Any] = {
        "temperature": 0.05,
        "similarity": "cosine" if cosine else "dot",
        "reduction": "none",
    }
    q, p = (x.to(device, dtype).requires_grad_() for x in (queries, passages))
    loss = contrastive_loss(q, p, **options)
    loss.sum().backward()
    wide = [x.detach().cpu().double().requires_grad_() for x in (q, p)]
    truth = reference.contrastive_loss(wide[0], wide[1], **options)
    truth.sum().backward()
    torch.testing.assert_close(loss.detach().cpu().double(), truth.detach(), rtol=0, atol=2e-5)
    for found, expected in ((q, wide[0]), (p, wide[1])):
        assert found.grad is not None
        assert expected.grad is not None
        assert losses.relative_error(found.grad.cpu(), expected.grad) <= 2 * unit


@pytest.mark.parametrize("symmetric", [False, True])
def test_learnable_temperature(symmetric: bool, gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    queries, passages, _ = make(40, 50, 9, 6)
    found = torch.tensor(0.07, dtype=torch.float64, device=device, requires_grad=True)
    contrastive_loss(
        queries.to(device), passages.to(device), temperature=found, symmetric=symmetric
    ).backward()
    truth = torch.tensor(0.07, dtype=torch.float64, requires_grad=True)
    reference.contrastive_loss(
        queries.double(), passages.double(), temperature=truth, symmetric=symmetric
    ).backward()
    assert found.grad is not None
    assert truth.grad is not None
    assert found.grad.item() == pytest.approx(truth.grad.item(), rel=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_numbers_spread_as_in_cross_entropy(bad: float, symmetric: bool, gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    for side in (0, 1):
        inputs = [*make(9, 9, 8)[:2]]
        inputs[side][4, 3] = bad
        q, p = (x.to(device) for x in inputs)
        rows = contrastive_loss(q, p, symmetric=symmetric, reduction="none")
        scores = inputs[0] @ inputs[1].T / 0.05
        labels = torch.arange(9)
        expected = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
        if symmetric:
            expected = (expected + torch.nn.functional.cross_entropy(scores.T, labels, reduction="none")) / 2
        torch.testing.assert_close(rows.cpu(), expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_rows_without_positive_may_hold_anything(gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    queries, passages, _ = make(6, 8, 3, 9)
    queries[2] = float("nan")
    positives = torch.tensor([0, 1, -1, 3, 4, 5], device=device)
    q, p = (x.to(device).requires_grad_() for x in (queries, passages))
    loss = contrastive_loss(q, p, positives)
    loss.backward()
    assert q.grad is not None
    assert p.grad is not None
    assert bool(loss.isfinite())
    assert bool(q.grad.isfinite().all())
    assert bool(p.grad.isfinite().all())


def test_products_in_float32_whatever_tf32_is_set_to(gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    native = emulated_kernels() if gpu == "emulated" else kernels(torch.device("cuda"))
    assert native is not None
    left, right, _ = make(67, 70, 45, 3)
    found = native.multiply_rows(left.to(device), right.to(device)).cpu()
    torch.testing.assert_close(found.double(), left.double() @ right.double().T, rtol=0, atol=2e-6)


def test_gradients_do_not_depend_on_panels(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many queries and few passages: rows of a panel are limited by the grid too."""
    device = "cuda" if gpu == "cuda" else "cpu"
    queries, passages, _ = make(300, 3, 5, 12)
    positives = torch.arange(300, device=device) % 3
    found = []
    for rows in (64, 1 << 18):
        monkeypatch.setattr(cuda_contrastive, "MOST_PANEL_ROWS", rows)
        q, p = (x.to(device, copy=True).requires_grad_() for x in (queries, passages))
        loss = contrastive_loss(q, p, positives)
        loss.backward()
        assert q.grad is not None
        assert p.grad is not None
        found.append((loss.detach(), q.grad, p.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("passages", "memory", "rows"),
    [
        (1024, 80 << 30, 1 << 16),
        (16_384, 80 << 30, 4096),
        (65_536, 80 << 30, 4096),  # 1 GiB: 16 passes over the passages' gradient where 256 MiB makes 64
        (65_536, 16 << 30, 2048),
        (65_536, 8 << 30, 1024),
        (262_144, 80 << 30, 1024),
        (1 << 24, 80 << 30, 32),
        (1, 80 << 30, 1 << 18),
        (4 << 20, 1 << 30, 32),
    ],
)
def test_rows_of_a_panel(passages: int, memory: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_contrastive, "PANEL_BYTES", 256 << 20)
    assert cuda_contrastive.panel_rows(passages, memory) == rows
