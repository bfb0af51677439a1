"""The slow twins against formulas written out: they are what everything else is held against."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pyhbt.ops import reference

TEMPERATURE = 0.3


def test_the_loss_by_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    passages = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    expected = 0.0
    for row in range(3):
        scores = [float(queries[row] @ passages[column]) / TEMPERATURE for column in range(5)]
        expected += math.log(sum(map(math.exp, scores))) - scores[row]
    found = reference.contrastive_loss(queries, passages, temperature=TEMPERATURE)
    assert float(found) == pytest.approx(expected / 3, abs=1e-12)


def test_search_and_ranks_by_sorting() -> None:
    rng = np.random.default_rng(0)
    queries, corpus = (
        rng.integers(-2, 3, (4, 3)).astype(np.float32),
        rng.integers(-2, 3, (9, 3)).astype(np.float32),
    )
    scores, indices = reference.search(queries, corpus, 9)
    exact = queries.astype(np.float64) @ corpus.T.astype(np.float64)
    for row in range(4):
        order = sorted(range(9), key=lambda place, row=row: (-exact[row, place], place))
        assert np.asarray(indices)[row].tolist() == order
        assert np.asarray(scores)[row].tolist() == exact[row, order].tolist()
        targets = np.arange(9)[None].repeat(4, axis=0)
        found = np.asarray(reference.ranks(queries, corpus, targets))[row]
        assert found.tolist() == [order.index(place) + 1 for place in range(9)]
