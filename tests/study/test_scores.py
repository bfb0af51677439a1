"""Scores by endpoint: aligned by arm, seed and cluster, and contrasts of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyhbt.study.arms import Arm
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.results import Results, load_results
from pyhbt.study.scores import Scores, load_scores
from tests.study.synthetic_study import SMALL, Study, rows, write_study

PRIMARY = EndpointName("cross-lingual", "recall@10")
LOW, HIGH = map(Arm.parse, (0, 1))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), SMALL)


def test_means_are_those_of_the_rows(study: Path) -> None:
    results = load_results(study)
    scores = load_scores(study, results)
    assert scores.arms == tuple(results.arms)
    assert scores.seeds == (0, 1, 2)
    assert scores.splits == ["test"]
    for endpoint in (PRIMARY, PRIMARY._replace(tier="zero-shot", centring="both")):
        rows_of = results.macro(
            split="test",
            setting=endpoint.setting,
            metric=endpoint.metric,
            tier=endpoint.tier,
            centring=endpoint.centring,
        )
        for place, arm in enumerate(scores.arms):
            found = scores.of(endpoint).means[place]
            assert found.tolist() == list(rows_of.by_seed(arm=arm).values())
            assert scores.mean(endpoint, arm).value == pytest.approx(found.mean())
    difference = scores.difference(PRIMARY, LOW, HIGH)
    assert difference.value == pytest.approx(
        scores.mean(PRIMARY, HIGH).value - scores.mean(PRIMARY, LOW).value
    )
    assert (difference.seeds, difference.clusters) == (3, SMALL.units)
    assert scores.tiers("cross-lingual", "mAP") == {"all", "seen", "low-resource", "zero-shot"}


def test_missing_cells_and_endpoints(tmp_path: Path) -> None:
    shape = Study(ratios=(0, 1), seeds=(0, 1), languages=("en", "de"), unfinished=[(1, 0)])
    folder = write_study(tmp_path, shape)
    scores = load_scores(folder, load_results(folder))
    assert np.isnan(scores.of(PRIMARY).means).tolist() == [[False, False], [True, False]]
    assert scores.difference(PRIMARY, LOW, HIGH).seeds == 1
    unknown = EndpointName("cross-lingual", "nDCG@3")
    assert scores.measured(unknown) == []
    assert scores.best(unknown, scores.arms) is None
    assert np.isnan(scores.mean(unknown, LOW).value)


def test_without_influences_means_stay() -> None:
    results = Results.from_rows(rows(Study(ratios=(0, 1), languages=("en", "de"))))
    scores = Scores(results, {})
    assert scores.of(PRIMARY).influences.shape == (2, 3, 0)
    assert scores.difference(PRIMARY, LOW, HIGH).clusters == 0
    assert not np.isnan(scores.of(PRIMARY).means).any()


def test_the_best_is_the_first_of_equals() -> None:
    flat = [{**row, "value": 0.5} for row in rows(Study(ratios=(0, 1), languages=("en", "de"), bias=()))]
    scores = Scores(Results.from_rows(flat), {})
    assert scores.best(PRIMARY, scores.arms) == LOW
    assert scores.best(PRIMARY, [HIGH]) == HIGH
    assert scores.best(PRIMARY, scores.arms, lowest=True) == LOW
