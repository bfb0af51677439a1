from __future__ import annotations

import numpy as np
import pytest
import torch

from pyhbt.evaluation.centring import _half, centre

rng = np.random.default_rng(0)
QUESTIONS = [f"g{i}" for i in range(40)]
LANGS = ["en"] * 40 + ["de"] * 40


def vectors(offset: float) -> np.ndarray:
    """40 English and 40 German vectors, the same but for a language offset."""
    content = rng.normal(size=(40, 8))
    both = np.concatenate([content, content])
    both[:40, 0] += offset
    both[40:, 1] += offset
    return (both / np.linalg.norm(both, axis=1, keepdims=True)).astype(np.float32)


def unit(array: np.ndarray) -> np.ndarray:
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_none_changes_nothing() -> None:
    queries, passages = vectors(1), vectors(1)
    tensors = torch.from_numpy(queries), torch.from_numpy(passages)
    same = centre(*tensors, LANGS, QUESTIONS * 2, LANGS, "none")
    assert all(now is before for now, before in zip(same, tensors, strict=True))


def test_passages_move_to_the_overall_mean() -> None:
    queries, passages = vectors(1), vectors(3)
    same, moved = centre(queries, passages, LANGS, QUESTIONS * 2, LANGS, "passages")
    np.testing.assert_array_equal(same, queries)
    truth = passages.astype(np.float64)
    truth[:40] += truth.mean(axis=0) - passages[:40].mean(axis=0, dtype=np.float64)
    truth[40:] += passages.mean(axis=0, dtype=np.float64) - passages[40:].mean(axis=0, dtype=np.float64)
    # float32 rounding of unit vectors
    np.testing.assert_allclose(moved, unit(truth), atol=1e-7)


def test_queries_are_centred_by_the_other_half_only() -> None:
    queries, passages = vectors(2), vectors(2)
    centred, _ = centre(queries, passages, LANGS, QUESTIONS * 2, LANGS, "both")
    half = np.array([_half(question) for question in QUESTIONS])
    assert 5 < half.sum() < 35
    german = queries[40:].astype(np.float64)
    truth = np.where(half[:, None], german - german[~half].mean(0), german - german[half].mean(0))
    np.testing.assert_allclose(centred[40:], unit(truth), atol=1e-7)
    changed = queries.copy()
    changed[0] = unit(rng.normal(size=(1, 8)))[0]
    again, _ = centre(changed, passages, LANGS, QUESTIONS * 2, LANGS, "both")
    mates = [i for i in range(1, 40) if half[i] == half[0]]
    np.testing.assert_array_equal(again[mates], centred[mates])


def test_centring_takes_a_language_offset_away() -> None:
    queries, passages = vectors(4), vectors(4)
    before = (queries[:40] @ passages.T).argmax(1)
    assert (before < 40).all()  # every English query finds an English passage
    q, p = centre(queries, queries, LANGS, QUESTIONS * 2, LANGS, "both")
    best = (q[:40] @ p.T).argmax(1) % 40
    assert (best == torch.arange(40)).double().mean() > 0.9


def test_a_lone_query_and_a_lone_passage_stay_finite() -> None:
    one = np.array([[1.0, 0.0]], dtype=np.float32)
    queries, passages = centre(one, one, ["en"], ["g"], ["en"], "both")
    np.testing.assert_array_equal(queries, one)
    np.testing.assert_array_equal(passages, [[0.0, 0.0]])
    empty = np.zeros((0, 2), dtype=np.float32)
    for mode in ("passages", "both"):
        queries, passages = centre(empty, empty, [], [], [], mode)  # type: ignore[arg-type]
        assert queries.shape == passages.shape == (0, 2)


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="centring: found 'queries', expected one of none, passages, both"):
        centre(np.zeros((0, 1)), np.zeros((0, 1)), [], [], [], "queries")  # type: ignore[arg-type]
