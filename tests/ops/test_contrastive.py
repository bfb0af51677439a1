"""Contrastive loss: native kernel against the float64 twin, on awkward sizes first; the budgets are in losses.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import contrastive_loss, reference
from pyhbt.ops._native import build_info
from tests.interpreter import run_python
from tests.losses import (
    ORDINARY,
    PEAKED,
    RECTANGLES,
    REDUCTIONS,
    SIZES,
    check,
    make,
    relative_error,
    with_gradients,
)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_square_batches(size: int, symmetric: bool) -> None:
    for dim in (1, 8, 33):
        queries, passages, _ = make(size, size, dim)
        for reduction in REDUCTIONS:
            check(queries, passages, temperature=0.1, symmetric=symmetric, reduction=reduction)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("n", "m"), RECTANGLES)
def test_shared_missing_and_grouped_positives(n: int, m: int, symmetric: bool) -> None:
    queries, passages, generator = make(n, m, 65)
    positives = torch.randint(-1, max(1, m // 3), (n,), generator=generator)
    groups = {
        "query_groups": torch.randint(-1, 6, (n,), generator=generator),
        "passage_groups": torch.randint(-1, 6, (m,), generator=generator),
    }
    check(queries, passages, positives, temperature=0.2, symmetric=symmetric, reduction="none")
    for reduction in ("none", "mean"):
        check(
            queries, passages, positives, temperature=0.2, symmetric=symmetric, reduction=reduction, **groups
        )


SIZED = [(256, 384), (1024, 384), (2500, 100)]
LARGE = [(4096, 768, True), (4096, 768, False), (8192, 384, False), (16384, 128, False)]


@pytest.mark.parametrize(
    ("n", "dim", "symmetric"),
    [(*size, symmetric) for size in SIZED for symmetric in (False, True)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in LARGE],
)
def test_accuracy_does_not_fall_with_size(n: int, dim: int, symmetric: bool) -> None:
    queries, passages, _ = make(n, n, dim)
    for rows, others in ((n, n), (min(n, 300), n), (n, n // 8)):  # square, tall, wide
        q, p = queries[:rows], passages[:others]
        options: dict[str, Any] = {"temperature": 0.3, "symmetric": symmetric}
        positives = torch.arange(rows) % others
        found = with_gradients(contrastive_loss, q, p, positives, **options)
        truth = with_gradients(reference.contrastive_loss, q.double(), p.double(), positives, **options)
        for gradient, expected in zip(found[1:], truth[1:], strict=True):
            assert relative_error(gradient, expected) <= ORDINARY


def test_several_panels_without_retained_scores() -> None:
    queries, passages, generator = make(2100, 2100, 16)
    positives = torch.randint(-1, 2100, (2100,), generator=generator)
    check(queries, passages, positives, temperature=0.2, symmetric=True, reduction="none")


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 0.02])
def test_peaked_rows_keep_their_accuracy(temperature: float, symmetric: bool) -> None:
    # Unit vectors: positives near 1, negatives near 0.1; at temperature 0.05 the loss is around 1e-6, at 0.02 1e-16.
    _, passages, generator = make(65, 65, 384)
    common = torch.randn(384, generator=generator)
    passages = torch.nn.functional.normalize(passages * 384**0.5 + 0.33 * common, dim=1)
    queries = torch.nn.functional.normalize(
        passages + 1e-3 * torch.randn(65, 384, generator=generator), dim=1
    )
    kwargs: dict[str, Any] = {"temperature": temperature, "symmetric": symmetric, "reduction": "none"}
    found = with_gradients(contrastive_loss, queries, passages, **kwargs)
    truth = with_gradients(_stable_truth, queries.double(), passages.double(), **kwargs)
    assert float(truth[0].max()) < 1e-4
    for value, expected in zip(found, truth, strict=True):
        assert relative_error(value, expected) <= PEAKED


def _stable_truth(queries: torch.Tensor, passages: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Independent of the twin: the textbook cross-entropy, with log(1 + x) for its smallest values."""
    scores = queries @ passages.T / kwargs["temperature"]
    off = scores - scores.diagonal()[:, None]
    off = off.masked_fill(torch.eye(len(off), dtype=torch.bool), -torch.inf)
    rows = torch.log1p(off.exp().sum(dim=1))
    if not kwargs["symmetric"]:
        return rows
    down = scores.T - scores.diagonal()[:, None]
    down = down.masked_fill(torch.eye(len(down), dtype=torch.bool), -torch.inf)
    return (rows + torch.log1p(down.exp().sum(dim=1))) / 2


