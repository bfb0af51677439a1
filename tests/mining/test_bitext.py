"""Bitext mining against a plain oracle, LASER's and sentence-transformers' loops, and Tatoeba."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyhbt import ExactIndex, load_encoder
from pyhbt.data.records import columns, read_lines
from pyhbt.mining import Bitext, SentencePair, mine_bitext
from tests.mining.bitext_oracle import MARGINS, RETRIEVALS, in_order, mined, nearest, score_matrix

EVERY = list(itertools.product(MARGINS, RETRIEVALS))


def real(n: int, m: int, dim: int = 8, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Vectors of which some translate one another."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dim)), rng.normal(size=(m, dim))
    shared = min(n, m) // 2
    y[:shared] = x[:shared] + 0.3 * y[:shared]
    return x.astype(np.float32), rng.permutation(y).astype(np.float32)


def whole(n: int, m: int, dim: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Small whole numbers: products are exact, so that ties are, and many."""
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(-2, 3, size=(rows, dim)).astype(np.float32) for rows in (n, m))
    return x, y


def triples(found: Bitext) -> list[tuple[int, int, float]]:
    return [tuple(pair) for pair in found]


@given(
    st.integers(1, 14),
    st.integers(1, 14),
    st.integers(1, 4),
    st.integers(1, 16),
    st.integers(0, 2**32 - 1),
    st.sampled_from(EVERY),
    st.sampled_from([None, 0.0, 0.5, 1.0]),
)
def test_exact_with_ties(
    n: int, m: int, dim: int, k: int, seed: int, how: tuple[Any, Any], threshold: float | None
) -> None:
    """To the bit, order included."""
    x, y = whole(n, m, dim, seed)
    margin, retrieval = how
    options: dict[str, Any] = {"k": k, "margin": margin, "retrieval": retrieval, "similarity": "dot"}
    found = mine_bitext(x, y, threshold=threshold, **options)
    expected = mined(x, y, threshold=-np.inf if threshold is None else threshold, **options)
    assert triples(found) == expected


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(0, 10_000), st.sampled_from(EVERY)
)
def test_cosine(n: int, m: int, k: int, seed: int, how: tuple[Any, Any]) -> None:
    x, y = real(n, m, seed=seed)
    margin, retrieval = how
    found = mine_bitext(x, y, k=k, margin=margin, retrieval=retrieval)
    expected = mined(x, y, k=k, margin=margin, retrieval=retrieval)
    scores = {(source, target): score for source, target, score in expected}
    assert {(source, target) for source, target, _ in found} == scores.keys()
    for source, target, score in found:
        # the two round to float32 alike, but for a float64 score in the middle of two
        assert score == pytest.approx(scores[source, target], rel=1e-4, abs=1e-6)
    assert triples(found) == sorted(triples(found), key=in_order)


def test_the_script_of_sentence_transformers() -> None:
    """examples/sentence_transformer/applications/parallel-sentence-mining/bitext_mining.py, its loop as it stands."""
    x, y = real(120, 150, dim=16, seed=3)
    exact = score_matrix(x, y, "cosine")
    (x2y_sim, x2y_ind), (y2x_sim, y2x_ind) = nearest(exact, 4), nearest(exact.T, 4)
    x2y_mean, y2x_mean = x2y_sim.mean(axis=1), y2x_sim.mean(axis=1)

    def score_candidates(sim: Any, ind: Any, fwd_mean: Any, bwd_mean: Any) -> Any:
        scores = np.zeros(ind.shape)
        for i in range(scores.shape[0]):
            for j in range(scores.shape[1]):
                scores[i, j] = sim[i, ind[i, j]] / ((fwd_mean[i] + bwd_mean[ind[i, j]]) / 2)
        return scores

    fwd_scores = score_candidates(exact, x2y_ind, x2y_mean, y2x_mean)
    bwd_scores = score_candidates(exact.T, y2x_ind, y2x_mean, x2y_mean)
    fwd_best = x2y_ind[np.arange(x.shape[0]), fwd_scores.argmax(axis=1)]
    bwd_best = y2x_ind[np.arange(y.shape[0]), bwd_scores.argmax(axis=1)]
    indices = np.stack(
        [
            np.concatenate([np.arange(x.shape[0]), bwd_best]),
            np.concatenate([fwd_best, np.arange(y.shape[0])]),
        ],
        axis=1,
    )
    scores = np.concatenate([fwd_scores.max(axis=1), bwd_scores.max(axis=1)])
    seen_src, seen_trg, written = set(), set(), []
    for i in np.argsort(-scores):
        src_ind, trg_ind = map(int, indices[i])
        if scores[i] < 1:
            break
        if src_ind not in seen_src and trg_ind not in seen_trg:
            seen_src.add(src_ind)
            seen_trg.add(trg_ind)
            written.append((src_ind, trg_ind))
    found = mine_bitext(x, y, retrieval="max", threshold=1)
    assert [(source, target) for source, target, _ in found] == written
    assert 60 <= len(written) < 120


