"""Contrastive loss: native kernel against the float64 twin, on awkward sizes first.

Budgets. Ordinary inputs: 1e-6 relative norm for gradients (measured up to 5e-7) and, for losses, 4 float32 units of
the largest score, since a float32 score carries that much rounding. Peaked inputs (loss near 1e-8): 5e-5, since a
rounding error e of a score changes exp(score) by the factor 1 + e and scores reach 1 / temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import contrastive_loss, reference

from .interpreter import run_python

SIZES = (1, 2, 7, 8, 9, 31, 33, 127, 129)
RECTANGLES = ((1, 33), (7, 9), (31, 129), (129, 31), (8, 300), (300, 517), (530, 270))
REDUCTIONS = ("mean", "sum", "none")
ORDINARY, PEAKED = 1e-6, 5e-5
UNIT = 2.0**-23


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def make(n: int, m: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(n, dim, generator=generator) / dim**0.5
    return queries, torch.randn(m, dim, generator=generator) / dim**0.5, generator


def with_gradients(
    loss: Callable[..., Any], queries: torch.Tensor, passages: torch.Tensor, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss, and gradients of its sum weighted by 1, 2, 3, ... so that rows are told apart."""
    queries, passages = queries.clone().requires_grad_(), passages.clone().requires_grad_()
    value = loss(queries, passages, *args, **kwargs)
    (value * torch.arange(1, value.numel() + 1).reshape(value.shape)).sum().backward()
    assert queries.grad is not None
    assert passages.grad is not None
    return value.detach(), queries.grad, passages.grad


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm().clamp(min=1e-300))


def check(queries: torch.Tensor, passages: torch.Tensor, *args: Any, **kwargs: Any) -> None:
    found = with_gradients(contrastive_loss, queries, passages, *args, **kwargs)
    truth = with_gradients(reference.contrastive_loss, queries.double(), passages.double(), *args, **kwargs)
    temperature = kwargs["temperature"]
    largest = float((queries.double() @ passages.double().T).abs().max()) / temperature
    rows = queries.shape[0] if kwargs["reduction"] == "sum" else 1
    assert float((found[0].double() - truth[0]).abs().max()) <= 4 * UNIT * rows * max(largest, 1.0)
    # A gradient is a sum of embeddings with coefficients up to weight / temperature, which may cancel.
    weight = queries.shape[0] if kwargs["reduction"] == "none" else 1
    for gradient, expected, summands in zip(found[1:], truth[1:], (passages, queries), strict=True):
        term = weight * float(summands.norm(dim=1).max()) / temperature
        budget = ORDINARY * float(expected.norm()) + UNIT * term
        assert float((gradient.double() - expected).norm()) <= budget


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
    for threads in (1, 2, 3):
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
    for level in ("portable", ""):
        path = tmp_path / f"level-{level}.pt"
        run_python(_LEVEL_PROGRAM, path, PYHBT_SIMD=level)
        results.append(torch.load(path))
    for first, second in zip(*results, strict=True):
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_take_the_twin(dtype: torch.dtype) -> None:
    queries, passages = (x.to(dtype).requires_grad_() for x in make(9, 9, 8)[:2])
    loss = contrastive_loss(queries, passages)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert queries.grad is not None
    assert queries.grad.dtype == dtype
    expected = contrastive_loss(queries.detach().float(), passages.detach().float())
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_under_autocast() -> None:
    queries, passages, _ = make(9, 9, 8)
    expected = contrastive_loss(queries, passages)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(queries, passages), expected)
        assert contrastive_loss(queries.bfloat16(), passages.bfloat16()).dtype == torch.float32


def test_opcheck() -> None:
    queries, passages, _ = make(9, 12, 8)
    positives, weights = torch.arange(9), torch.full((9,), 0.5)
    groups = torch.zeros(9, dtype=torch.int64), torch.arange(12)
    operator = torch.ops.pyhbt.contrastive_loss.default
    for gradients in (False, True):
        torch.library.opcheck(
            operator, (queries, passages, positives, weights, 0.1, True, *groups, gradients)
        )
        torch.library.opcheck(
            operator, (queries, passages, positives, weights, 0.1, False, None, None, gradients)
        )


@pytest.mark.filterwarnings("ignore")  # of the compiler stack itself
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiles_without_graph_break(reduction: str) -> None:
    queries, passages, _ = make(9, 12, 8)
    positives = torch.arange(9)

    def loss(q: torch.Tensor, p: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(q * 2, p, positives, symmetric=True, reduction=reduction)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = with_gradients(loss, queries, passages, positives)
    found = with_gradients(compiled, queries, passages, positives)
    for value, other in zip(found, expected, strict=True):
        assert torch.equal(value, other)


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
        (TypeError, r"queries: found dtype torch.int64, expected torch.float32", (Q.long(), P), {}),
        (TypeError, r"passages: found dtype torch.int32, expected torch.float32", (Q, P.int()), {}),
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


def test_operator_checks_sizes_itself() -> None:
    arguments = (Q, P, torch.tensor([0, 7, 1]), torch.ones(3), 0.1, False, None, None, False)
    with pytest.raises(ValueError, match="positives: found 7 in row 1, expected -1 or an index below 5"):
        torch.ops.pyhbt.contrastive_loss(*arguments)
