"""When a curve has points."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.study.points import evaluation_points


@pytest.mark.parametrize(
    ("steps", "points"),
    [
        (1, (0, 1)),
        (2, (0, 1, 2)),
        (5, (0, 1, 2, 3, 4, 5)),
        (6, (0, 1, 2, 3, 4, 6)),
        (100, (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 100)),
    ],
)
def test_growing_distances(steps: int, points: tuple[int, ...]) -> None:
    assert evaluation_points(steps, None) == points


@given(st.integers(1, 10**6), st.one_of(st.none(), st.integers(1, 10**6)))
def test_from_the_beginning_to_the_end(steps: int, every: int | None) -> None:
    points = evaluation_points(
        steps, max(every, steps // 1000) if every is not None and every < steps else every
    )
    assert points[0] == 0
    assert points[-1] == steps
    assert list(points) == sorted(set(points))
    if every is None:
        assert all(later <= 2 * max(earlier, 1) for earlier, later in pairwise(points))


def test_every_so_many_steps() -> None:
    assert evaluation_points(10, 4) == (0, 4, 8, 10)
    assert evaluation_points(8, 4) == (0, 4, 8)
    assert evaluation_points(3, 9) == (0, 3)
