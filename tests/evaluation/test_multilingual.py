"""Language bias in the pool of all languages; every measure against a plain one in test_evaluator."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pyhbt.evaluation.evaluator import evaluate
from pyhbt.evaluation.names import (
    BIAS_METRICS,
    MAX_RANK,
    PEER,
    RANK_CORRELATION,
    RANK_DISTANCE,
    TOP_1_SAME_LANGUAGE,
)
from tests.evaluation.test_evaluator import embedded, random_vectors, several_relevant
from tests.toy import retrieval_set


def test_no_passage_in_the_language_of_the_query() -> None:
    """As in AfriQA: whether the first passage is in the query's language is undefined, not 0."""
    data = retrieval_set(6)
    kept = [place for place, language in enumerate(data.passage_langs) if language == "aa"]
    only = {data.passage_ids[place] for place in kept}
    pool = replace(
        data,
        passage_ids=tuple(data.passage_ids[place] for place in kept),
        passage_texts=tuple(data.passage_texts[place] for place in kept),
        passage_langs=("aa",) * len(kept),
        qrels={
            query: {passage: gain for passage, gain in judged.items() if passage in only}
            for query, judged in data.qrels.items()
        },
    )
    queries, passages = embedded(data)
    evaluation = evaluate(queries, passages[kept], pool, metrics=["mAP"])
    found = {mean.query_lang: mean.value for mean in evaluation.pair_means([TOP_1_SAME_LANGUAGE])}
    assert found == {"aa": 1.0}
    assert evaluation.macro("multilingual", TOP_1_SAME_LANGUAGE) == 1.0
    assert math.isnan(evaluation.macro("multilingual", TOP_1_SAME_LANGUAGE, "zero-shot"))


def test_language_bias_of_parallel_data() -> None:
    """One passage a language: PEER is no row at all, the others are in the multilingual setting alone."""
    data = retrieval_set(6)
    evaluation = evaluate(*embedded(data), data, metrics=["mAP"])
    named = {(mean.setting, mean.metric) for mean in evaluation.macro_means() if mean.metric != "mAP"}
    assert named == {("multilingual", metric) for metric in BIAS_METRICS if metric != PEER}
    by_lang = [mean for mean in evaluation.pair_means(BIAS_METRICS) if mean.metric == RANK_CORRELATION]
    assert [(mean.query_lang, mean.passage_lang) for mean in by_lang] == [
        (x, "*") for x in ("aa", "bb", "cc")
    ]
    assert evaluation.macro("multilingual", MAX_RANK) > evaluation.macro("multilingual", RANK_DISTANCE)
    several = several_relevant(data)
    assert 0 < evaluate(*embedded(several), several).macro("multilingual", PEER) < 1


def test_equal_vectors_in_every_language_agree() -> None:
    data = retrieval_set(30)
    vectors = np.tile(random_vectors(30, 3), (3, 1))  # by language, then item
    evaluation = evaluate(vectors, vectors, data)
    assert evaluation.macro("multilingual", RANK_CORRELATION) == pytest.approx(1)
    assert evaluation.macro("multilingual", MAX_RANK) == 3
    assert evaluation.macro("multilingual", RANK_DISTANCE) == 2
    assert evaluation.macro("multilingual", TOP_1_SAME_LANGUAGE) == pytest.approx(1 / 3)
