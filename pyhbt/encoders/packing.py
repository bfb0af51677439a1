"""Texts of a batch -> mini-batches of similar length, so that little is computed on padding.

Shapes: ``lengths`` int (n,), tokens of each text; a mini-batch is an int64 array of positions in it. Padding a
mini-batch costs ``len(mini_batch) * max length`` tokens; a mini-batch of its own costs as much time as ``overhead``
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyhbt.arguments import check_at_least

MiniBatch = NDArray[np.int64]


def mini_batches_of_least_cost(
    lengths: Sequence[int] | NDArray[np.int64],
    overhead: int,
    max_rows: int | None = None,
    max_tokens: int | None = None,
) -> list[MiniBatch]:
    """The partition with the fewest padded tokens, each mini-batch counted as ``overhead`` tokens more; longest first.

    Optimal over all partitions without the limits: cuts between equal lengths never help, so a dynamic programme over
    the d distinct lengths finds it in O(n log n + d^2). Mini-batches above ``max_rows`` texts, or ``max_tokens`` padded
    tokens (a longer text is alone), are then cut into equal parts, texts in order of length. Within a mini-batch
    texts keep the order given, unless it was cut.

    Raises:
        ValueError: ``overhead`` below 0, or a limit below 1.
    """
    check_at_least("overhead", overhead, 0)
    for name, limit in (("max_rows", max_rows), ("max_tokens", max_tokens)):
        if limit is not None:
            check_at_least(name, limit, 1)
    tokens = np.asarray(lengths, dtype=np.int64)
    if not len(tokens):
        return []
    distinct, code = np.unique(tokens, return_inverse=True)
    ends = np.cumsum(np.bincount(code))
    before = np.concatenate([[0], ends])
    least = np.zeros(len(distinct) + 1, dtype=np.int64)
    first = np.zeros(len(distinct) + 1, dtype=np.int64)
    for last, length in enumerate(distinct, start=1):
        costs = least[:last] + length * (ends[last - 1] - before[:last])
        first[last] = np.argmin(costs)
        least[last] = costs[first[last]] + overhead
    mini_batches: list[MiniBatch] = []
    last = len(distinct)
    while last > 0:
        start = int(first[last])
        mini_batch = np.flatnonzero((code >= start) & (code < last))
        rows = len(mini_batch) if max_rows is None else max_rows
        if max_tokens is not None:
            rows = min(rows, max(1, max_tokens // max(1, int(distinct[last - 1]))))
        if len(mini_batch) > rows:
            mini_batch = mini_batch[np.argsort(-tokens[mini_batch], kind="stable")]
            mini_batches += np.array_split(mini_batch, -(-len(mini_batch) // rows))
        else:
            mini_batches.append(mini_batch)
        last = start
    return mini_batches


def mini_batches_within_budget(
    lengths: Sequence[int] | NDArray[np.int64], max_tokens: int
) -> list[MiniBatch]:
    """Mini-batches of at most ``max_tokens`` padded tokens (a longer text is alone), longest texts first; O(n log n).

    Raises:
        ValueError: ``max_tokens`` below 1.
    """
    check_at_least("max_tokens", max_tokens, 1)
    tokens = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-tokens, kind="stable")
    mini_batches: list[MiniBatch] = []
    start = 0
    while start < len(order):
        rows = max(1, int(max_tokens // max(1, tokens[order[start]])))
        mini_batches.append(order[start : start + rows])
        start += rows
    return mini_batches
