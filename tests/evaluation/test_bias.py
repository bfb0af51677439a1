"""Measures of language bias against scipy and peer_measure, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import chdtrc
from scipy.stats import kruskal, spearmanr

from pyhbt.evaluation.bias import max_rank, mean_rank_correlation, peer, peer_depends_on_ranks, rank_distance
from tests.evaluation.test_metrics import ranking


def test_rank_distance_takes_the_best_passage_of_each_language() -> None:
    ranks = np.array([[5, 2, 9, 4], [7, 3, 0, 0], [1, 0, 0, 0]])
    langs = np.array([[0, 0, 1, 2], [1, 1, 0, 0], [2, 0, 0, 0]])
    # language 0: 2, language 1: 9, language 2: 4; the other rows have relevant passages in one language only
    np.testing.assert_array_equal(rank_distance(ranks, langs), [7.0, np.nan, np.nan])
    assert np.isnan(rank_distance(np.zeros((2, 1), dtype=np.int64), np.zeros((2, 1), dtype=np.int64))).all()


def test_max_rank_is_of_the_last_translation() -> None:
    ranks = np.array([[5, 2, 9, 4], [3, 7, 0, 0], [8, 0, 0, 0], [0, 0, 0, 0]])
    langs = np.array([[0, 0, 1, 2], [1, 1, 0, 0], [2, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(max_rank(ranks, langs), [9.0, np.nan, np.nan, np.nan])
    assert max_rank(np.zeros((0, 0), dtype=np.int64), np.zeros((0, 0), dtype=np.int64)).shape == (0,)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3, 11]), st.sampled_from([11, 40]))
def test_max_rank_and_rank_distance_by_hand(seed: int, t: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    ranks, _ = ranking(rng, 5, m, t)
    langs = rng.integers(0, 4, (5, t)) * 7  # with gaps between the numbers
    for row, distance, worst in zip(
        range(5), rank_distance(ranks, langs), max_rank(ranks, langs), strict=True
    ):
        best: dict[int, int] = {}
        for rank, lang in zip(ranks[row], langs[row], strict=True):
            if rank > 0:
                best[lang] = min(rank, best.get(lang, rank))
        if len(best) < 2:
            assert np.isnan(distance)
            assert np.isnan(worst)
        else:
            assert distance == max(best.values()) - min(best.values())
            assert worst == ranks[row].max() >= distance + min(best.values())


def plain_peer(ranks: np.ndarray, gains: np.ndarray, langs: np.ndarray, cutoff: int, weights: dict) -> float:
    """PEER of one query (t,), level by level, with scipy's test."""
    total = 0.0
    for level, weight in weights.items():
        samples: dict[int, list[float]] = {}
        for rank, gain, lang in zip(ranks, gains, langs, strict=True):
            if rank > 0 and gain == level and (rank <= cutoff or level > 0):
                samples.setdefault(lang, []).append(rank if rank <= cutoff else 1e9)
        distinct = {rank for sample in samples.values() for rank in sample}
        if any(gain == level for rank, gain in zip(ranks, gains, strict=True) if rank > 0):
            testable = len(samples) > 1 and len(distinct) > 1
            total += weight * (kruskal(*samples.values()).pvalue if testable else 1.0)
    return total


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 2, 7, 30]),
    st.sampled_from([30, 100]),
    st.sampled_from([1, 2, 10, 50, 100]),
    st.integers(1, 5),
)
def test_peer_is_a_sum_of_kruskal_wallis_tests(
    seed: int, t: int, m: int, cutoff: int, num_langs: int
) -> None:
    rng = np.random.default_rng(seed)
    ranks, gains = ranking(rng, 6, m, t)
    gains -= 1  # 0 non-relevant, 1, 2
    langs = rng.integers(0, num_langs, (6, t))
    for weights in ({0.0: 0.2, 1.0: 0.3, 2.0: 0.5}, {2.0: 1.0}):
        found = peer(ranks, gains, langs, cutoff, weights)
        expected = [plain_peer(ranks[q], gains[q], langs[q], cutoff, weights) for q in range(6)]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert np.all((found >= 0) & (found <= 1 + 1e-12))
    for value, row in zip(peer(ranks, gains, langs, cutoff), range(6), strict=True):
        levels = {g for r, g in zip(ranks[row], gains[row], strict=True) if r > 0 and g > 0}
        equal = {level: 1 / len(levels) for level in levels}
        expected_mean = plain_peer(ranks[row], gains[row], langs[row], cutoff, equal) if levels else np.nan
        np.testing.assert_allclose(value, expected_mean, atol=1e-12)


