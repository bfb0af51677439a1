"""Exact search over the ranks of ``torch.distributed``: each rank holds a slice of the corpus."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from pyhbt.arguments import renamed_arguments, whole_number
from pyhbt.ops import checks
from pyhbt.ops.checks import Array
from pyhbt.ops.exact import Found, native_search
from pyhbt.ops.search_checks import Similarity, check_embeddings
from pyhbt.retrieval.index import ExactIndex
from pyhbt.retrieval.index.joined import best_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_QUERIES_A_ROUND = 4096  # their candidates are exchanged at once: 20 world_size k bytes a query
_NUM_FACTS = 6


@renamed_arguments(group="process_group")
def sharded_search(
    queries: Array,
    corpus: Array | ExactIndex,
    k: int,
    *,
    similarity: Similarity = "dot",
    process_group: ProcessGroup | None = None,
) -> Found:
    """As :func:`pyhbt.search` over the corpus that the ranks hold together, in the order of ranks.

    Every rank calls it with the same queries and k, and gets the same results: those of one process that holds all
    slices one after the other, bit for bit.

    Args:
        queries: (nq, dim) on the CPU, the same on every rank.
        corpus: this rank's slice (n_rank, dim), which may be empty, or an :class:`ExactIndex` of it.
        k: at least 1.
        similarity: of a slice given as an array; an index has its own.
        process_group: of torch.distributed; default: the world. Tensors are exchanged on the CPU (gloo) or on the
            current CUDA device (nccl).

    Returns:
        Scores (nq, k) float32 and indices (nq, k) int64 in the whole corpus.

    Raises:
        RuntimeError: no process group was initialised.
        ValueError: what :func:`pyhbt.search` refuses; ranks that disagree about queries, k or similarity.
    """
    if not dist.is_initialized():
        raise RuntimeError("process_group: torch.distributed has none, call init_process_group first")
    device = _device(process_group)
    try:
        k = min(whole_number("k", k, 1), torch.iinfo(torch.int64).max)
        q = checks.as_tensor(queries, "queries").detach()
        index = corpus if isinstance(corpus, ExactIndex) else ExactIndex(corpus, similarity=similarity)
        check_embeddings(q, index._parts.vectors)
        checks.check_finite(q, "queries")
        own = _facts(q, index, k).to(device)
    except Exception:  # of whatever kind: the others wait
        _told(torch.full((_NUM_FACTS,), -1, device=device), process_group)
        raise
    sizes = _agreed_sizes(_told(own, process_group))
    offset = sum(sizes[: dist.get_rank(process_group)])
    k = min(k, max(1, sum(sizes)))
    rounds = [
        _merged_round(q[start : start + _QUERIES_A_ROUND], index, k, offset, device, process_group)
        for start in range(0, max(1, len(q)), _QUERIES_A_ROUND)
    ]
    scores, indices = map(torch.cat, zip(*rounds, strict=True))
    return scores, indices


def _merged_round(
    queries: torch.Tensor,
    index: ExactIndex,
    k: int,
    offset: int,
    device: torch.device,
    process_group: ProcessGroup | None,
) -> Found:
    exact = torch.empty(len(queries), k, dtype=torch.float64)
    scores, indices = native_search(
        queries,
        index._parts.vectors,
        index.codes,
        k,
        cosine=index.similarity == "cosine",
        exact_scores=exact,
    )
    indices = torch.where(indices >= 0, indices + offset, -1)
    all_exact, all_scores, all_indices = (
        _gathered(x, device, process_group) for x in (exact, scores, indices)
    )
    return best_of(all_exact, all_scores, all_indices, k)


def _gathered(tensor: torch.Tensor, device: torch.device, process_group: ProcessGroup | None) -> torch.Tensor:
    """(nq, world_size k) on the CPU."""
    here = tensor.contiguous().to(device)
    parts = [torch.empty_like(here) for _ in range(dist.get_world_size(process_group))]
    dist.all_gather(parts, here, group=process_group)
    return torch.cat(parts, dim=1).cpu()


def _facts(queries: torch.Tensor, index: ExactIndex, k: int) -> torch.Tensor:
    """What ranks tell each other: the passages of a slice, and what all must agree on."""
    checksum = zlib.crc32(queries.reshape(-1).view(torch.uint8).numpy().data)
    cosine = index.similarity == "cosine"
    return torch.tensor([len(index), len(queries), index.dim, k, cosine, checksum], dtype=torch.int64)


def _told(own: torch.Tensor, process_group: ProcessGroup | None) -> list[list[int]]:
    """The facts of every rank."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(process_group))]
    dist.all_gather(parts, own, group=process_group)
    return [part.tolist() for part in parts]


def _agreed_sizes(told: list[list[int]]) -> list[int]:
    """Passages of every rank, after a look at whether all are ready and ask the same."""
    failed = [rank for rank, facts in enumerate(told) if facts[0] < 0]
    if failed:
        raise ValueError(f"corpus: rank {failed[0]} refused its arguments, its own error says why")
    names = ("number of queries", "dim", "k", "similarity (1: cosine)", "checksum of queries")
    for name, values in zip(names, list(zip(*told, strict=True))[1:], strict=True):
        if len(set(values)) > 1:
            raise ValueError(f"{name}: found {list(values)} by rank, expected the same on every rank")
    return [facts[0] for facts in told]


def _device(process_group: ProcessGroup | None) -> torch.device:
    if dist.get_backend(process_group) == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
