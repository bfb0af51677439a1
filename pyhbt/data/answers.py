"""What belongs together by any of several columns: the one rule by which texts answer the same queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def joined(columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The least value of the first column among the rows joined to each row.

    Rows that agree in a column are joined, directly or through other rows: connected components of the graph whose
    edges are the rows and whose nodes are the values of each column.

    Args:
        columns: at least two, int64 (n,).

    Returns:
        int64 (n,). Cost: O(n log n) time, O(n) memory.
    """
    from scipy import sparse
    from scipy.sparse import csgraph

    nodes, count = [], 0
    for column in columns:
        values, place = np.unique(column, return_inverse=True)
        nodes.append(count + place)
        count += len(values)
    first = nodes[0]
    starts, ends = np.tile(first, len(nodes) - 1), np.concatenate(nodes[1:])
    edges = sparse.coo_array((np.ones(len(ends), dtype=np.int8), (starts, ends)), shape=(count, count))
    num_joined, labels = csgraph.connected_components(edges, directed=False)
    label = labels[first]
    least = np.full(num_joined, np.iinfo(np.int64).max)
    np.minimum.at(least, label, columns[0])
    found: NDArray[np.int64] = least[label]
    return found
