"""Pools: who is ranked where, and how the scores of several pools are cut into language pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyhbt.evaluation.evaluator import evaluate
from pyhbt.evaluation.pools import OnePass, Pool, PoolGroup, judgements_of, language_ends, means_by
from tests.evaluation.test_evaluator import embedded, uneven
from tests.toy import retrieval_set


def test_a_pool_has_the_queries_that_it_answers() -> None:
    judgements = np.array([[0, 0, 2, 3], [1, 4, 4, 0], [1, 2, 1, 1]])  # query, passage, relevance
    pool = Pool.of("aa", np.array([1, 2, 4]), judgements, np.array([True, True, True, True]))
    assert pool.queries.tolist() == [0, 2]
    assert pool.targets.tolist() == [[0, 2], [2, -1]]
    assert pool.gains.tolist() == [[1, 2], [1, 0]]
    assert (
        Pool.of("aa", np.array([1, 2, 4]), judgements, np.array([False, True, False, True])).targets.size == 0
    )


def test_blocks_are_the_language_pairs_of_the_pools() -> None:
    """Rows of two pools in one array: each block has its own queries, in order, and their ranks."""
    data = uneven(retrieval_set(9))
    langs, judgements = np.asarray(data.passage_langs), judgements_of(data)
    everyone = np.ones(len(data.query_ids), dtype=bool)
    pools = [Pool.of(lang, np.flatnonzero(langs == lang), judgements, everyone) for lang in ("aa", "cc")]
    group = PoolGroup(pools, data)
    queries, passages = map(torch.from_numpy, embedded(data))
    found = group.ranks(queries, passages)
    assert found.shape == group.gains.shape == (sum(len(pool.queries) for pool in pools), 1)
    score = 1.0 / found[:, 0]
    blocks = list(group.blocks({"x": score}))
    assert [(b.setting, b.query_lang, b.passage_lang) for b in blocks] == [
        ("monolingual" if asked == lang else "cross-lingual", asked, lang)
        for lang in ("aa", "cc")
        for asked in ("aa", "bb", "cc")
    ]
    scores = queries.double() @ passages.double().T
    for block in blocks:
        pool = np.flatnonzero(langs == block.passage_lang)
        for query, value in zip(block.queries.tolist(), block.values["x"], strict=True):
            assert data.query_langs[query] == block.query_lang
            judged = data.qrels[data.query_ids[query]]
            (wanted,) = (p for p in pool if judged.get(data.passage_ids[p], 0) > 0)
            assert value == 1 / (1 + int((scores[query, pool] > scores[query, wanted]).sum()))
        assert block.means["x"] == block.values["x"].mean()


def test_one_pass_gives_the_ranks_of_all_pools() -> None:
    """Also where some queries answer in one language alone, and passages tie over languages."""
    data = uneven(retrieval_set(9))
    langs, judgements = np.asarray(data.passage_langs), judgements_of(data)
    ends = language_ends(langs)
    assert ends is not None
    asked = np.asarray(data.query_langs) != "bb"
    single = [Pool.of(lang, np.flatnonzero(langs == lang), judgements, asked) for lang in ("aa", "bb", "cc")]
    whole = Pool.of("*", np.arange(len(langs)), judgements, np.ones(len(data.query_ids), dtype=bool))
    queries, passages = map(torch.from_numpy, embedded(data))
    passages[9:18] = passages[:9]
    group = PoolGroup(single, data)
    found, everywhere = OnePass(group, whole, ends).ranks(queries, passages)
    np.testing.assert_array_equal(found, group.ranks(queries, passages))
    np.testing.assert_array_equal(everywhere, whole.ranks(queries, passages))


def test_languages_that_do_not_lie_side_by_side() -> None:
    """Passages in another order: no one pass, the same scores."""
    assert language_ends(np.array(["aa", "bb", "aa"])) is None
    assert language_ends(np.array(["bb", "bb", "aa"])).tolist() == [2, 3]  # type: ignore[union-attr]
    data = uneven(retrieval_set(9))
    order = np.random.default_rng(0).permutation(len(data.passage_ids))
    columns = ("passage_ids", "passage_texts", "passage_langs")
    mixed = replace(data, **{c: tuple(np.asarray(getattr(data, c))[order].tolist()) for c in columns})
    queries, passages = embedded(data)
    for one, other in zip(
        evaluate(queries, passages, data).blocks,
        evaluate(queries, passages[order], mixed).blocks,
        strict=True,
    ):
        assert one.means == pytest.approx(other.means, nan_ok=True)


def test_means_leave_out_what_is_undefined() -> None:
    means = means_by(np.array([0, 0, 2, 2]), np.array([1.0, 2.0, np.nan, 5.0]), 4)
    np.testing.assert_array_equal(means, [1.5, np.nan, 5.0, np.nan])
