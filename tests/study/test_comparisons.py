"""Comparisons of arms: what is tested, corrected, marked and left out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pyhbt.study.analysis import Analysis, analyse
from pyhbt.study.arms import Arm
from pyhbt.study.comparisons import compare_arms, compared_endpoints
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.statistics.multiple import holm
from tests.study.synthetic_study import SMALL, Study, write_study

PRIMARY = EndpointName("cross-lingual", "recall@10")


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(write_study(tmp_path_factory.mktemp("study"), SMALL))


def test_the_primary_family_is_corrected_after_holm(analysis: Analysis) -> None:
    found = [one for one in analysis.comparisons.all if one.primary]
    assert [one.arm for one in found] == list(analysis.scores.arms[1:])
    assert {one.reference for one in found} == {analysis.scores.arms[0]}
    np.testing.assert_allclose([c.adjusted for c in found], holm([c.estimate.p_value() for c in found]))
    assert {one.family for one in found} == {4}
    for one in found:
        assert one.estimate == analysis.scores.difference(PRIMARY, one.reference, one.arm)


def test_all_others_share_one_false_discovery_rate(analysis: Analysis) -> None:
    found = [one for one in analysis.comparisons.all if not one.primary]
    assert len({one.endpoint for one in found}) == len(compared_endpoints(analysis.scores, PRIMARY)) - 1
    raw = np.array([one.estimate.p_value() for one in found])
    np.testing.assert_allclose([c.adjusted for c in found], stats.false_discovery_control(raw, method="bh"))
    assert {one.family for one in found} == {len(found)}


def test_endpoints_of_the_same_pairs_are_one_hypothesis(tmp_path: Path) -> None:
    """Without scarce languages "all" and "seen" are the same; counted twice, p would double."""
    shape = Study(ratios=(0, 1), languages=("en", "de", "ar"), tiers=("seen",), metrics=("mAP",), bias=())
    analysis = analyse(write_study(tmp_path, shape))
    assert analysis.primary == EndpointName("cross-lingual", "mAP")
    found = [one for one in analysis.comparisons.all if not one.primary]
    everywhere = {one.endpoint._replace(tier=""): set() for one in found}
    for one in found:
        everywhere[one.endpoint._replace(tier="")].add(one.adjusted)
    assert all(len(adjusted) == 1 for adjusted in everywhere.values())
    assert {one.family for one in found} == {len(everywhere)}


def test_fewer_than_three_seeds_are_not_tested(tmp_path: Path) -> None:
    shape = Study(ratios=(0, 1), seeds=(0, 1), languages=("en", "de"))
    found = analyse(write_study(tmp_path, shape)).comparisons.all
    assert found
    assert not any(one.tested or one.significant for one in found)
    assert all(math.isnan(one.adjusted) for one in found)


def test_arms_that_saw_other_languages_are_marked_and_not_tested(tmp_path: Path) -> None:
    shape = Study(ratios=(0, 0.5, 1), languages=("en", "de", "sw", "yo", "th", "zu"), confounded=True)
    analysis = analyse(write_study(tmp_path, shape))
    low = EndpointName("cross-lingual", "recall@10", "low-resource")
    arms = [Arm.parse(ratio) for ratio in (0, 0.5, 1)]
    assert analysis.exposures.comparable(low, arms) == arms[1:]
    marked = [one for one in analysis.comparisons.all if one.endpoint == low]
    assert {(one.arm, one.same_exposure, one.tested) for one in marked} == {
        (arms[0], False, False),
        (arms[2], True, True),
    }
    assert {one.reference for one in marked} == {arms[1]}
    assert analysis.comparisons.find(low, arms[0]) in marked
    assert analysis.comparisons.find(low, arms[1]) is None


def test_one_arm_is_compared_with_none(tmp_path: Path) -> None:
    analysis = analyse(write_study(tmp_path, Study(ratios=(0,), languages=("en", "de"))))
    assert compare_arms(analysis.scores, analysis.exposures, PRIMARY).all == ()
