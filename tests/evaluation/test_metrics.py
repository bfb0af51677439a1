"""Measures against trec_eval and ir_measures, on random rankings with graded relevance."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.evaluation.metrics import measure

# Both oracles and we work in float64 on the same integers; 1e-6 is the digits that trec_eval prints.
TOLERANCE = 1e-6

ORACLES = {
    "mAP": ("map", ir_measures.AP),
    "mAP@5": ("map_cut_5", ir_measures.AP @ 5),
    "recall@1": ("recall_1", ir_measures.R @ 1),
    "recall@5": ("recall_5", ir_measures.R @ 5),
    "nDCG@5": ("ndcg_cut_5", ir_measures.nDCG @ 5),
    "nDCG@100": ("ndcg_cut_100", ir_measures.nDCG @ 100),
    "MRR": ("recip_rank", ir_measures.RR),
    "MRR@5": (None, ir_measures.RR @ 5),
}


def ranking(rng: np.random.Generator, n: int, m: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (n, t) of up to t relevant passages among m, 0-padded, with gains 1..3."""
    ranks = np.zeros((n, t), dtype=np.int64)
    gains = np.zeros((n, t))
    for row in range(n):
        count = rng.integers(1, t + 1)
        ranks[row, :count] = rng.permutation(m)[:count] + 1
        gains[row, :count] = rng.integers(1, 4, count)
    return ranks, gains


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 6), st.sampled_from([1, 2, 3, 11]), st.sampled_from([11, 12, 40])
)
def test_equal_to_trec_eval_and_ir_measures(seed: int, n: int, t: int, m: int) -> None:
    ranks, gains = ranking(np.random.default_rng(seed), n, m, t)
    run = {f"q{q}": {f"d{r}": float(m - r) for r in range(1, m + 1)} for q in range(n)}
    qrels = {
        f"q{q}": {f"d{r}": int(g) for r, g in zip(ranks[q], gains[q], strict=True) if r > 0} for q in range(n)
    }
    trec = pytrec_eval.RelevanceEvaluator(qrels, {name for name, _ in ORACLES.values() if name}).evaluate(run)
    for name, (trec_name, ir_measure) in ORACLES.items():
        ours = measure(name)(ranks, gains)
        by_query = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measure], qrels, run)}
        np.testing.assert_allclose(ours, [by_query[f"q{q}"] for q in range(n)], atol=TOLERANCE)
        if trec_name:
            np.testing.assert_allclose(ours, [trec[f"q{q}"][trec_name] for q in range(n)], atol=TOLERANCE)


def test_a_query_without_ranks_scores_zero() -> None:
    ranks, gains = np.zeros((2, 3), dtype=np.int64), np.ones((2, 3))
    for name in ORACLES:
        np.testing.assert_array_equal(measure(name)(ranks, gains), [0.0, 0.0])
    empty = np.zeros((0, 0), dtype=np.int64)
    for name in ORACLES:
        assert measure(name)(empty, np.zeros((0, 0))).shape == (0,)


def test_known_values() -> None:
    ranks, gains = np.array([[1, 3, 0], [2, 0, 0]]), np.array([[1.0, 1, 0], [2, 0, 0]])
    np.testing.assert_allclose(measure("mAP")(ranks, gains), [(1 + 2 / 3) / 2, 0.5])
    np.testing.assert_allclose(measure("MRR@1")(ranks, gains), [1.0, 0.0])
    np.testing.assert_allclose(measure("recall@2")(ranks, gains), [0.5, 1.0])


@pytest.mark.parametrize("name", ["recall", "nDCG", "mAP@0", "P@5", "recall@-1", "recall@x", ""])
def test_unknown_measures(name: str) -> None:
    with pytest.raises(ValueError, match="metric: found"):
        measure(name)
