"""What arms saw, and which of them may be compared."""

from __future__ import annotations

from pathlib import Path

from pyhbt.study.analysis import analyse
from pyhbt.study.arms import Arm
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.results import Results, load_results
from pyhbt.study.seen import Exposures, Seen, load_exposures
from tests.study.synthetic_study import Study, rows, write_study

CONFOUNDED = Study(ratios=(0, 0.5, 1), languages=("en", "de", "sw", "yo", "th", "zu"), confounded=True)
ZERO, HALF, ONE = map(Arm.parse, (0, 0.5, 1))


def test_languages_by_role() -> None:
    seen = Seen(frozenset({"en", "sw"}), frozenset({"en"}))
    assert seen.languages == {"en", "sw"}
    assert seen.unseen(["en", "yo"], ["en"]) == ["yo unseen by this arm"]
    assert seen.unseen(["sw"], ["sw"]) == ["sw never drawn as passages by this arm"]
    assert seen.unseen(["en"], ["en"]) == []


def test_arms_of_equal_exposure(tmp_path: Path) -> None:
    folder = write_study(tmp_path, CONFOUNDED)
    results = load_results(folder)
    exposures = load_exposures(folder, results)
    zero = exposures.seen(ZERO)
    assert zero is not None
    assert zero.languages == {"en", "de"}
    for tier, comparable in (
        ("seen", [ZERO, HALF, ONE]),
        ("low-resource", [HALF, ONE]),
        ("all", [HALF, ONE]),
    ):
        endpoint = EndpointName("cross-lingual", "mAP", tier)
        assert exposures.comparable(endpoint, [ZERO, HALF, ONE]) == comparable, tier
    zero_shot = EndpointName("cross-lingual", "mAP", "zero-shot")
    assert exposures.unseen(zero_shot, HALF) == []  # no arm drew them
    low = EndpointName("cross-lingual", "mAP", "low-resource")
    assert exposures.unseen(low, ZERO) == ["sw, yo unseen by this arm"]
    pairs = exposures.pairs_of(low)
    assert {language for pair in pairs for language in pair} == {"en", "de", "sw", "yo"}
    assert all({"sw", "yo"} & set(pair) for pair in pairs)


def test_studies_that_do_not_say_are_taken_as_equal() -> None:
    exposures = Exposures(Results.from_rows(rows(CONFOUNDED)), {})
    endpoint = EndpointName("multilingual", "mAP")
    assert exposures.seen(ZERO) is None
    assert exposures.same(endpoint, ZERO, ONE)
    assert exposures.comparable(endpoint, [ZERO, ONE]) == [ZERO, ONE]
    assert exposures.comparable(endpoint, []) == []
    assert exposures.unseen(endpoint, ZERO) == []


def test_arms_of_other_steps_are_not_compared(tmp_path: Path) -> None:
    """Twice the steps are other means, whatever they saw; the schedule of the learning rate is not."""
    arms = ("0.5", "1", "0.5+steps=99", "0.5+lr-scheduler-type=constant")
    folder = write_study(tmp_path, Study(ratios=arms, languages=("en", "de")))
    analysis = analyse(folder)
    half, one, longer, constant = map(Arm.parse, arms)
    endpoint = EndpointName("monolingual", "mAP")
    exposures = analysis.exposures
    assert exposures.comparable(endpoint, [half, one, longer, constant]) == [half, one, constant]
    assert exposures.unseen(endpoint, longer) == ["trained for 99 steps"]
    assert exposures.unseen(endpoint, constant) == []
    assert analysis.chosen != longer
    assert not any(comparison.tested for comparison in analysis.comparisons.all if comparison.arm == longer)