def test_twin_is_cross_entropy() -> None:
    queries, passages, generator = make(31, 33, 16)
    positives = torch.randint(0, 33, (31,), generator=generator)
    scores = queries.double() @ passages.double().T / 0.07
    expected = torch.nn.functional.cross_entropy(scores, positives)
    found = reference.contrastive_loss(queries.double(), passages.double(), positives, temperature=0.07)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_gradcheck_of_twin_in_float64() -> None:
    queries, passages, _ = make(5, 6, 4)
    positives = torch.tensor([2, 2, -1, 0, 5])
    groups = torch.tensor([0, 1, 1, -1, 0]), torch.tensor([0, 1, 0, 1, -1, 0])

    def loss(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return reference.contrastive_loss(
            q, p, positives, temperature=0.5, symmetric=True, query_groups=groups[0], passage_groups=groups[1]
        )

    inputs = (queries.double().requires_grad_(), passages.double().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 20),
    extra=st.integers(0, 20),
    dim=st.integers(1, 20),
    temperature=st.floats(0.05, 2.0),
    symmetric=st.booleans(),
    grouped=st.booleans(),
    reduction=st.sampled_from(REDUCTIONS),
    seed=st.integers(0, 1000),
)
def test_any_small_batch(
    n: int,
    extra: int,
    dim: int,
    temperature: float,
    symmetric: bool,
    grouped: bool,
    reduction: str,
    seed: int,
) -> None:
    m = max(1, n + extra)
    queries, passages, generator = make(n, m, dim, seed)
    positives = torch.randint(-1, m, (n,), generator=generator)
    kwargs: dict[str, Any] = {"temperature": temperature, "symmetric": symmetric, "reduction": reduction}
    if grouped:
        kwargs["query_groups"] = torch.randint(-1, 3, (n,), generator=generator)
        kwargs["passage_groups"] = torch.randint(-1, 3, (m,), generator=generator)
    if n == 0:
        assert contrastive_loss(queries, passages, positives, **kwargs).sum() == 0
    else:
        check(queries, passages, positives, **kwargs)


@pytest.mark.parametrize("symmetric", [False, True])
def test_bits_do_not_depend_on_threads(symmetric: bool, restore_threads: None) -> None:
    queries, passages, generator = make(530, 700, 65)
    positives = torch.randint(-1, 700, (530,), generator=generator)
    results = []
    for threads in range(1, 9):
        torch.set_num_threads(threads)
        results.append(with_gradients(contrastive_loss, queries, passages, positives, symmetric=symmetric))
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first, second)


_LEVEL_PROGRAM = """
import sys, torch
from pyhbt.ops import contrastive_loss
g = torch.Generator().manual_seed(3)
q = torch.randn(129, 33, generator=g).requires_grad_()
p = torch.randn(140, 33, generator=g).requires_grad_()
loss = contrastive_loss(q, p, temperature=2.0, symmetric=True)
loss.backward()
torch.save((loss.detach(), q.grad, p.grad), sys.argv[1])
"""


def test_instruction_sets_agree(tmp_path: Any) -> None:
    results = []
    for level in build_info()["simd_supported"]:
        path = tmp_path / f"level-{level}.pt"
        run_python(_LEVEL_PROGRAM, path, PYHBT_SIMD=level)
        results.append(torch.load(path, weights_only=True))
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert relative_error(first, second.double()) <= ORDINARY


