"""Names that evaluation writes and the report reads: consistent with one another and with what is measured."""

from __future__ import annotations

from typing import get_args

import pytest

from pyhbt.data.tiers import TIERS
from pyhbt.evaluation import names
from pyhbt.evaluation.centring import CENTRINGS, DESCRIPTION
from pyhbt.evaluation.evaluator import evaluate
from pyhbt.evaluation.metrics import measure
from tests.evaluation.test_evaluator import embedded
from tests.toy import retrieval_set


def test_settings_are_those_of_the_type() -> None:
    assert names.SETTINGS == ("monolingual", "cross-lingual", "multilingual")
    assert (*names.SETTINGS, names.TWO_LANGUAGE) == names.ALL_SETTINGS == get_args(names.Setting)


def test_tiers_of_means_are_those_of_languages_and_all() -> None:
    assert ("all", *TIERS) == names.ALL_TIERS
    assert names.ALL_LANGUAGES not in ("", *TIERS, "all")


def test_every_default_measure_exists() -> None:
    assert len(set(names.DEFAULT_METRICS)) == len(names.DEFAULT_METRICS)
    for metric in names.DEFAULT_METRICS:
        assert callable(measure(metric))


@pytest.mark.parametrize("form", names.METRICS_HELP.removesuffix(".").split(": ")[1].split(", "))
def test_every_measure_of_the_help_exists(form: str) -> None:
    assert callable(measure(form.replace("@k", "@3")))


@pytest.mark.parametrize("metric", names.BIAS_METRICS)
def test_measures_of_bias_are_none_of_quality(metric: str) -> None:
    with pytest.raises(ValueError, match="metric: found"):
        measure(metric)


def test_measures_of_bias_are_all_that_an_evaluation_adds() -> None:
    assert len(set(names.BIAS_METRICS)) == len(names.BIAS_METRICS) == 12
    assert set(names.RANK_METRICS) < set(names.BIAS_METRICS)
    assert set(names.PREFERENCE_METRICS) < set(names.BIAS_METRICS)
    assert {*names.LOWER_IS_BETTER, *names.HIGHER_IS_BETTER} < set(names.BIAS_METRICS)
    assert f"MRC@{names.RANK_CORRELATION_CUTOFF}" == names.RANK_CORRELATION
    assert f"PEER@{names.PEER_CUTOFF}" == names.PEER
    data = retrieval_set(4)
    found = evaluate(*embedded(data), data, metrics=("mAP",))
    by_setting = {block.setting: set(block.values) for block in found.blocks}
    assert by_setting == {
        "monolingual": {"mAP"},
        "cross-lingual": {"mAP"},
        "multilingual": {"mAP", *names.BIAS_METRICS},
    }
    pools = {block.passage_lang for block in found.blocks if block.setting == "multilingual"}
    assert pools == {names.ALL_LANGUAGES}


def test_a_study_gives_every_figure_plain_first() -> None:
    assert names.STUDY_CENTRINGS == ("none", "both")
    assert set(names.STUDY_CENTRINGS) <= set(CENTRINGS) == set(DESCRIPTION)
