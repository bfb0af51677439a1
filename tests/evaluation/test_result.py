"""Means over language pairs and tiers, and what each cluster of queries moves them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pyhbt.evaluation.evaluator import evaluate
from pyhbt.evaluation.result import Evaluation
from tests.evaluation.test_evaluator import METRICS, embedded
from tests.toy import retrieval_set


def test_tiers_are_those_of_the_scarcer_language() -> None:
    data = retrieval_set(4)
    evaluation = evaluate(*embedded(data), data, metrics=METRICS)
    tiers = {(b.query_lang, b.passage_lang): b.tier for b in evaluation.blocks}
    assert tiers["aa", "bb"] == "seen"
    assert tiers["aa", "cc"] == tiers["cc", "bb"] == tiers["cc", "cc"] == tiers["cc", "*"] == "zero-shot"
    assert tiers["aa", "*"] == "seen"
    seen = evaluation.macro("cross-lingual", "mAP", "seen")
    expected = [b.means["mAP"] for b in evaluation.blocks if {b.query_lang, b.passage_lang} == {"aa", "bb"}]
    assert seen == pytest.approx(np.mean(expected))
    assert np.isnan(evaluation.macro("cross-lingual", "mAP", "low-resource"))
    assert {mean.tier for mean in evaluation.macro_means()} == {"all", "seen", "zero-shot"}
    assert all(mean.query_lang != "*" for mean in evaluation.pair_means(["mAP"]))


def slow_influences(evaluation: Evaluation, setting: str, tier: str, metric: str) -> dict[str, float]:
    """Query by query."""
    chosen = [b for b in evaluation.blocks if b.setting == setting and tier in ("all", b.tier)]
    chosen = [block for block in chosen if not math.isnan(block.means[metric])]
    moved = dict.fromkeys(evaluation.data.cluster_names, 0.0)
    for block in chosen:
        defined = [value for value in block.values[metric] if not math.isnan(value)]
        for query, value in zip(block.queries, block.values[metric], strict=True):
            if not math.isnan(value):
                cluster = evaluation.data.cluster_names[query]
                moved[cluster] += (value - sum(defined) / len(defined)) / (len(chosen) * len(defined))
    return moved


@pytest.mark.parametrize("clusters", [1, 2, 5])
def test_influences_are_those_of_the_queries(clusters: int) -> None:
    data = retrieval_set(10)
    if clusters > 1:
        data = replace(data, clusters=tuple(f"c{int(name[4:]) % clusters}" for name in data.questions))
    evaluation = evaluate(*embedded(data), data, metrics=METRICS)
    names, influences = evaluation.influences()
    assert names == tuple(dict.fromkeys(data.cluster_names))
    with_means = {f"{mean.setting}/{mean.tier}/{mean.metric}" for mean in evaluation.macro_means()}
    assert influences.keys() == with_means
    for key, moved in influences.items():
        setting, tier, metric = key.split("/")
        slow = slow_influences(evaluation, setting, tier, metric)
        np.testing.assert_allclose(moved, [slow[name] for name in names], atol=1e-12)
        assert abs(moved.sum()) < 1e-9
    some = evaluation.influences(["mAP"])[1]
    assert some.keys() == {key for key in influences if key.endswith("/mAP")}


def test_an_influence_is_what_a_macro_mean_loses_without_a_cluster() -> None:
    """To first order: leaving a question out moves the mean by about its influence."""
    data = retrieval_set(40)
    queries, passages = embedded(data)
    evaluation = evaluate(queries, passages, data, metrics=["mAP"])
    names, influences = evaluation.influences()
    for name in names[:5]:
        kept = [place for place, question in enumerate(data.questions) if question != name]
        without = replace(
            data,
            **{
                column: tuple(getattr(data, column)[place] for place in kept)
                for column in ("query_ids", "query_texts", "query_langs", "questions")
            },
            qrels={data.query_ids[place]: data.qrels[data.query_ids[place]] for place in kept},
        )
        left = evaluate(queries[kept], passages, without, metrics=["mAP"])
        for setting in ("monolingual", "cross-lingual"):
            lost = evaluation.macro(setting, "mAP") - left.macro(setting, "mAP")  # type: ignore[arg-type]
            moved = influences[f"{setting}/all/mAP"][names.index(name)]
            assert lost == pytest.approx(moved * 40 / 39, abs=1e-9)


@pytest.mark.parametrize(
    ("setting", "metric", "tier", "message"),
    [
        ("multi", "mAP", "all", "setting: found 'multi', expected one of monolingual"),
        ("multilingual", "map", "all", "metric: found 'map', expected one of mAP"),
        ("multilingual", "mAP", "rare", "tier: found 'rare', expected one of all"),
    ],
)
def test_means_of_unknown_names_are_refused(setting: str, metric: str, tier: str, message: str) -> None:
    data = retrieval_set(4)
    with pytest.raises(ValueError, match=message):
        evaluate(*embedded(data), data, metrics=METRICS).macro(setting, metric, tier)  # type: ignore[arg-type]


def test_an_evaluation_is_shown_in_few_words_and_as_tables() -> None:
    data = replace(retrieval_set(40), name="<b>toy")
    evaluation = evaluate(*embedded(data), data, metrics=METRICS)
    assert len(repr(evaluation)) < 500
    assert "multilingual mAP" in repr(evaluation)
    assert len(repr(evaluation.blocks[0])) < 1000
    assert "<b>" not in evaluation._repr_html_()
    frame = evaluation.to_pandas()
    assert list(frame.columns) == ["setting", "query_lang", "passage_lang", "tier", "metric", "value"]
    assert len(frame) == len([*evaluation.macro_means(), *evaluation.pair_means()])
    empty = replace(evaluation, blocks=())
    assert empty.to_pandas().empty
    assert empty._repr_html_()
    assert len(repr(empty)) < 500
