"""The operations on the CUDA kernels: emulated on the CPU everywhere, on the device where there is one (-m gpu).

What they must give is what the tests of the CPU operations ask for, by the same checks: search and ranks equal to the
bit, the loss within the same budgets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt.ops import _contrastive_op, contrastive_loss, exact, panels, ranks, reference, search
from pyhbt.ops.cuda import contrastive as cuda_contrastive
from pyhbt.ops.cuda import search as cuda_search
from pyhbt.ops.cuda.kernels import Kernels, kernels
from pyhbt.ops.exact import Similarity
from pyhbt.ops.filters import SearchFilter
from pyhbt.retrieval.index import ExactIndex
from tests import adversarial, losses
from tests.adversarial import BUILDERS, SIMILARITIES, Builder, check_ranks, check_search, normal
from tests.emulated import emulated_kernels
from tests.losses import RECTANGLES, REDUCTIONS, SIZES, make
from tests.test_ops_filters import FILTERS, BuildFilter, meaning
from tests.test_ops_ranks import high_and_low

AUTO = ("auto",)


def _emulate(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets operations on CPU tensors take the CUDA path."""

    def corpus_of(corpus: torch.Tensor, cosine: bool) -> cuda_search.Corpus:
        return cuda_search.Corpus.of(kernels, exact.with_dense_rows(corpus), cosine=cosine)

    def found(
        queries: torch.Tensor, corpus: torch.Tensor, codes: object, k: int, *, cosine: bool, **others: Any
    ) -> Any:
        others.pop("screening", None)
        return cuda_search.search(
            kernels, exact.with_dense_rows(queries), corpus_of(corpus, cosine), k, **others
        )

    def ranked(
        queries: torch.Tensor,
        corpus: torch.Tensor,
        codes: object,
        targets: Any,
        *,
        cosine: bool,
        **others: Any,
    ) -> Any:
        others.pop("screening", None)
        return cuda_search.ranks(
            kernels, exact.with_dense_rows(queries), corpus_of(corpus, cosine), targets, **others
        )

    monkeypatch.setattr(exact, "native_search", found)
    monkeypatch.setattr(exact, "native_ranks", ranked)
    monkeypatch.setattr(exact, "encoding_pays", lambda *_: False)  # no codes: nothing would read them
    monkeypatch.setattr(_contrastive_op, "_native", partial(cuda_contrastive.contrastive_loss, kernels))