def test_peer_known_values() -> None:
    ranks = np.array([[1, 2, 3, 4], [1, 4, 2, 3], [1, 2, 3, 4], [7, 8, 9, 10], [1, 2, 9, 10], [0, 0, 0, 0]])
    langs = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [3, 3, 3, 3], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    fair = peer(ranks, np.ones(ranks.shape), langs, 5)
    # sums of ranks 3 and 7: H = 12 / (4 * 5) * (9 / 2 + 49 / 2) - 3 * 5 = 2.4; equal means: H = 0; one language;
    # nothing within 5; two tied behind, at 3.5: H = 3 * (2 + 2) / (1.5^2 + 0.5^2 + 2)
    expected = [chdtrc(1, 2.4), 1.0, 1.0, 1.0, chdtrc(1, 12 / 4.5), np.nan]
    np.testing.assert_allclose(fair, expected)


@pytest.mark.parametrize("num_langs", [2, 3, 11, 46])
def test_peer_of_one_passage_a_language_is_a_constant(num_langs: int) -> None:
    rng = np.random.default_rng(num_langs)
    ranks = np.stack([rng.permutation(200)[:num_langs] + 1 for _ in range(20)])
    langs = np.tile(np.arange(num_langs), (20, 1))
    gains = np.ones(ranks.shape)
    found = peer(ranks, gains, langs, 200)
    np.testing.assert_allclose(found, chdtrc(num_langs - 1, num_langs - 1))
    if num_langs == 11:
        assert found[0] == pytest.approx(0.44, abs=0.005)
    assert not peer_depends_on_ranks(gains, langs).any()


def test_peer_depends_on_ranks_where_a_language_has_two() -> None:
    langs = np.array([[0, 0, 1], [0, 1, 2], [0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    gains = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 2], [1, 2, 2], [1, 1, 0.0]])
    assert peer_depends_on_ranks(gains, langs).tolist() == [True, False, False, False, False, False]
    assert peer_depends_on_ranks(np.zeros((2, 0)), np.zeros((2, 0), dtype=np.int64)).tolist() == [
        False,
        False,
    ]


def test_peer_equals_its_authors_code_at_the_head_of_a_ranking() -> None:
    """Where a level fills the first places, ranks within it are positions in the run, which peer_measure takes."""
    peer_measure = pytest.importorskip("peer_measure", reason="peer_measure is not installed")
    rng = np.random.default_rng(5)
    n, t, m = 20, 12, 40
    ranks = np.stack([rng.permutation(t) + 1 for _ in range(n)])
    langs = rng.integers(0, 4, (n, t))
    run = {f"q{q}": {f"q{q}d{r}": float(m - r) for r in range(1, m + 1)} for q in range(n)}
    qrels = {f"q{q}": {f"q{q}d{r}": 1 for r in ranks[q]} | {f"q{q}d{m}": 0} for q in range(n)}
    mapping = {f"q{q}d{r}": "x" for q in range(n) for r in range(1, m + 1)}
    mapping |= {f"q{q}d{r}": str(x) for q in range(n) for r, x in zip(ranks[q], langs[q], strict=True)}
    theirs = peer_measure.PEER(weights={0: 0.0, 1: 1.0}, lang_mapping=mapping) @ 20
    # its provider calls what ir_measures 0.4 has no more; the evaluator behind it still works
    key = id(theirs["lang_mapping"])
    evaluator = peer_measure.PEEREvaluator([theirs], qrels, {key: [(20, theirs)]}, {key: mapping})
    values = {found.query_id: found.value for found in evaluator._iter_calc(run)}
    ours = peer(ranks, np.ones(ranks.shape), langs, 20)
    np.testing.assert_allclose(ours, [values[f"q{q}"] for q in range(n)], atol=1e-12)


