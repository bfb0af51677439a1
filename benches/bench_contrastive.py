"""Contrastive loss with gradients beside its peers: dot products, cosine similarity, and the symmetric loss.

Peers: torch eager, torch.compile and ``F.linear_cross_entropy`` by chunks; the panels of pyhbt in plain torch; the
loss classes of sentence-transformers on given embeddings, info-nce-pytorch and pytorch-metric-learning (the extra
``bench``; a peer that is not installed is left out). Liger-Kernel and cut-cross-entropy need a GPU. flops = 6 n m dim.
All sizes: pytest -m ''. The loss with frozen passages, as of a queue of negatives: 4 n m dim, with the loss that trains
both as a peer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

from pyhbt.ops import contrastive_loss, panels

if TYPE_CHECKING:
    from .conftest import Compare

TEMPERATURE = 0.05
SMALL = [(n, dim) for n in (256, 1024) for dim in (384, 768, 1024)]
LARGE = [(n, dim) for n in (4096, 8192) for dim in (384, 768, 1024)]
HUGE = [(16384, dim) for dim in (384, 768, 1024)]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

pytestmark = pytest.mark.filterwarnings("ignore")  # of the peers


def shapes(*large: list[tuple[int, int]]) -> list[Any]:
    slow = [shape for group in large for shape in group]
    return [*SMALL, *(pytest.param(*shape, marks=pytest.mark.slow) for shape in slow)]


def inputs(n: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, passages = (F.normalize(torch.randn(n, dim, generator=generator)) for _ in range(2))
    return queries.requires_grad_(), passages.requires_grad_()


def cross_entropy(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(queries @ passages.T / TEMPERATURE, torch.arange(len(queries)))


def cosine_cross_entropy(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    return cross_entropy(F.normalize(queries, dim=1), F.normalize(passages, dim=1))


def symmetric_cross_entropy(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    scores, labels = queries @ passages.T / TEMPERATURE, torch.arange(len(queries))
    return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2


def step(loss: Loss, queries: torch.Tensor, passages: torch.Tensor) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        queries.grad = passages.grad = None
        value = loss(queries, passages)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    return run


def chunked_peers(queries: torch.Tensor, passages: torch.Tensor) -> Iterator[tuple[str, Any]]:
    """torch's own loss by chunks of the queries (2.13 and later), as it chooses them and with chunks of two sizes."""
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        return
    n = len(queries)
    chunks: dict[str, dict[str, Any]] = {"": {}}
    chunks |= {
        f"-{rows}": {"batch_chunk_size": rows, "chunking_method": None} for rows in (256, 1024) if rows < n
    }
    for name, how in chunks.items():
        options = torch.nn.LinearCrossEntropyOptions(**how)

        def loss(q: torch.Tensor, p: torch.Tensor, options: Any = options) -> torch.Tensor:
            return F.linear_cross_entropy(q / TEMPERATURE, p, torch.arange(len(q)), options=options)

        yield f"linear_cross_entropy{name}", step(loss, queries, passages)


def panel_step(
    queries: torch.Tensor, passages: torch.Tensor, cosine: bool, symmetric: bool
) -> Callable[[], torch.Tensor]:
    n = len(queries)
    targets, weights = torch.arange(n), torch.full((n,), 1 / n)
    temperature = torch.tensor(TEMPERATURE)

    def run() -> torch.Tensor:
        options = (torch.inf, cosine, symmetric, None, None, True, True)
        _, loss, queries.grad, passages.grad, _ = panels.contrastive_loss(
            queries.detach(), passages.detach(), targets, weights, temperature, *options
        )
        return loss

    return run


class CachedLoss:
    """The loss part of a CachedMultipleNegativesRankingLoss step: embeddings come as leaves, by mini-batch."""

    def __init__(self, queries: torch.Tensor, passages: torch.Tensor, mini_batch_size: int) -> None:
        from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

        model = torch.nn.Sequential(torch.nn.Identity())  # asked for its first module, not used
        self.loss = CachedMultipleNegativesRankingLoss(
            model, scale=1 / TEMPERATURE, mini_batch_size=mini_batch_size
        )
        self.inputs = queries, passages
        self.reps = [
            [part.detach().requires_grad_() for part in x.split(mini_batch_size)] for x in self.inputs
        ]

    def __call__(self) -> torch.Tensor:
        for part in (*self.reps[0], *self.reps[1]):
            part.grad = None
        value: torch.Tensor = self.loss.calculate_loss(self.reps, with_backward=True)
        return value

    def collect(self) -> None:
        """Puts the gradients where the check of the answers looks for them."""
        for x, parts in zip(self.inputs, self.reps, strict=True):
            x.grad = torch.cat([part.grad for part in parts if part.grad is not None])


