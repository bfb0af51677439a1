"""Exact top-k search and rank counting on CUDA tensors.

Products of float16 rows (:mod:`pyhbt.ops.cuda.halves`) bound every score; what the bound leaves open is scored in
float64, in the order of summation of the CPU kernels. Results are therefore those of the CPU, to the bit. 2 nq n dim
operations on float16; memory: n dim 2 bytes for the halves, tiles of up to 256 MiB of scores, and lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from pyhbt.ops import checks
from pyhbt.ops.cuda.halves import HalfRows, accumulation_error, halve
from pyhbt.ops.cuda.kernels import Kernels, Lists, ScoreTile, Targets, wide_product
from pyhbt.ops.dtypes import in_two_bytes
from pyhbt.ops.filters import CheckedFilter, SearchFilter, check_filter

TILE_BYTES = 256 << 20
LIST_BYTES = 1 << 30
QUERIES_AT_ONCE = 1024
FIRST_PASSAGES = 1024
SPARE = 4096
"""Entries of a list beyond those that are kept: from 2 k on, and what a tile adds must fit."""
MOST_PASSAGES = 2**31 - 1


@dataclass(frozen=True)
class Corpus:
    """Passages ready to be searched."""

    rows: torch.Tensor
    halves: HalfRows
    norms: torch.Tensor | None
    """(n,) float64, for cosine."""

    @classmethod
    def of(cls, kernels: Kernels, rows: torch.Tensor, *, cosine: bool, first_row: int = 0) -> Corpus:
        """Passages on their device, halved.

        Raises:
            ValueError: a row that is not finite, named as ``first_row`` + its position; too many rows.
        """
        if len(rows) > MOST_PASSAGES:
            raise ValueError(f"corpus: found {len(rows)} rows, expected at most {MOST_PASSAGES} on one GPU")
        rows = in_two_bytes(rows)
        norms = finite_norms(kernels, rows, "corpus", first_row)
        return cls(rows, halve(rows, norms if cosine else None), norms if cosine else None)


def finite_norms(kernels: Kernels, rows: torch.Tensor, name: str, first_row: int = 0) -> torch.Tensor:
    """(n,) float64 norms in the order of scores.

    Raises:
        ValueError: names the first row that holds a NaN or an infinity.
    """
    norms = kernels.exact_norms(rows)
    bad = (~norms.isfinite()).nonzero()
    if len(bad):
        row = first_row + int(bad[0])
        raise ValueError(f"{name}: row {row} holds a NaN or an infinity, expected finite numbers")
    return norms


@dataclass(frozen=True)
class _Queries:
    """A block of queries, halved, with the filter that is theirs."""

    rows: torch.Tensor
    halves: HalfRows
    filter: CheckedFilter
    code_error: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor, filter: CheckedFilter) -> _Queries:
        halves = halve(rows, None)
        return cls(
            rows.float(), halves, filter, halves.error + accumulation_error(rows.shape[1]) * halves.size
        )

    def tile(self, corpus: Corpus, first: int, last: int) -> ScoreTile:
        passages = corpus.halves
        scores = wide_product(self.halves.halves, passages.halves[first:last].T)
        passage_parts = passages.size, passages.error, passages.scale
        return ScoreTile(scores, first, self.code_error, self.halves.size, *passage_parts)


def search(
    kernels: Kernels,
    queries: torch.Tensor,
    corpus: Corpus,
    k: int,
    *,
    filter: SearchFilter | CheckedFilter | None = None,
    exact_scores: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (nq, k) float32 and positions (nq, k) int64, as :func:`pyhbt.ops.search`."""
    queries = in_two_bytes(queries)
    query_norms = finite_norms(kernels, queries, "queries")
    nq, n, device = len(queries), len(corpus.rows), queries.device
    scores = torch.full((nq, k), -torch.inf, dtype=torch.float64, device=device)
    indices = torch.full((nq, k), -1, dtype=torch.int64, device=device)
    checked = check_filter(filter, nq, n, device) or CheckedFilter(None, nq, n)
    kept = min(k, n)
    capacity = 2 * kept + SPARE

    def run(chosen: torch.Tensor, *, safely: bool) -> torch.Tensor:
        """Fills in the rows of these queries; returns those whose list overflowed."""
        block = _Queries.of(queries[chosen], checked.of_queries(chosen))
        lists = Lists.empty(len(chosen), capacity, device)
        threshold = torch.full((len(chosen),), -torch.inf, device=device)
        select = _selection(kernels, lists, kept, block.halves.scale.double(), threshold)
        for first, last in _tiles(n, len(chosen), kept, capacity, safely):
            kernels.append_open(block.tile(corpus, first, last), threshold, block.filter, lists)
            kernels.score_lists(block.rows, corpus.rows, corpus.norms, lists)
            select(last == n)
        found = torch.arange(kept, device=device) < lists.counts[:, None]
        scores[chosen, :kept] = torch.where(found, lists.scores[:, :kept], -torch.inf)
        indices[chosen, :kept] = torch.where(found, lists.passages[:, :kept].long(), -1)
        return chosen[lists.lost > 0]

    if kept:
        _run_all(run, nq, max(1, LIST_BYTES // (12 * capacity)), device)
    if exact_scores is not None:
        exact_scores.copy_(scores)
    if corpus.norms is not None:
        own = torch.where(query_norms > 0, query_norms, 1.0)[:, None]
        divided = torch.where(query_norms[:, None] > 0, scores / own, 0.0)
        scores = torch.where(indices >= 0, divided, scores)
    return scores.float(), indices


def ranks(
    kernels: Kernels,
    queries: torch.Tensor,
    corpus: Corpus,
    targets: torch.Tensor,
    *,
    filter: SearchFilter | CheckedFilter | None = None,
) -> torch.Tensor:
    """1-based ranks of targets (nq,) or (nq, t), as :func:`pyhbt.ops.ranks`."""
    checks.check_indices(targets, "targets", len(corpus.rows), "passages")
    if targets.ndim == 1:
        return ranks(kernels, queries, corpus, targets[:, None], filter=filter)[:, 0]
    queries = in_two_bytes(queries)
    finite_norms(kernels, queries, "queries")
    nq, n, device = len(queries), len(corpus.rows), queries.device
    checked = check_filter(filter, nq, n, device) or CheckedFilter(None, nq, n)
    result = torch.zeros_like(targets)

    def run(chosen: torch.Tensor, *, safely: bool) -> torch.Tensor:
        block = _Queries.of(queries[chosen], checked.of_queries(chosen))
        wanted, order = _targets(kernels, block, corpus, targets[chosen])
        lists = Lists.empty(len(chosen), SPARE, device)
        for first, last in _even_tiles(n, SPARE if safely else _columns(len(chosen))):
            kernels.count_beaten(block.tile(corpus, first, last), wanted, block.filter, lists)
            kernels.score_lists(block.rows, corpus.rows, corpus.norms, lists)
            kernels.settle_beaten(wanted, lists)
        at_least = wanted.beaten.long().flip(1).cumsum(1).flip(1)  # [c]: passages that beat c targets or more
        found = torch.empty_like(targets[chosen]).scatter_(1, order, 1 + at_least[:, 1:])
        result[chosen] = torch.where(targets[chosen] >= 0, found, 0)
        return chosen[lists.lost > 0]

    if n and targets.shape[1]:
        _run_all(run, nq, LIST_BYTES // (12 * SPARE), device)
    return result


def _run_all(run: Callable[..., torch.Tensor], nq: int, most: int, device: torch.device) -> None:
    """Blocks of queries; those that overflowed once more, by tiles that cannot. The GPU is waited for at block ends."""
    step = min(QUERIES_AT_ONCE, most)
    again = [
        run(torch.arange(start, min(nq, start + step), device=device), safely=False)
        for start in range(0, nq, step)
    ]
    for chosen in again:
        if len(chosen):
            run(chosen, safely=True)


def _columns(num_queries: int) -> int:
    return max(1024, TILE_BYTES // (4 * num_queries))


def _even_tiles(n: int, columns: int) -> Iterator[tuple[int, int]]:
    for first in range(0, n, columns):
        yield first, min(n, first + columns)


def _tiles(n: int, num_queries: int, kept: int, capacity: int, safely: bool) -> Iterator[tuple[int, int]]:
    """Stretches of the corpus. All of the first is scored; then each is as long as all before, up to a tile's memory.

    After s passages, a passage is among the best k so far with chance k / s: a stretch of s more adds some k entries.
    """
    first, room = 0, capacity - kept
    while first < n:
        wanted = min(max(first, FIRST_PASSAGES, 2 * kept), _columns(num_queries))
        last = min(n, first + (min(wanted, room) if safely or first == 0 else wanted))
        yield first, last
        first = last


def _selection(
    kernels: Kernels, lists: Lists, k: int, scale: torch.Tensor, threshold: torch.Tensor
) -> Callable[[bool], None]:
    """A function that leaves the best k in the lists and sets the thresholds; True: in order."""
    if k <= kernels.most_selected:
        return lambda last: kernels.select_best(lists, k, scale, threshold, sorted=last)
    return lambda last: _select_by_sorting(lists, k, scale, threshold)


def _select_by_sorting(lists: Lists, k: int, scale: torch.Tensor, threshold: torch.Tensor) -> None:
    """For a k beyond the kernel's shared memory."""
    capacity = lists.passages.shape[1]
    counts = lists.counts.clamp(max=capacity)
    present = torch.arange(capacity, device=counts.device) < counts[:, None]
    passages = torch.where(present, lists.passages, MOST_PASSAGES)
    passages, order = passages.sort(dim=1)
    scores = torch.where(present, lists.scores, -torch.inf).gather(1, order)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    lists.scores.copy_(scores)
    lists.passages.copy_(passages.gather(1, order))
    lists.lost.copy_(torch.where(lists.counts > capacity, 1, lists.lost))
    kept = counts.clamp(max=k)
    lists.counts.copy_(kept)
    lists.scored.copy_(kept)
    threshold.copy_(torch.where(kept < k, -torch.inf, _round_down(scores[:, k - 1] * scale)))


def _targets(
    kernels: Kernels, block: _Queries, corpus: Corpus, targets: torch.Tensor
) -> tuple[Targets, torch.Tensor]:
    """Targets scored and in rising order of results, absent ones last; and the columns they come from."""
    nq, count = targets.shape
    lists = Lists.empty(nq, count, targets.device)
    lists.passages.copy_(targets.clamp(min=0))
    lists.counts.fill_(count)
    kernels.score_lists(block.rows, corpus.rows, corpus.norms, lists)
    scores = torch.where(targets >= 0, lists.scores, torch.inf)
    by_passage = targets.argsort(dim=1, descending=True, stable=True)
    by_score = scores.gather(1, by_passage).argsort(dim=1, stable=True)
    order = by_passage.gather(1, by_score)
    scores = scores.gather(1, order)
    scaled = scores * block.halves.scale[:, None]
    beaten = torch.zeros(nq, count + 1, dtype=torch.int32, device=targets.device)
    wanted = targets.gather(1, order).to(torch.int32)
    low, high = _round_down(scaled), -_round_down(-scaled)
    return Targets(scores.contiguous(), wanted.contiguous(), low, high.contiguous(), beaten), order


def _round_down(x: torch.Tensor) -> torch.Tensor:
    """The largest float32 not above x."""
    rounded = x.float()
    below = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    return torch.where(rounded.double() > x, below, rounded).contiguous()