def _moved(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    return value.cuda() if isinstance(value, torch.Tensor) else value


def _on_device(operation: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        result = operation(*map(_moved, args), **{name: _moved(value) for name, value in kwargs.items()})
        return tuple(part.cpu() for part in result) if isinstance(result, tuple) else result.cpu()

    return run


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)], autouse=True)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small panels and tiles, so that there are several, and the operations on the device or on the emulator."""
    monkeypatch.setattr(cuda_contrastive, "PANEL_BYTES", 1 << 16)
    monkeypatch.setattr(cuda_search, "SPARE", 256)
    monkeypatch.setattr(cuda_search, "QUERIES_AT_ONCE", 50)
    if request.param == "emulated":
        _emulate(emulated_kernels(), monkeypatch)
    else:
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        for module, name in ((adversarial, "search"), (adversarial, "ranks"), (losses, "contrastive_loss")):
            monkeypatch.setattr(module, name, _on_device(getattr(module, name)))
    return str(request.param)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("n", [1, 2, 33, 129])
def test_search_and_ranks_of_awkward_sizes(n: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(n)
    queries, corpus = normal(rng, 60, 7), normal(rng, n, 7)
    check_search(queries, corpus, (1, n, n + 3), rows=(1, 60), similarity=similarity, screenings=AUTO)
    for shape in ((60,), (60, 3)):
        targets = rng.integers(-1, n, shape)
        check_ranks(queries, corpus, targets, rows=(1, 60), similarity=similarity, screenings=AUTO)


@pytest.mark.parametrize("dim", [1, 3, 63, 65, 129, 1000])
def test_search_and_ranks_of_awkward_dims(dim: int) -> None:
    rng = np.random.default_rng(dim)
    queries, corpus = normal(rng, 5, dim), normal(rng, 1100, dim)
    check_search(queries, corpus, (1, 20), rows=(1, 5), screenings=AUTO)
    check_ranks(queries, corpus, high_and_low(rng, queries, corpus), screenings=AUTO)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_adversarial_inputs(build: Builder, similarity: Similarity) -> None:
    rng = np.random.default_rng(7)
    queries, corpus = build(rng)
    queries, corpus = queries[:9], corpus[:1500]
    check_search(queries, corpus, (10, 700), similarity=similarity, screenings=AUTO)
    targets = high_and_low(rng, queries, corpus)
    check_ranks(queries, corpus, targets, similarity=similarity, screenings=AUTO)


def test_more_than_the_kernel_selects() -> None:
    rng = np.random.default_rng(3)
    queries, corpus = normal(rng, 3, 5).round(1), normal(rng, 3000, 5).round(1)
    check_search(queries, corpus, (2047, 2048, 2049, 2999), screenings=AUTO)


def test_lists_that_overflow_are_made_again() -> None:
    rng = np.random.default_rng(5)
    corpus = normal(rng, 4000, 9)
    corpus[1500:] = corpus[0]  # nothing among these is below a threshold, and they outnumber every list
    queries = np.concatenate([corpus[:1] + np.float32(1e-3), normal(rng, 3, 9)])
    check_search(queries, corpus, (5,), screenings=AUTO)
    check_ranks(queries, corpus, np.asarray([[0, 3999]] * 4), screenings=AUTO)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_search_and_ranks_of_half_precision(dtype: torch.dtype, similarity: Similarity) -> None:
    rng = np.random.default_rng(1)
    queries, corpus = (torch.from_numpy(normal(rng, rows, 17)).to(dtype) for rows in (5, 700))
    check_search(queries, corpus, (10,), similarity=similarity, screenings=AUTO)
    check_ranks(queries, corpus, rng.integers(-1, 700, (5, 4)), similarity=similarity, screenings=AUTO)


@pytest.mark.parametrize("build", FILTERS, ids=lambda build: build.__name__)
def test_filters(build: BuildFilter) -> None:
    rng = np.random.default_rng(11)
    queries, corpus = normal(rng, 20, 9), normal(rng, 900, 9).round(1)
    filter = build(rng, 20, 900)
    accepts = meaning(filter, 20, 900)
    check_search(queries, corpus, (10,), filter=filter, accepts=accepts, screenings=AUTO)
    targets = rng.integers(-1, 900, (20, 3))
    check_ranks(queries, corpus, targets, filter=filter, accepts=accepts, screenings=AUTO)


@pytest.mark.parametrize("which", ["queries", "corpus"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_first_non_finite_row_is_named(which: str, bad: float, gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    given = {"queries": torch.ones(4, 3, device=device), "corpus": torch.ones(30, 3, device=device)}
    given[which][2, 1] = bad
    for call in (
        partial(search, given["queries"], given["corpus"], 3),
        partial(ranks, given["queries"], given["corpus"], torch.zeros(4, dtype=torch.int64, device=device)),
    ):
        with pytest.raises(ValueError, match=rf"{which}: row 2 holds a NaN or an infinity"):
            call()


def test_nothing_to_search_or_to_find(gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    scores, indices = search(torch.ones(2, 3, device=device), torch.ones(0, 3, device=device), 4)
    assert scores.tolist() == [[-torch.inf] * 4] * 2
    assert indices.tolist() == [[-1] * 4] * 2
    scores, _ = search(torch.ones(0, 3, device=device), torch.ones(5, 3, device=device), 4)
    assert scores.shape == (0, 4)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_square_batches(size: int, symmetric: bool) -> None:
    queries, passages, _ = make(size, size, 33, size)
    for reduction in REDUCTIONS:
        losses.check(queries, passages, temperature=0.05, symmetric=symmetric, reduction=reduction)


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
    )


def test_symmetric_batch_that_does_not_keep_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "RETAINED_BYTES", 0)
    queries, passages, _ = make(130, 150, 9, 1)
    losses.check(queries, passages, temperature=0.05, symmetric=True, reduction="mean")


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


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_index(similarity: Similarity, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searched, grown and filtered on the device, as on the CPU."""
    rng = np.random.default_rng(2)
    queries, corpus = normal(rng, 9, 17), normal(rng, 700, 17)
    index = ExactIndex(corpus[:500], similarity=similarity)
    if gpu == "cuda":
        index.to("cuda")
    else:
        monkeypatch.setattr(ExactIndex, "_kernels", lambda _: emulated_kernels())
    q = torch.from_numpy(queries).to("cuda" if gpu == "cuda" else "cpu")
    index.search(q, 5)
    index.add(corpus[500:])
    languages = SearchFilter(passage_partitions=np.arange(700) % 3, query_partitions=np.arange(9) % 3)
    for filter in (None, languages):
        accepts = None if filter is None else meaning(filter, 9, 700)
        expected = reference.search(queries, corpus, 10, similarity=similarity, accepts=accepts)
        scores, indices = index.search(q, 10, filter=filter)
        np.testing.assert_array_equal(indices.cpu().numpy(), expected[1])
        np.testing.assert_array_equal(scores.cpu().numpy(), expected[0])
        places = index.ranks(q, indices, filter=filter)
        assert isinstance(places, torch.Tensor)
        assert places.tolist() == [list(range(1, 11))] * 9
    if gpu == "cuda":
        with pytest.raises(ValueError, match="queries: found device cpu, expected cuda"):
            index.search(q.cpu(), 10)


def test_filters_of_one_query(gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    corpus = torch.arange(6.0, device=device)[:, None]
    found = search(corpus[5:], corpus, 3, filter=SearchFilter(exclude=torch.tensor([5])))
    assert found[1].tolist() == [[4, 3, 2]]


def test_products_in_float32_whatever_tf32_is_set_to(gpu: str) -> None:
    device = "cuda" if gpu == "cuda" else "cpu"
    native = emulated_kernels() if gpu == "emulated" else kernels()
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
