"""Main effects and interaction of two factors."""

from __future__ import annotations

import numpy as np
import pytest

from pyhbt.study.statistics.contrasts import Endpoint
from pyhbt.study.statistics.factors import two_factors


def test_effects_by_hand() -> None:
    values = np.array([0.1, 0.2, 0.4, 0.9, 0.5, 0.8])  # rows: ratios; columns: changes
    endpoint = Endpoint(np.repeat(values[:, None], 3, axis=1), np.zeros((6, 3, 2)))
    grid = np.array([[0, 1], [2, 3], [4, 5]])
    found = two_factors(endpoint, grid)
    assert [e.value for e in found.first] == pytest.approx([0.65 - 0.15, 0.65 - 0.15])
    assert [e.value for e in found.second] == pytest.approx([(0.1 + 0.5 + 0.3) / 3])
    assert found.interaction.value == pytest.approx((0.8 - 0.2) - (0.5 - 0.1))
    with pytest.raises(ValueError, match="found 1 x 2 levels"):
        two_factors(endpoint, grid[:1])
