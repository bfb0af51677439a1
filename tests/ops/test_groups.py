"""Ranks within groups against ranks in each group alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyhbt.ops import ranks
from pyhbt.ops.groups import grouped_ranks
from tests.adversarial import normal


@pytest.mark.parametrize(
    ("nq", "sizes"),
    [
        (1, [1]),
        (7, [1, 1, 1]),
        (3, [5000, 1, 4000]),  # slices of the corpus cut groups
        (129, [31, 0, 33, 64, 65, 1]),
        (200, [700, 500, 3]),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tied", [False, True])
def test_ranks_within_groups(
    nq: int, sizes: list[int], threads: int, tied: bool, restore_threads: None
) -> None:
    """As of each group alone; half the passages occur in several groups where they are tied."""
    torch.set_num_threads(threads)
    rng = np.random.default_rng(nq)
    queries, corpus = normal(rng, nq, 33), normal(rng, sum(sizes), 33)
    if tied:
        queries, corpus = queries.round(), corpus.round()
        corpus[::2] = corpus[0]
    targets = rng.integers(-1, len(corpus), (nq, 5))
    ends = np.cumsum(sizes)
    everywhere, within = grouped_ranks(*map(torch.from_numpy, (queries, corpus, targets, ends)))
    np.testing.assert_array_equal(everywhere.numpy(), ranks(queries, corpus, targets))
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        inside = (targets >= start) & (targets < end)
        if end > start:
            alone = ranks(queries, corpus[start:end], np.where(inside, targets - start, -1))
            np.testing.assert_array_equal(np.where(inside, within.numpy(), 0), alone)
    assert (within.numpy()[targets < 0] == 0).all()


def test_groups_are_checked() -> None:
    queries, corpus, targets = torch.ones(2, 3), torch.ones(4, 3), torch.zeros(2, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="groups: found an end at 3, expected ends that rise to 4"):
        grouped_ranks(queries, corpus, targets, torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="targets"):
        grouped_ranks(queries, corpus, targets + 4, torch.tensor([4]))
    nothing = grouped_ranks(queries, corpus[:0], targets - 1, torch.tensor([], dtype=torch.int64))
    assert [part.tolist() for part in nothing] == [[[0], [0]]] * 2
