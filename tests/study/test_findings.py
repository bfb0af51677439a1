"""What a study found: comparisons of arms, convergence, figures in print, and the sentences made of them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.evaluation.names import MAX_RANK, RANK_CORRELATION, RANK_DISTANCE, TOP_1_SAME_LANGUAGE
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.findings import (
    LEVEL,
    Comparison,
    best_arm,
    compare_arms,
    compared_pairs,
    convergence,
    final_interval,
    headline_metrics,
    mean_steps,
    number,
    p_text,
    short_answer,
    signed,
)
from pyhbt.study.results import Results, UnitScores, load_results, load_unit_scores
from pyhbt.study.statistics import holm, randomisation_test, seed_interval, steps_to_reach
from tests.study.synthetic_study import SMALL, Study, rows, write_study

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), SMALL)


@pytest.fixture(scope="module")
def results(study: Path) -> Results:
    return load_results(study)


@pytest.fixture(scope="module")
def scores(study: Path) -> UnitScores:
    return load_unit_scores(study)


def sentences(results: Results, scores: UnitScores | None = None) -> str:
    comparisons = compare_arms(results, scores, headline_metrics(results)) if scores else []
    text = " ".join(s for finding in short_answer(results, comparisons) for s in finding.sentences)
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_comparisons_equal_single_tests(results: Results, scores: UnitScores) -> None:
    low, middle, high = map(Arm.parse, (0.25, 0.5, 1))
    assert compared_pairs([low, middle, high]) == [(low, middle), (low, high), (middle, high)]
    found = [
        c
        for c in compare_arms(results, scores, ["mAP"])
        if (c.centring, c.setting) == ("none", "multilingual")
    ]
    assert len(found) == 4 * 7
    assert {c.family for c in found} == {28}
    np.testing.assert_array_equal([c.adjusted for c in found], holm([c.p for c in found]))
    one = next(c for c in found if (c.tier, c.first, c.second) == ("zero-shot", low, middle))
    before, after = (scores.seed_mean(r, "none/multilingual/zero-shot/mAP") for r in (low, middle))
    assert one.p == randomisation_test(before, after)
    assert one.difference == pytest.approx(np.nanmean(after - before))
    assert one.units == np.count_nonzero(~np.isnan(after - before))


def test_convergence_uses_one_target(results: Results) -> None:
    where = {"setting": "cross-lingual", "tier": "all", "metric": "recall@10"}
    found = convergence(results, **where)
    curves = {r: results.macro(**where, centring="none", arm=r).curves() for r in results.arms}
    best = max(np.mean([values[-1] for _, values in by_seed.values()]) for by_seed in curves.values())
    assert {c.target for c in found.values()} == {0.9 * best}
    for arm, by_seed in curves.items():
        assert found[arm].to_target == tuple(steps_to_reach(*curve, 0.9 * best) for curve in by_seed.values())
    assert found[Arm.parse(0)].to_target == (None, None, None)
    assert None not in found[Arm.parse(0)].to_own


def test_short_answer_tells_the_bias_that_was_measured(results: Results) -> None:
    told = "In the multilingual setting the rank distance between translations goes from "
    text = sentences(results)
    assert told in text
    assert re.search(r"own language goes from \S+ to \S+ and the rank correlation .* from −0\.\d+ to", text)
    old = Study(ratios=(0, 0.5), languages=("en", "de"), bias=(RANK_DISTANCE, TOP_1_SAME_LANGUAGE))
    text = sentences(Results.from_rows(rows(old)))
    assert re.search(f"{told}[0-9.]+ to [0-9.]+ and the share of first passages", text)
    assert "rank correlation" not in text
    none = Study(ratios=(0, 0.5), languages=("en", "de"), bias=(MAX_RANK,))
    assert "In the multilingual setting" not in sentences(Results.from_rows(rows(none)))


def test_figures_in_print() -> None:
    assert number(-0.0004, RANK_CORRELATION) == "0.000"
    assert number(-0.64, RANK_CORRELATION) == "−0.640"
    assert number(1220.43, MAX_RANK) == "1,220.4"
    assert number(float("nan"), MAX_RANK) == "–"


def test_short_answer_follows_the_numbers(results: Results, scores: UnitScores) -> None:
    text = sentences(results, scores)
    best = best_arm(results, "cross-lingual", "all", "recall@10")
    assert best in (Arm.parse(0.5), Arm.parse(0.75))
    assert f"Ratio {best} has the best cross-lingual recall@10" in text
    assert "95 % interval over 3 seeds" in text
    assert "ratio 0 never reaches it" in text
    assert "Centring alone takes ratio 0 from" in text
    verdicts = re.findall(r"(not significant|significant) \(Holm-adjusted p (<|=) ([\d.]+)", text)
    assert len(verdicts) == 3 * 4
    for verdict, _, p in verdicts:
        assert (verdict == "significant") == (float(p) < LEVEL)


def test_nothing_is_significant_without_a_test(results: Results) -> None:
    text = sentences(results)
    assert "significant" not in text
    assert "The difference is not tested" in text


def test_gain_that_centring_gives_for_nothing() -> None:
    kept = []
    for row in rows(Study(ratios=(0, 0.5), seeds=(0,), languages=("en", "de", "ar"))):
        level = 0.4 if row["centring"] == "none" and row["arm"] == "0" else 0.6
        kept.append({**row, "value": level} if row["metric"] == "recall@10" else row)
    text = sentences(Results.from_rows(kept))
    assert "ratio 0.5 is not ahead (0.000), so its gain is one that centring gives for nothing" in text


def test_reference_may_be_best() -> None:
    shape = Study(ratios=(0, 0.5), seeds=(0,), languages=("en", "de"), bias=(RANK_DISTANCE,))
    flat = [{**row, "value": 0.5} for row in rows(shape)]
    text = sentences(Results.from_rows(flat))
    assert "Ratio 0 has the best cross-lingual recall@10: 0.500 (one seed); no other arm does better." in text


def test_differences_and_p_values_in_print() -> None:
    assert [signed(value) for value in (0.0123, -0.0126, 0.0004, -0.0004, 1)] == [
        "+0.012",
        "−0.013",
        "0.000",
        "0.000",
        "+1.000",
    ]
    assert signed(math.nan) == number(math.nan) == "–"
    assert p_text(0.00099).replace("\N{NO-BREAK SPACE}", " ") == "p < 0.001"
    assert p_text(0.001).replace("\N{NO-BREAK SPACE}", " ") == "p = 0.001"
    assert p_text(1.0).replace("\N{NO-BREAK SPACE}", " ") == "p = 1.000"


@given(st.floats(-100, 100))
def test_figures_are_the_nearest_of_three_decimals(value: float) -> None:
    for printed in (number(value), signed(value)):
        assert float(printed.replace("−", "-")) == pytest.approx(value, abs=0.0005 + 1e-9)
        assert printed.lstrip("+−") != "0.000" or printed == "0.000"  # nothing has no sign
        assert "-" not in printed


def test_mean_steps_are_over_the_seeds_that_got_there() -> None:
    assert mean_steps([100.0, None, 200.0]) == 150.0
    assert math.isnan(mean_steps([None]))
    assert math.isnan(mean_steps([]))


@pytest.mark.parametrize(("adjusted", "outcome"), [(0.0499, "significant"), (0.05, "not significant")])
def test_significant_is_below_the_level_after_holm(adjusted: float, outcome: str) -> None:
    zero, half = map(Arm.parse, (0, 0.5))
    one = Comparison("none", "multilingual", "all", "mAP", zero, half, 1234, -0.02, 0.001, adjusted, 4)
    assert one.verdict.replace("\N{NO-BREAK SPACE}", " ") == (
        f"−0.020 over questions, {outcome} (Holm-adjusted p = 0.050, 1,234 questions)"
    )


def test_pairs_are_against_the_first_and_the_one_before() -> None:
    arms = [Arm.parse(ratio) for ratio in (0, 0.25, 0.5, "linear:0:1")]
    assert compared_pairs(arms[:1]) == []
    assert compared_pairs(arms[:2]) == [(arms[0], arms[1])]
    found = compared_pairs(arms)
    assert len(found) == len(set(found)) == 2 * 3 - 1
    assert set(found) == {(arms[0], arm) for arm in arms[1:]} | {(arms[1], arms[2]), (arms[2], arms[3])}


def scored(**cells: list[float]) -> UnitScores:
    """Scores of cells named ``a0s1``: arm 0, seed 1; one measure."""
    known = {
        Cell(Arm.parse(float(name[1:].split("s")[0]) / 10), int(name.split("s")[1])): {
            "none/multilingual/all/mAP": np.array(values)
        }
        for name, values in cells.items()
    }
    return UnitScores(tuple(f"question {number}" for number in range(4)), known)


def test_comparisons_average_seeds_and_leave_out_what_is_not_known() -> None:
    shape = Study(ratios=(0, 0.5), seeds=(0, 1), languages=("en", "de"), steps=(0,), metrics=("mAP",))
    results = Results.from_rows(rows(shape))
    nan = math.nan
    scores = scored(a0s0=[0, 0, 1, nan], a0s1=[1, 0, 1, 0], a5s0=[1, nan, 1, 1], a5s1=[1, 1, 1, 1])
    (one,) = compare_arms(results, scores, ["mAP"])
    assert (one.first, one.second) == (Arm.parse(0), Arm.parse(0.5))
    assert (one.units, one.difference, one.family) == (2, 0.25, 1)  # question 0: 1 - 0.5, question 2: 1 - 1
    assert one.p == one.adjusted == randomisation_test([0.5, 1.0], [1.0, 1.0])
    assert compare_arms(results, scores, ["recall@10"]) == []
    alone = Results.from_rows(rows(Study(ratios=(0,), languages=("en", "de"), steps=(0,))))
    assert compare_arms(alone, scores, ["mAP"]) == []


def only(study: Study, values: dict[tuple[str, str, int], float], metric: str = "recall@10") -> Results:
    """Rows of one metric, final values given by (arm, tier, seed)."""
    kept = []
    for row in rows(study):
        if row["metric"] == metric and row["split"] == "test":
            key = (row["arm"], row["tier"], row["seed"])
            if key in values:
                kept.append({**row, "value": values[key]})
    return Results.from_rows(kept)


def test_the_best_arm_is_the_first_of_equals() -> None:
    shape = Study(ratios=(0, 0.5, 1), seeds=(0, 1), languages=("en", "de"), tiers=("seen",), steps=(0,))
    values = {("0", "all", 0): 0.2, ("0", "all", 1): 0.6, ("0.5", "all", 0): 0.5, ("0.5", "all", 1): 0.3}
    results = only(shape, values)
    where = ("cross-lingual", "all", "recall@10")
    assert best_arm(results, *where) == Arm.parse(0)  # 0.4 both
    assert best_arm(only(shape, values | {("1", "all", 0): 0.41}), *where) == Arm.parse(1)
    assert best_arm(results, "cross-lingual", "zero-shot", "recall@10") is None
    interval = final_interval(
        results, Arm.parse(0), setting="cross-lingual", tier="all", metric="recall@10", centring="none"
    )
    assert interval == seed_interval([0.2, 0.6])
    assert interval.mean == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("metrics", "headline"),
    [
        (("mAP", "recall@10", "MRR@10"), ["recall@10", "mAP"]),
        (("mAP", "MRR@10"), ["mAP"]),
        (("MRR@10", "nDCG@10", "recall@1"), ["MRR@10", "nDCG@10"]),
        ((), []),
    ],
)
def test_headline_metrics(metrics: tuple[str, ...], headline: list[str]) -> None:
    shape = Study(ratios=(0,), seeds=(0,), languages=("en", "de"), steps=(0,), metrics=metrics)
    assert headline_metrics(Results.from_rows(rows(shape))) == headline


def test_without_figures_there_is_no_answer() -> None:
    assert [finding.heading for finding in short_answer(Results.from_rows([]), [])] == ["No figures yet"]
    running = Study(ratios=(0,), seeds=(0, 1), languages=("en", "de"), unfinished=[(0, 0), (0, 1)])
    found = short_answer(Results.from_rows(rows(running)), [])
    assert [finding.heading for finding in found] == ["No answer yet", "Bear in mind"]
    assert "Only 0 of 2 cells (an arm and a seed) have final figures." in found[1].sentences


def test_what_to_bear_in_mind(results: Results, scores: UnitScores) -> None:
    tested = short_answer(results, compare_arms(results, scores, ["recall@10"]))[-1]
    assert tested.heading == "Bear in mind"
    assert any("would hold for other queries" in sentence for sentence in tested.sentences)
    untested = short_answer(results, [])[-1].sentences
    assert set(tested.sentences) - set(untested) == {
        sentence for sentence in tested.sentences if "would hold for other queries" in sentence
    }
    one = Results.from_rows(rows(Study(ratios=(0, 1), seeds=(3,), languages=("en", "de"))))
    assert any("Only one seed was run" in sentence for sentence in short_answer(one, [])[-1].sentences)
    assert short_answer(results, [])[0].heading == "All languages"
    assert [finding.heading for finding in short_answer(results, [])[1:-1]] == [
        "Seen languages",
        "Low-resource languages",
        "Zero-shot languages",
    ]


def test_convergence_needs_curves() -> None:
    where: dict[str, Any] = {"setting": "cross-lingual", "tier": "all", "metric": "recall@10"}
    shape = Study(ratios=(0, 0.5), seeds=(0, 1), languages=("en", "de"), steps=(0, 100))
    finals = Results.from_rows(row for row in rows(shape) if row["split"] == "test")
    assert convergence(finals, **where) == {}
    level = {("0", 0): 0.4, ("0", 1): 0.6, ("0.5", 0): 1.0, ("0.5", 1): 0.8}
    curves = [
        {**row, "value": level[row["arm"], row["seed"]] * row["step"] / 100}
        for row in rows(shape)
        if row["split"] == "dev" and row["metric"] == "recall@10"
    ]
    found = convergence(Results.from_rows(curves), **where)
    best = found[Arm.parse(0.5)]
    assert best.target == pytest.approx(0.9 * 0.9)  # the means of final values are 0.5 and 0.9
    assert best.to_target == (pytest.approx(81.0), None)
    assert best.to_own == pytest.approx((90.0, 90.0))
    assert found[Arm.parse(0)].to_target == (None, None)
    assert found[Arm.parse(0)].area.mean == pytest.approx((0.2 + 0.3) / 2 / 0.9)