def test_unknown_instruction_set_fails_the_import() -> None:
    done = run_python("import pyhbt.ops", check=False, PYHBT_SIMD="sse9")
    assert done.returncode != 0
    assert "ImportError: PYHBT_SIMD: found 'sse9', expected one of portable" in done.stderr


def test_rows_without_positive_take_no_part() -> None:
    queries, passages, _ = make(4, 6, 8)
    positives = torch.tensor([2, -1, 0, -1])
    rows = contrastive_loss(queries, passages, positives, reduction="none")
    assert rows[1] == rows[3] == 0
    assert torch.allclose(contrastive_loss(queries, passages, positives), rows.sum() / 2)
    for symmetric in (False, True):
        # With a row that has no positive, or without it: the same.
        kept = contrastive_loss(queries[::2], passages, positives[::2], symmetric=symmetric)
        assert torch.equal(contrastive_loss(queries, passages, positives, symmetric=symmetric), kept)
        assert contrastive_loss(queries, passages, torch.full((4,), -1), symmetric=symmetric) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_row_without_positive_may_hold_anything(dtype: torch.dtype, symmetric: bool) -> None:
    queries, passages = (x.to(dtype) for x in make(9, 12, 8)[:2])
    positives = torch.arange(9)
    positives[4] = -1
    results = []
    for value in (0.0, float("nan"), float("inf")):
        queries[4] = value
        for similarity in ("dot", "cosine"):
            found = with_gradients(
                contrastive_loss, queries, passages, positives, symmetric=symmetric, similarity=similarity
            )
            results.append(found)
            assert not found[1][4].any()
            for one, other in zip(found, results[similarity == "cosine"], strict=True):
                assert torch.equal(one, other)


def test_group_members_are_no_negatives() -> None:
    queries, passages, _ = make(3, 5, 8)
    everything: dict[str, Any] = {
        "query_groups": torch.tensor([1, 1, 1]),
        "passage_groups": torch.full((5,), 1),
    }
    assert contrastive_loss(queries, passages, **everything) == 0
    nothing: dict[str, Any] = {"query_groups": torch.full((3,), -1), "passage_groups": torch.full((5,), -1)}
    assert torch.equal(contrastive_loss(queries, passages, **nothing), contrastive_loss(queries, passages))


def test_empty_batches() -> None:
    empty = torch.empty(0, 8)
    assert contrastive_loss(empty, torch.randn(3, 8)) == 0
    assert contrastive_loss(empty, empty, reduction="none").shape == (0,)
    assert contrastive_loss(torch.randn(2, 8), empty, torch.tensor([-1, -1])) == 0
    queries = torch.randn(2, 8, requires_grad=True)
    contrastive_loss(queries, empty, torch.tensor([-1, -1])).backward()  # type: ignore[no-untyped-call]
    assert queries.grad is not None
    assert torch.equal(queries.grad, torch.zeros(2, 8))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("symmetric", [False, True])
def test_non_finite_embeddings_give_nan(bad: float, symmetric: bool) -> None:
    for side in (0, 1):
        inputs = [*make(9, 9, 8)[:2]]
        inputs[side][4, 3] = bad
        loss, *_ = with_gradients(contrastive_loss, *inputs, symmetric=symmetric)
        assert torch.isnan(loss)


def test_strided_inputs() -> None:
    queries, passages, _ = make(16, 16, 32)
    check(queries[::2, ::2], passages.T[:16, :8].T[:8], temperature=0.3, reduction="mean")


def test_only_one_side_needs_a_gradient() -> None:
    queries, passages, _ = make(7, 7, 8)
    queries.requires_grad_()
    contrastive_loss(queries, passages).backward()  # type: ignore[no-untyped-call]
    assert queries.grad is not None
    assert passages.grad is None


