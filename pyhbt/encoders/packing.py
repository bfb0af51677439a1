"""Texts of a batch -> groups of similar length, so that little is computed on padding.

Shapes: ``lengths`` int (n,), tokens of each text; a group is an int64 array of positions in it. Padding a group costs
``len(group) * max length`` tokens; a group of its own costs as much time as ``overhead`` tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Group = NDArray[np.int64]


def groups_of_least_cost(
    lengths: Sequence[int] | NDArray[np.int64],
    overhead: int,
    max_rows: int | None = None,
    max_tokens: int | None = None,
) -> list[Group]:
    """The partition with the fewest padded tokens, each group counted as ``overhead`` tokens more; longest first.

    Optimal over all partitions without the limits: cuts between equal lengths never help, so a dynamic programme over
    the d distinct lengths finds it in O(n log n + d^2). Groups above ``max_rows`` texts, or ``max_tokens`` padded
    tokens (a longer text is alone), are then cut into equal parts, texts in order of length. Within a group texts keep
    the order given, unless it was cut.

    Raises:
        ValueError: ``overhead`` below 0, or a limit below 1.
    """
    if overhead < 0:
        raise ValueError(f"overhead: found {overhead}, expected at least 0")
    for name, limit in (("max_rows", max_rows), ("max_tokens", max_tokens)):
        if limit is not None and limit < 1:
            raise ValueError(f"{name}: found {limit}, expected at least 1")
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
    groups: list[Group] = []
    last = len(distinct)
    while last > 0:
        start = int(first[last])
        group = np.flatnonzero((code >= start) & (code < last))
        rows = len(group) if max_rows is None else max_rows
        if max_tokens is not None:
            rows = min(rows, max(1, max_tokens // max(1, int(distinct[last - 1]))))
        if len(group) > rows:
            group = group[np.argsort(-tokens[group], kind="stable")]
            groups += np.array_split(group, -(-len(group) // rows))
        else:
            groups.append(group)
        last = start
    return groups


def groups_within_budget(lengths: Sequence[int] | NDArray[np.int64], max_tokens: int) -> list[Group]:
    """Groups of at most ``max_tokens`` padded tokens (a longer text is alone), longest texts first; O(n log n).

    Raises:
        ValueError: ``max_tokens`` below 1.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens: found {max_tokens}, expected at least 1")
    tokens = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-tokens, kind="stable")
    groups: list[Group] = []
    start = 0
    while start < len(order):
        rows = max(1, int(max_tokens // max(1, tokens[order[start]])))
        groups.append(order[start : start + rows])
        start += rows
    return groups
