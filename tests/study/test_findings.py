"""The short answer: sentences that follow the numbers, and none that they do not support."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pyhbt.study.analysis import Analysis, analyse
from pyhbt.study.arms import Arm
from pyhbt.study.findings import short_answer, verdict
from tests.study.synthetic_study import SMALL, Study, write_study

CONFOUNDED = Study(ratios=(0, 0.5, 1), languages=("en", "de", "sw", "yo", "th", "zu"), confounded=True)


def told(analysis: Analysis) -> dict[str, str]:
    """Heading -> its sentences as one text."""
    return {
        finding.heading: " ".join(finding.sentences).replace("\N{NO-BREAK SPACE}", " ")
        for finding in short_answer(analysis)
    }


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(write_study(tmp_path_factory.mktemp("study"), SMALL))


def test_the_first_words_are_of_the_primary_endpoint(analysis: Analysis) -> None:
    parts = told(analysis)
    assert list(parts) == [
        "Cross-lingual recall@10",
        "What it costs",
        "By tier of languages",
        "How fast",
        "Language bias",
        "Bear in mind",
    ]
    text = parts["Cross-lingual recall@10"]
    chosen, reference = analysis.chosen, analysis.reference
    assert chosen in (Arm.parse(0.5), Arm.parse(0.75))
    assert reference == Arm.parse(0)
    mean = analysis.scores.mean(analysis.primary, chosen)
    assert text.startswith(f"Ratio {chosen}, best on the dev set, has {mean.value:.3f} (95 % interval ")
    comparison = analysis.comparison(analysis.primary)
    assert comparison is not None
    assert comparison.significant
    assert f"The difference is +{comparison.estimate.value:.3f} (95 % interval +" in text
    assert re.search(r"significant \(p [=≤] 0\.0001 of 4\)", text)
    assert "Centring alone, which costs no training, takes ratio 0 to" in text
    assert re.search(r"best between 0\.\d\d and 0\.\d\d \(95 % interval\)", text)
    assert re.search(r"stands first and ratio 0\.\d+ second", text)


def test_losses_are_told(analysis: Analysis) -> None:
    text = told(analysis)["What it costs"]
    assert re.search(r"Monolingual recall@10 goes from 0\.\d+ at ratio 0 to 0\.\d+: −0\.\d+", text)
    assert "that it loses less than 0.01 is not shown" in text
    generous = replace(analysis, margin=0.2)
    assert "it is shown to lose less than 0.2 (p ≤ 0.0001, one-sided)" in told(generous)["What it costs"]


def test_speed_counts_seeds_that_never_get_there(analysis: Analysis) -> None:
    text = told(analysis)["How fast"]
    assert re.search(r"takes \d+ steps on average to stay above 0\.\d+, 90 % of the best", text)
    assert "ratio 0 takes more than 2,000 steps" in text


def test_arms_that_never_saw_a_language_are_left_out(tmp_path: Path) -> None:
    analysis = analyse(write_study(tmp_path, CONFOUNDED))
    parts = told(analysis)
    assert analysis.reference == Arm.parse(0.5)
    assert "ratio 0" not in re.sub(r"ratio 0\.5", "", parts["Cross-lingual recall@10"]).replace(
        "ratio 0.", ""
    )
    assert (
        "not compared with the others, for what they saw: ratio 0 (sw, yo unseen by this arm)"
        in (parts["By tier of languages"])
    )


def test_nothing_is_significant_with_two_seeds(tmp_path: Path) -> None:
    analysis = analyse(write_study(tmp_path, Study(seeds=(0, 1), languages=("en", "de", "ar"))))
    parts = told(analysis)
    text = " ".join(parts.values())
    assert not re.search(r"(?<!called )significant(?! with fewer)", text.replace("not significantly", ""))
    assert "not tested: 2 seeds, 3 are needed" in text
    assert "2 seeds were run: nothing is called significant with fewer than 3" in parts["Bear in mind"]


def test_one_seed_has_no_intervals(tmp_path: Path) -> None:
    analysis = analyse(write_study(tmp_path, Study(seeds=(4,), languages=("en", "de", "ar"))))
    text = " ".join(told(analysis).values())
    assert "interval" not in text.replace("Tests and intervals", "")
    assert "One seed was run" in text


def test_one_arm_and_none(tmp_path: Path) -> None:
    one = told(analyse(write_study(tmp_path / "one", Study(ratios=(0.5,), languages=("en", "de")))))
    assert "no other arm can be compared with it" in one["Cross-lingual recall@10"]
    (tmp_path / "results.jsonl").write_text("")
    assert told(analyse(tmp_path)) == {"No figures yet": "No cell has final figures."}
    running = Study(ratios=(0,), seeds=(0, 1), languages=("en", "de"), unfinished=[(0, 0), (0, 1)])
    assert list(told(analyse(write_study(tmp_path / "running", running)))) == ["No figures yet"]


def test_missing_cells_are_told(tmp_path: Path) -> None:
    shape = Study(ratios=(0, 1), languages=("en", "de"), unfinished=[(1, 0)])
    analysis = analyse(write_study(tmp_path, shape))
    assert "Only 5 of 6 cells (an arm and a seed) have final figures." in told(analysis)["Bear in mind"]


def test_a_verdict_is_the_tested_difference(analysis: Analysis) -> None:
    for comparison in analysis.comparisons.all[:20]:
        text = verdict(comparison)
        assert ("not significant" in text) == (not comparison.significant)
        assert text.split(" ")[0].replace("−", "-").replace(",", "") in (
            f"{comparison.estimate.value:+.3f}",
            f"{comparison.estimate.value:+.1f}",
            "0.000",
        )
