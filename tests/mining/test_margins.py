"""Neighbourhoods and margins against the formulas, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import ExactIndex, search
from pyhbt.mining.margins import LEAST_MEAN, Candidates, Neighbourhoods, _agreed, neighbourhoods
from tests.emulated import emulated_kernels
from tests.mining.bitext_oracle import MARGINS, candidates, nearest, score_matrix

RNG = np.random.default_rng(5)
SOURCES = RNG.normal(size=(33, 12)).astype(np.float32)
TARGETS = RNG.normal(size=(41, 12)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 3, 4, 100])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_neighbours(k: int, similarity: Any) -> None:
    found = neighbourhoods(SOURCES, TARGETS, k, similarity=similarity)
    exact = score_matrix(SOURCES, TARGETS, similarity)
    for side, matrix in ((found.forward, exact), (found.backward, exact.T)):
        scores, places = nearest(matrix, k)
        np.testing.assert_array_equal(side.places, places)
        np.testing.assert_allclose(side.scores, scores, rtol=2e-7, atol=1e-9)
        assert (side.places.dtype, side.scores.dtype) == (np.int64, np.float64)
        assert side.places.shape == (len(matrix), min(k, matrix.shape[1]))


@pytest.mark.parametrize("k", [1, 3, 4, 50])
@pytest.mark.parametrize("margin", MARGINS)
def test_margins_are_those_of_the_paper(margin: Any, k: int) -> None:
    """Equations 1 to 3 of arXiv 1811.01136, with the sums as they stand there."""
    found = neighbourhoods(SOURCES, TARGETS, k).margins(margin)
    exact = score_matrix(SOURCES, TARGETS, "cosine")
    of_x = np.sort(exact, axis=1)[:, ::-1][:, :k]
    of_y = np.sort(exact.T, axis=1)[:, ::-1][:, :k]
    for x, (places, scores) in enumerate(zip(found.forward.places, found.forward.scores, strict=True)):
        for y, score in zip(places, scores, strict=True):
            b = of_x[x].sum() / (2 * of_x.shape[1]) + of_y[y].sum() / (2 * of_y.shape[1])
            a = exact[x, y]
            expected = {"ratio": a / max(b, LEAST_MEAN), "distance": a - b, "absolute": a}[margin]
            assert score == pytest.approx(expected, rel=1e-4, abs=1e-6)
    both = {
        (x, int(y)): score
        for x in range(len(SOURCES))
        for y, score in zip(found.forward.places[x], found.forward.scores[x], strict=True)
    }
    for y in range(len(TARGETS)):
        for x, score in zip(found.backward.places[y], found.backward.scores[y], strict=True):
            assert both.get((int(x), y), score) == score  # a pair has one margin, to the bit


def test_a_pair_has_one_score() -> None:
    """The higher of the two that the passes gave, whichever it was."""
    forward = Candidates(np.array([[1, 0], [1, 2]]), np.array([[0.5, 0.25], [0.75, 0.5]]))
    backward = Candidates(np.array([[0], [1], [1]]), np.array([[0.375], [0.625], [0.5]]))
    found = _agreed(forward, backward)
    np.testing.assert_array_equal(found.forward.scores, [[0.5, 0.375], [0.75, 0.5]])
    np.testing.assert_array_equal(found.backward.scores, [[0.375], [0.75], [0.5]])
    np.testing.assert_array_equal(forward.scores, [[0.5, 0.25], [0.75, 0.5]])  # those given stay


def test_a_cosine_that_two_searches_round_otherwise() -> None:
    """The quotients lie on two sides of the middle of two float32 numbers: found among 600 million pairs."""
    x = np.array([[float.fromhex("0x1.689f86p-1"), float.fromhex("0x1.b9dd4ep-2")]], np.float32)
    y = np.array([[float.fromhex("-0x1.0982d4p-1"), float.fromhex("-0x1.a5ea6ap-2")]], np.float32)
    there, back = (float(search(*sides, 1, similarity="cosine")[0][0, 0]) for sides in ((x, y), (y, x)))
    assert there != back
    found = neighbourhoods(x, y, 1)
    assert found.forward.scores.tolist() == found.backward.scores.tolist() == [[max(there, back)]]


def test_the_best_of_equal_ones_is_the_lower() -> None:
    places, scores = Candidates(
        np.array([[7, 3, 5], [1, 2, 0]]), np.array([[0.5, 0.25, 0.5], [0.0, -1.0, 0.0]])
    ).best()
    assert (places.tolist(), scores.tolist()) == ([5, 0], [0.5, 0.0])


def test_a_mean_that_is_not_above_zero() -> None:
    """No ratio is NaN, none turns its sign, and a greater score stays the greater ratio."""
    scores = np.array([[-0.5], [0.0], [2.0**-30], [0.25], [0.5]])
    forward = Candidates(np.zeros((5, 1), dtype=np.int64), scores)
    backward = Candidates(np.zeros((1, 1), dtype=np.int64), np.array([[-3.0]]))
    found = Neighbourhoods(forward, backward).margins("ratio").forward.scores[:, 0]
    np.testing.assert_array_equal(found, scores[:, 0] / LEAST_MEAN)
    assert (np.diff(found) > 0).all()
    zeros = np.zeros((3, 4), np.float32)
    for margin in MARGINS:
        both = neighbourhoods(zeros, zeros, 2).margins(margin)  # type: ignore[arg-type]
        np.testing.assert_array_equal(both.forward.scores, np.zeros((3, 2)))
        np.testing.assert_array_equal(both.backward.scores, np.zeros((3, 2)))


def test_a_row_of_zeros_has_cosine_zero() -> None:
    sources = np.concatenate([SOURCES[:5], np.zeros((1, 12), np.float32)])
    found = neighbourhoods(sources, TARGETS, 4)
    np.testing.assert_array_equal(found.forward.scores[5], 0)
    np.testing.assert_array_equal(found.forward.places[5], range(4))
    expected, _ = candidates(sources, TARGETS, 4, "ratio", "cosine")
    np.testing.assert_allclose(
        found.margins("ratio").forward.scores, [[score for score, _ in row] for row in expected], rtol=1e-6
    )


@pytest.mark.parametrize("sizes", [(0, 0), (0, 3), (3, 0)])
def test_an_empty_side(sizes: tuple[int, int]) -> None:
    found = neighbourhoods(SOURCES[: sizes[0]], TARGETS[: sizes[1]], 4).margins("ratio")
    assert (found.forward.places.shape, found.backward.places.shape) == ((sizes[0], 0), (sizes[1], 0))


def test_kinds_of_vectors(tmp_path: Path) -> None:
    """Arrays, tensors, indexes in memory and from disk, side by side and in each dtype."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x, y = torch.from_numpy(SOURCES).to(dtype), torch.from_numpy(TARGETS).to(dtype).requires_grad_()
        expected = neighbourhoods(x, y, 3)
        ExactIndex(y.detach(), similarity="cosine").save(tmp_path / "saved")
        opened = ExactIndex.open(tmp_path / "saved")
        cases: list[tuple[Any, Any]] = [(ExactIndex(x, similarity="cosine"), y), (x, opened)]
        if dtype != torch.bfloat16:
            cases += [(x.numpy(), y), (np.asfortranarray(x.numpy()), opened)]
        for sources, targets in cases:
            same(neighbourhoods(sources, targets, 3), expected)
            same(neighbourhoods(targets, sources, 3), Neighbourhoods(expected.backward, expected.forward))
    mixed = neighbourhoods(torch.from_numpy(SOURCES), TARGETS.astype(np.float16), 3)
    same(mixed, neighbourhoods(SOURCES, TARGETS.astype(np.float16).astype(np.float32), 3))