def test_peer_errors() -> None:
    ranks, gains = np.ones((1, 1), dtype=np.int64), np.ones((1, 1))
    with pytest.raises(ValueError, match="cutoff: found 0, expected at least 1"):
        peer(ranks, gains, ranks, 0)
    with pytest.raises(ValueError, match=r"weights: found a sum of 0\.9, expected 1"):
        peer(ranks, gains, ranks, 1, {1.0: 0.9})


def plain_correlation(lists: np.ndarray, questions: np.ndarray, langs: np.ndarray) -> list[float]:
    """MRC with scipy, a pair of queries at a time."""
    values = []
    for q, mine in enumerate(lists.tolist()):
        found = []
        for other, theirs in enumerate(lists.tolist()):
            if questions[other] == questions[q] and langs[other] != langs[q]:
                union = sorted({*mine, *theirs})
                if len(union) < 2:
                    found.append(np.nan)
                    continue
                ranks = [[x.index(p) if p in x else len(x) for p in union] for x in (mine, theirs)]
                found.append(spearmanr(*ranks).statistic)
        values.append(float(np.mean(found)) if found else np.nan)
    return values


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 2, 7, 13]),
    st.sampled_from([1, 2, 3, 10]),
    st.sampled_from([0, 1, 4, 1000]),
    st.integers(1, 4),
)
def test_rank_correlation_is_scipys_spearman(
    seed: int, n: int, k: int, spare: int, num_questions: int
) -> None:
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(k + spare)[:k] for _ in range(n)]) if n else np.zeros((0, k), dtype=int)
    questions, langs = (
        rng.integers(0, num_questions, n) * 5,
        rng.integers(0, 4, n) - 2,
    )  # also twice one language
    found = mean_rank_correlation(lists, questions, langs)
    np.testing.assert_allclose(found, plain_correlation(lists, questions, langs), atol=1e-12)
    defined = found[~np.isnan(found)]
    assert np.all((defined >= -1 - 1e-12) & (defined <= 1 + 1e-12))
    order = rng.permutation(n)
    again = mean_rank_correlation(lists[order], questions[order], langs[order])
    np.testing.assert_allclose(again, found[order], atol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 10, 100])
def test_rank_correlation_known_values(k: int) -> None:
    same = np.arange(k)
    lists = np.stack([same, same, same + k, same[::-1]])
    langs = np.arange(4)

    def pair(first: int, second: int) -> float:
        chosen = [first, second]
        values = mean_rank_correlation(lists[chosen], np.zeros(2, dtype=np.int64), langs[chosen])
        assert values[0] == pytest.approx(values[1], abs=1e-12)
        return float(values[0])

    assert pair(0, 1) == pytest.approx(1)
    assert pair(0, 3) == pytest.approx(-1)
    assert pair(0, 2) == pytest.approx(-6 * k**2 / (7 * k**2 - 1))
    alone = mean_rank_correlation(lists, langs, langs)
    assert np.isnan(alone).all()


def test_rank_correlation_errors() -> None:
    lists, one = np.zeros((1, 2), dtype=np.int64), np.zeros(1, dtype=np.int64)
    with pytest.raises(ValueError, match=r"lists: shape \(1,\), expected \(n, k\), k at least 1"):
        mean_rank_correlation(one, one, one)
    with pytest.raises(ValueError, match=r"lists: shape \(1, 0\)"):
        mean_rank_correlation(lists[:, :0], one, one)
    with pytest.raises(ValueError, match=r"questions: shape \(0,\), expected \(1,\)"):
        mean_rank_correlation(lists, one[:0], one)
    with pytest.raises(ValueError, match=r"langs: shape \(0,\), expected \(1,\)"):
        mean_rank_correlation(lists, one, one[:0])
    with pytest.raises(ValueError, match="lists: found passage -1, expected 2 passages a query"):
        mean_rank_correlation(np.array([[0, -1]]), one, one)