def sentence_transformers_peers(queries: torch.Tensor, passages: torch.Tensor) -> Iterator[tuple[str, Any]]:
    if importlib.util.find_spec("sentence_transformers") is None:
        return
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    ranking = MultipleNegativesRankingLoss(None, scale=1 / TEMPERATURE)
    yield "st-mnrl", step(lambda q, p: ranking.compute_loss_from_embeddings([q, p], None), queries, passages)
    for size in (32, 256) if len(queries) <= 4096 else (256,):
        yield f"st-cached-mnrl-{size}", CachedLoss(queries, passages, size)


def other_cosine_peers(queries: torch.Tensor, passages: torch.Tensor) -> Iterator[tuple[str, Any]]:
    if importlib.util.find_spec("info_nce") is not None:
        from info_nce import InfoNCE

        yield "info-nce-pytorch", step(InfoNCE(temperature=TEMPERATURE), queries, passages)
    if importlib.util.find_spec("pytorch_metric_learning") is not None and len(queries) <= 256:
        from pytorch_metric_learning.losses import NTXentLoss

        loss, labels = NTXentLoss(temperature=TEMPERATURE), torch.arange(len(queries))
        others = labels.clone()  # the same object would mean the same embeddings
        call = step(lambda q, p: loss(q, labels, ref_emb=p, ref_labels=others), queries, passages)
        yield "pytorch-metric-learning", call


def run(
    compare: Compare,
    op: str,
    queries: torch.Tensor,
    passages: torch.Tensor,
    peers: dict[str, Callable[[], Any]],
    **options: Any,
) -> None:
    """Checks every backend's loss and gradients against eager torch, then times them."""
    ours = step(lambda q, p: contrastive_loss(q, p, temperature=TEMPERATURE, **options), queries, passages)
    expected = float(peers["torch"]())
    assert queries.grad is not None
    assert passages.grad is not None
    gradients = queries.grad.clone(), passages.grad.clone()
    for call in (ours, *peers.values()):
        assert float(call()) == pytest.approx(expected, rel=1e-5)
        if isinstance(call, CachedLoss):
            call.collect()
        for x, gradient in zip((queries, passages), gradients, strict=True):
            assert x.grad is not None
            assert float((x.grad - gradient).norm()) <= 1e-4 * float(gradient.norm())
    n, dim = queries.shape
    compare(ours, peers, op=op, n=n, m=n, dim=dim, k=0, flops=6.0 * n * n * dim)


@pytest.mark.parametrize(("n", "dim"), shapes(LARGE, HUGE))
def test_dot(compare: Compare, n: int, dim: int) -> None:
    queries, passages = inputs(n, dim)
    peers = {
        "torch": step(cross_entropy, queries, passages),
        "torch-panels": panel_step(queries, passages, cosine=False, symmetric=False),
        **dict(chunked_peers(queries, passages)),
    }
    if n in (1024, 4096):
        peers["torch.compile"] = step(torch.compile(cross_entropy, dynamic=False), queries, passages)
    run(compare, "contrastive", queries, passages, peers)


@pytest.mark.parametrize(("n", "dim"), shapes(LARGE))
def test_cosine(compare: Compare, n: int, dim: int) -> None:
    queries, passages = inputs(n, dim)
    peers = {
        "torch": step(cosine_cross_entropy, queries, passages),
        "torch-panels": panel_step(queries, passages, cosine=True, symmetric=False),
        **dict(sentence_transformers_peers(queries, passages)),
        **dict(other_cosine_peers(queries, passages)),
    }
    run(compare, "contrastive_cosine", queries, passages, peers, similarity="cosine")


@pytest.mark.parametrize(("n", "dim"), shapes(LARGE))
def test_symmetric(compare: Compare, n: int, dim: int) -> None:
    queries, passages = inputs(n, dim)
    peers = {
        "torch": step(symmetric_cross_entropy, queries, passages),
        "torch-panels": panel_step(queries, passages, cosine=False, symmetric=True),
    }
    run(compare, "contrastive_symmetric", queries, passages, peers, symmetric=True)


@pytest.mark.parametrize(("n", "dim"), shapes(LARGE))
def test_frozen(compare: Compare, n: int, dim: int) -> None:
    queries, passages = inputs(n, dim)
    both = step(lambda q, p: contrastive_loss(q, p, temperature=TEMPERATURE), queries, passages)
    ours = step(lambda q, p: contrastive_loss(q, p.detach(), temperature=TEMPERATURE), queries, passages)
    peers = {
        "pyhbt-both": both,
        "torch": step(lambda q, p: cross_entropy(q, p.detach()), queries, passages),
    }
    both()
    assert queries.grad is not None
    expected = queries.grad.clone()
    for call in (ours, *peers.values()):
        call()
        assert float((queries.grad - expected).norm()) <= 1e-4 * float(expected.norm())
    compare(ours, peers, op="contrastive_frozen", n=n, m=n, dim=dim, k=0, flops=4.0 * n * n * dim)