@pytest.mark.parametrize(("margin", "retrieval"), EVERY)
def test_other_order_of_rows(margin: Any, retrieval: Any) -> None:
    """Where nothing ties, sentences in another order give the same pairs; the sides changed, the same the other way."""
    x, y = real(50, 60, dim=12, seed=4)
    rng = np.random.default_rng(0)
    first, second = rng.permutation(50), rng.permutation(60)
    options: dict[str, Any] = {"margin": margin, "retrieval": retrieval}
    found = mine_bitext(x, y, **options)
    moved = mine_bitext(x[first], y[second], **options)
    assert [(first[source], second[target], score) for source, target, score in moved] == triples(found)
    options["retrieval"] = {"forward": "backward", "backward": "forward"}.get(retrieval, retrieval)
    changed = mine_bitext(y, x, **options)
    assert [(source, target, score) for target, source, score in changed] == triples(found)


@pytest.mark.parametrize("retrieval", RETRIEVALS)
def test_what_each_retrieval_promises(retrieval: Any) -> None:
    x, y = real(70, 90, seed=8)
    found = mine_bitext(x, y, retrieval=retrieval)
    sources, targets = found.sources.tolist(), found.targets.tolist()
    if retrieval == "forward":
        assert sorted(sources) == list(range(70))
        assert len(set(targets)) < 70
    elif retrieval == "backward":
        assert sorted(targets) == list(range(90))
        assert len(set(sources)) < 90
    else:
        assert len(set(sources)) == len(set(targets)) == len(found)
    if retrieval == "max":
        assert set(triples(mine_bitext(x, y))) < set(triples(found))