def same(one: Neighbourhoods, other: Neighbourhoods) -> None:
    for first, second in ((one.forward, other.forward), (one.backward, other.backward)):
        np.testing.assert_array_equal(first.places, second.places)
        np.testing.assert_array_equal(first.scores, second.scores)


def test_indexes_bring_their_similarity() -> None:
    dot = ExactIndex(SOURCES), ExactIndex(TARGETS)
    same(neighbourhoods(*dot, 3), neighbourhoods(SOURCES, TARGETS, 3, similarity="dot"))
    same(neighbourhoods(SOURCES, dot[1], 3), neighbourhoods(SOURCES, TARGETS, 3, similarity="dot"))
    with pytest.raises(
        ValueError, match="similarity: found 'cosine', expected 'dot', that of the index of sources"
    ):
        neighbourhoods(dot[0], TARGETS, 3, similarity="cosine")
    with pytest.raises(ValueError, match="similarity: found 'dot', expected 'cosine', .* index of targets"):
        neighbourhoods(dot[0], ExactIndex(TARGETS, similarity="cosine"), 3)


def test_results_do_not_depend_on_threads() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(neighbourhoods(SOURCES, TARGETS, 4).margins("ratio"))
    finally:
        torch.set_num_threads(before)
    same(found[0], found[1])
    same(found[0], found[2])


