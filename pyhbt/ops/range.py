"""Exact range search: all passages with at least a given score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pyhbt.arguments import whole_number
from pyhbt.ops import checks
from pyhbt.ops._native import core
from pyhbt.ops.checks import Array
from pyhbt.ops.codes import Codes
from pyhbt.ops.exact import at_cpu, codes_for, native_arguments, with_dense_rows
from pyhbt.ops.filters import CheckedFilter, SearchFilter, check_filter
from pyhbt.ops.search_checks import Screening, Similarity, check_embeddings, check_options

MOST_RESULTS = 50_000_000
"""600 MB of scores and indices."""


@dataclass(frozen=True)
class RangeResults:
    """What each of ``nq`` queries found, one row after the other (CSR); higher score first, then lower index.

    ``results[query]`` is that row: (scores, indices). Tensors, or arrays where the inputs were arrays.
    """

    offsets: Array
    """(nq + 1,) int64: row ``query`` is ``offsets[query]:offsets[query + 1]``."""
    scores: Array
    """(total,) float32."""
    indices: Array
    """(total,) int64."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> tuple[Array, Array]:
        if not -len(self) <= query < len(self):
            raise IndexError(f"query: found {query}, expected a row below {len(self)}")
        query = query % len(self)
        start, stop = int(self.offsets[query]), int(self.offsets[query + 1])
        return self.scores[start:stop], self.indices[start:stop]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return (self[query] for query in range(len(self)))

    def numpy(self) -> RangeResults:
        """The same as NumPy arrays."""
        parts = (self.offsets, self.scores, self.indices)
        return RangeResults(*(part.numpy() if isinstance(part, torch.Tensor) else part for part in parts))

    def to(self, device: torch.device) -> RangeResults:
        """The same as tensors on a device."""
        parts = (self.offsets, self.scores, self.indices)
        return RangeResults(*(torch.as_tensor(part).to(device) for part in parts))


def check_threshold(threshold: float | Array, num_queries: int) -> torch.Tensor:
    """The threshold of each query, (nq,) float64.

    Raises:
        ValueError: a NaN, or another shape than () or (nq,).
        TypeError: no numbers.
    """
    if isinstance(threshold, (torch.Tensor, np.ndarray)) and threshold.ndim > 0:
        tensor = checks.as_tensor(threshold, "threshold").detach().cpu()
        if tensor.dtype == torch.bool or tensor.is_complex():
            raise TypeError(f"threshold: found dtype {tensor.dtype}, expected real numbers")
        checks.check_length(tensor, "threshold", num_queries, "query")
    else:
        try:
            number = float(threshold)
        except (TypeError, ValueError):
            raise TypeError(
                f"threshold: found {threshold!r}, expected a number or one for each query"
            ) from None
        if isinstance(threshold, (bool, str)):
            raise TypeError(f"threshold: found {threshold!r}, expected a number or one for each query")
        if math.isnan(number):
            raise ValueError(f"threshold: found {threshold}, expected a number")
        tensor = torch.full((num_queries,), number, dtype=torch.float64)
    if bool(tensor.isnan().any()):
        row = int(tensor.isnan().nonzero()[0, 0])
        raise ValueError(f"threshold: found a NaN in row {row}, expected numbers")
    return tensor.double().contiguous()


def native_range(
    queries: torch.Tensor,
    corpus: torch.Tensor,
    codes: Codes | None,
    least: torch.Tensor,
    *,
    cosine: bool,
    max_results: int,
    filter: SearchFilter | CheckedFilter | None = None,
    screening: Screening = "auto",
) -> tuple[RangeResults, torch.Tensor]:
    """Range search past the border: checked tensors on the CPU in, tensors out.

    Beside the results the float64 scores (total,) that decided their order.
    """
    queries, corpus = with_dense_rows(queries), with_dense_rows(corpus)
    checked = check_filter(filter, len(queries), len(corpus))
    found = core.search_range(
        native_arguments(queries, corpus, codes, checked, cosine=cosine, screening=screening),
        least=least.data_ptr(),
        most=max_results,
    )
    offsets = torch.empty(len(queries) + 1, dtype=torch.int64)
    scores, indices = torch.empty(found.total), torch.empty(found.total, dtype=torch.int64)
    exact = torch.empty(found.total, dtype=torch.float64)
    found.write(
        ends=offsets.data_ptr(),
        scores=scores.data_ptr(),
        exact_scores=exact.data_ptr(),
        indices=indices.data_ptr(),
    )
    return RangeResults(offsets, scores, indices), exact


def search_range(
    queries: Array,
    corpus: Array,
    threshold: float | Array,
    *,
    similarity: Similarity = "dot",
    filter: SearchFilter | None = None,
    screening: Screening = "auto",
    max_results: int = MOST_RESULTS,
) -> RangeResults:
    """All passages whose score reaches a threshold, for each query, exactly and completely.

    The float64 score is held against the threshold (for "cosine" after both divisions); what is returned is that score
    rounded to float32, which may round below it. Screening and its proof are those of :func:`pyhbt.search`
    (docs/how-it-works/numerics.md): 2 nq n dim operations, and up to 52 bytes a result while they come in. On a GPU's
    tensors the CPU searches.

    Args:
        queries: (nq, dim) float32, float16, bfloat16, int8 or float8, finite.
        corpus: (n, dim) likewise, on the same device.
        threshold: the least score, a number or (nq,) one for each query; -inf: everything.
        similarity: "dot", or "cosine" (0 for a row of zeros).
        filter: which passages each query may find.
        screening: as for :func:`pyhbt.search`.
        max_results: of all queries together.

    Raises:
        ValueError: a shape, device, non-finite value (named with its row) or NaN threshold; more than ``max_results``
            pairs reach the threshold, said as soon as they are found.
        TypeError: another dtype.
    """
    q, c = checks.as_tensor(queries, "queries"), checks.as_tensor(corpus, "corpus")
    check_embeddings(q, c)
    check_options(similarity, screening, "cpu", filter)
    least = check_threshold(threshold, len(q))
    most = whole_number("max_results", max_results, 0)
    q, c, device, cosine = q.detach().cpu(), c.detach().cpu(), q.device, similarity == "cosine"
    accepted = check_filter(at_cpu(filter, device), len(q), len(c))
    with codes_for(q, c, cosine, screening, accepted) as codes:
        found, _ = native_range(
            q,
            c,
            codes,
            least,
            cosine=cosine,
            max_results=most,
            filter=accepted,
            screening=screening,
        )
    both = isinstance(queries, np.ndarray) and isinstance(corpus, np.ndarray)
    return found.numpy() if both else found.to(device)