def test_threshold_keeps_what_equals_it() -> None:
    x, y = real(40, 40, seed=2)
    found = mine_bitext(x, y)
    middle = float(found.scores[len(found) // 2])
    kept = mine_bitext(x, y, threshold=middle)
    assert triples(kept) == triples(found)[: len(found) // 2 + 1]
    assert len(mine_bitext(x, y, threshold=1e9)) == 0


def test_margins_help_where_a_target_is_near_everything() -> None:
    """A hub, the reason for margins: near to all sources, and the nearest of one that has its translation close by."""
    x = np.eye(6, 7, dtype=np.float32)
    x[:, 6] = 1.5
    y = np.concatenate(
        [x + 0.8 * np.eye(7, dtype=np.float32)[[0, 1, 2, 3, 4, 5]], x.mean(axis=0, keepdims=True)]
    )
    y[:6, 6] -= 1.2
    cosine = mine_bitext(x, y, margin="absolute", retrieval="forward")
    assert set(cosine.targets.tolist()) == {6}
    for margin in ("ratio", "distance"):
        found = mine_bitext(x, y, margin=margin, retrieval="forward")  # type: ignore[arg-type]
        assert found.targets.tolist() == found.sources.tolist() == list(range(6))


def test_duplicates_go_by_position() -> None:
    x, y = real(6, 6, seed=1)
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    for retrieval in RETRIEVALS:
        found = mine_bitext(x, y, k=12, retrieval=retrieval)  # type: ignore[arg-type]
        assert triples(found) == sorted(triples(found), key=in_order)
        if retrieval == "mutual":
            assert max(*found.sources, *found.targets) < 6
        if retrieval == "forward":
            assert found.targets.max() < 6


def test_one_row_and_none() -> None:
    x, y = real(1, 1)
    for margin, retrieval in EVERY:
        found = mine_bitext(x, y, margin=margin, retrieval=retrieval)  # type: ignore[arg-type]
        a = float(np.float32(score_matrix(x, y, "cosine")[0, 0]))
        expected = {"ratio": 1.0 if a > 0 else a / 2**-23, "distance": 0.0, "absolute": a}[margin]
        assert triples(found) == [(0, 0, pytest.approx(expected))]
        for sources, targets in ((x[:0], y), (x, y[:0]), (x[:0], y[:0])):
            empty = mine_bitext(sources, targets, margin=margin, retrieval=retrieval)  # type: ignore[arg-type]
            assert triples(empty) == []
            assert (empty.sources.dtype, empty.targets.dtype, empty.scores.dtype) == (
                *(np.int64, np.int64),
                np.float64,
            )


def test_a_pair_among_opposites_is_the_best() -> None:
    """Its mean is below 0, where a plain quotient would put it last."""
    x = np.array([[1, 0.1], [-1, 0.2], [-1, -0.2]], np.float32)
    y = np.array([[1, 0], [-0.9, 0.3], [-0.9, -0.3]], np.float32)
    found = mine_bitext(x, y, k=3)
    assert (found.sources[0], found.targets[0]) == (0, 0)
    assert found.scores[0] == pytest.approx(score_matrix(x, y, "cosine")[0, 0] / 2**-23, rel=1e-6)
    assert np.isfinite(found.scores).all()


def test_rows_of_zeros_are_no_translations() -> None:
    x, y = real(9, 9, seed=6)
    x[3] = y[5] = 0
    for margin in MARGINS:
        found = mine_bitext(x, y, margin=margin, retrieval="forward")  # type: ignore[arg-type]
        assert np.isfinite(found.scores).all()
        score = found.scores[found.sources == 3][0]
        assert score < 0 if margin == "distance" else score == 0
    assert 3 not in mine_bitext(x, y, threshold=1).sources


def test_what_a_result_shows() -> None:
    x, y = real(20, 20)
    found = mine_bitext(x, y)
    assert len(found) == len(list(found)) > 5
    first = next(iter(found))
    assert first == SentencePair(int(found.sources[0]), int(found.targets[0]), float(found.scores[0]))
    assert isinstance(first.source, int)
    assert repr(found).startswith(f"Bitext({len(found)} pairs, scores ")
    assert repr(mine_bitext(x[:0], y)) == "Bitext(0 pairs)"
    frame = found.to_pandas()
    assert list(frame.columns) == ["source", "target", "score"]
    assert [tuple(row) for row in frame.itertuples(index=False)] == triples(found)


def test_indexes_tensors_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = real(30, 30)
    expected = triples(mine_bitext(x, y))
    indexes = [ExactIndex(rows, similarity="cosine") for rows in (x, y)]
    assert triples(mine_bitext(*indexes)) == expected
    assert triples(mine_bitext(torch.from_numpy(x), indexes[1])) == expected
    assert capsys.readouterr().err == ""
    assert triples(mine_bitext(x, y, progress=True)) == expected
    assert capsys.readouterr().err.count("searching: 100%") == 2


def test_wrong_arguments() -> None:
    x, y = real(5, 5)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"k": 0}, ValueError, "k: found 0, expected at least 1"),
        ({"k": True}, TypeError, "k: found True, expected a whole number"),
        (
            {"margin": "cosine"},
            ValueError,
            "margin: found 'cosine', expected one of ratio, distance, absolute",
        ),
        ({"retrieval": "intersect"}, ValueError, "retrieval: found 'intersect', expected one of mutual"),
        ({"threshold": float("nan")}, ValueError, "threshold: found nan, expected a number"),
        ({"threshold": "1"}, TypeError, "threshold: found '1', expected a number"),
        ({"similarity": "l2"}, ValueError, "similarity: found 'l2'"),
    ]
    for options, error, match in cases:
        with pytest.raises(error, match=match):
            mine_bitext(x, y, **options)
    y[2, 1] = np.inf
    with pytest.raises(ValueError, match="targets: row 2 holds a NaN or an infinity"):
        mine_bitext(x, y)


def test_tatoeba(data_dir: Path, models_dir: Path) -> None:
    """German and English by four layers of E5: every way of mining as the oracle does it, and what mutuality is for."""
    encoder = load_encoder(models_dir / "e5-small-4L-f26k-fp16", query_prefix="query: ")
    file = data_dir / "tatoeba-v1" / "deu-eng.tsv"
    rows = [columns(where, line, ("source", "target")) for where, line in read_lines(file)][:300]
    x, y = (encoder.encode(side, "query").numpy() for side in zip(*rows, strict=True))
    right, share = {}, {}
    for margin, retrieval in EVERY:
        found = mine_bitext(x, y, margin=margin, retrieval=retrieval)  # type: ignore[arg-type]
        expected = mined(x, y, margin=margin, retrieval=retrieval)
        assert {pair[:2] for pair in found} == {pair[:2] for pair in expected}
        np.testing.assert_allclose(found.scores, [score for _, _, score in expected], rtol=1e-6)
        right[margin, retrieval] = int((found.sources == found.targets).sum())
        share[margin, retrieval] = right[margin, retrieval] / len(found)
    for margin in MARGINS:
        assert share[margin, "mutual"] > max(share[margin, "forward"], share[margin, "backward"])
    for retrieval in RETRIEVALS:
        assert right["ratio", retrieval] > right["absolute", retrieval]