def test_wrong_arguments() -> None:
    bad = TARGETS.copy()
    bad[4, 2] = np.nan
    worse = SOURCES.copy()
    worse[32, 0] = -np.inf
    cases: list[tuple[Any, Any, Any, type[Exception], str]] = [
        (SOURCES, bad, 4, ValueError, "targets: row 4 holds a NaN"),
        (worse, TARGETS, 4, ValueError, "sources: row 32 holds a NaN or an infinity"),
        (SOURCES, TARGETS[:, :7], 4, ValueError, r"targets: found dim 7, expected 12 \(the dim of sources\)"),
        (SOURCES[0], TARGETS, 4, ValueError, "sources: found 1 dimensions, expected 2"),
        (SOURCES.astype(np.float64), TARGETS, 4, TypeError, "sources: found dtype torch.float64"),
        (SOURCES, "text", 4, TypeError, "targets: found str"),
        (SOURCES, TARGETS, 0, ValueError, "k: found 0, expected at least 1"),
        (SOURCES, TARGETS, 2.0, TypeError, "k: found 2.0, expected a whole number"),
    ]
    for sources, targets, k, error, match in cases:
        with pytest.raises(error, match=match):
            neighbourhoods(sources, targets, k)
    with pytest.raises(ValueError, match="similarity: found 'l2', expected one of dot, cosine"):
        neighbourhoods(SOURCES, TARGETS, 4, similarity="l2")  # type: ignore[arg-type]
    large = np.full((2, 2), 3e38, np.float32)
    with pytest.raises(ValueError, match="similarity: found dot products that float32 cannot hold"):
        neighbourhoods(large, large, 1, similarity="dot")
    assert neighbourhoods(large, large, 1).forward.scores.max() == pytest.approx(1)
    with pytest.raises(ValueError, match=r"targets: found 41 vectors, expected 33 \(one for each source\)"):
        neighbourhoods(SOURCES, TARGETS, 4, aligned=True)
    with pytest.raises(ValueError, match="sources: found none, expected at least one"):
        neighbourhoods(SOURCES[:0], TARGETS[:0], 4, aligned=True)


def test_the_kernels_of_a_gpu_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = neighbourhoods(SOURCES, TARGETS, 4)
    monkeypatch.setattr(ExactIndex, "_kernels", lambda _: emulated_kernels())
    same(neighbourhoods(SOURCES, TARGETS, 4), expected)


@pytest.mark.gpu
def test_a_gpu_gives_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x, y = torch.from_numpy(SOURCES).cuda(), torch.from_numpy(TARGETS).cuda()
    same(neighbourhoods(x, y, 4), neighbourhoods(SOURCES, TARGETS, 4))
    with pytest.raises(ValueError, match="targets: found device cpu, expected cuda:0"):
        neighbourhoods(x, TARGETS, 4)