def test_numpy_in_numpy_out() -> None:
    queries, passages, _ = make(7, 9, 8)
    expected = contrastive_loss(queries, passages)
    arrays = queries.numpy().copy(), passages.numpy().copy()
    for array in arrays:
        array.flags.writeable = False
    loss = contrastive_loss(*arrays, np.arange(7))
    assert isinstance(loss, np.ndarray)
    assert loss.dtype == np.float32
    assert loss == expected.numpy()


Q, P = torch.zeros(3, 4), torch.zeros(5, 4)
LONG = torch.int64


@pytest.mark.parametrize(
    ("error", "match", "args", "kwargs"),
    [
        (ValueError, r"queries: found 1 dimensions, expected 2", (Q[0], P), {}),
        (ValueError, r"passages: found dim 3, expected 4", (Q, P[:, :3]), {}),
        (ValueError, r"queries: found dim 0, expected at least 1", (Q[:, :0], P[:, :0]), {}),
        (ValueError, r"passages: found 2 rows, expected at least 3", (Q, P[:2]), {}),
        (ValueError, r"passages: found 0 rows, expected at least 3", (Q, P[:0]), {}),
        (ValueError, r"positives: found 5 in row 1, expected -1 or an index below 5", (Q, P, [0, 5, 1]), {}),
        (ValueError, r"positives: found -2 in row 0", (Q, P, [-2, 0, 1]), {}),
        (ValueError, r"positives: found shape \(2,\), expected \(3,\)", (Q, P, [0, 1]), {}),
        (
            ValueError,
            r"temperature: found 0.0, expected a finite number above 0",
            (Q, P),
            {"temperature": 0.0},
        ),
        (ValueError, r"temperature: found nan", (Q, P), {"temperature": float("nan")}),
        (
            ValueError,
            r"reduction: found 'max', expected one of mean, sum, none",
            (Q, P),
            {"reduction": "max"},
        ),
        (ValueError, r"passage_groups: found None", (Q, P), {"query_groups": torch.zeros(3, dtype=LONG)}),
        (ValueError, r"temperature: found a tensor \(2,\)", (Q, P), {"temperature": torch.ones(2)}),
        (
            ValueError,
            r"temperature: found -1.0, expected a finite",
            (Q, P),
            {"temperature": torch.tensor(-1.0)},
        ),
        (ValueError, r"temperature: found nan", (Q.double(), P), {"temperature": torch.tensor(float("nan"))}),
        (ValueError, r"similarity: found 'l2', expected one of dot, cosine", (Q, P), {"similarity": "l2"}),
        (
            ValueError,
            r"margin: found nan, expected a finite number or None",
            (Q, P),
            {"margin": float("nan")},
        ),
        (ValueError, r"weights: found shape \(2,\), expected \(3,\)", (Q, P), {"weights": torch.ones(2)}),
        (TypeError, r"weights: found dtype torch.int64", (Q, P), {"weights": torch.ones(3, dtype=LONG)}),
        (
            ValueError,
            r"weights: .*requires a gradient",
            (Q, P),
            {"weights": torch.ones(3, requires_grad=True)},
        ),
        (TypeError, r"queries: found dtype torch.int64, expected one of float32, float16", (Q.long(), P), {}),
        (TypeError, r"passages: found dtype torch.int32, expected one of float32", (Q, P.int()), {}),
        (TypeError, r"queries: found list, expected a torch tensor or a NumPy array", ([[1.0]], P), {}),
        (
            TypeError,
            r"positives: found dtype torch.float32, expected torch.int64",
            (Q, P, [0.0, 1.0, 2.0]),
            {},
        ),
    ],
)
def test_errors_name_the_argument(
    error: type, match: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    if len(args) == 3:
        args = (*args[:2], torch.tensor(args[2]))
    with pytest.raises(error, match=match):
        contrastive_loss(*args, **kwargs)
