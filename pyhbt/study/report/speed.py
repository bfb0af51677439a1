"""Tables of convergence: restricted mean times to common targets, and areas under learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pyhbt.evaluation.names import ALL_TIERS, SETTINGS
from pyhbt.study.analysis import Analysis
from pyhbt.study.arms import Arm
from pyhbt.study.comparisons import SEEDS_TESTED
from pyhbt.study.convergence import AXES, SHARE, SHARES, Convergence, Times, convergence
from pyhbt.study.report.tables import Cell, Row, Table, spans_of
from pyhbt.study.results import Results
from pyhbt.study.statistics.contrasts import seed_interval
from pyhbt.study.statistics.convergence import compare_times, restricted_mean
from pyhbt.study.words import NONE, number, p_text, percent


def speed_table(analysis: Analysis, metric: str) -> Table | None:
    """Steps to the target that is told in words, and areas, in every setting and tier; None without curves."""
    columns = _curve_columns(analysis.macro, metric)
    if not columns:
        return None
    found = [convergence(analysis.macro, setting, tier, metric) for setting, tier in columns]
    targets = tuple(Cell(number(column.target) if column else NONE) for column in found)
    body = [Row("target", f"{percent(SHARE)} of best", targets)]
    for arm in analysis.macro.arms:
        times = tuple(_time_cell(column, arm) for column in found)
        areas = tuple(_area_cell(column, arm) for column in found)
        if any(cell.text != NONE for cell in times):
            body += [Row(arm.title, "steps", times), Row("", "area", areas)]
    return Table(metric, "arm", spans_of(columns), tuple(tier for _, tier in columns), tuple(body))


def targets_table(analysis: Analysis) -> Table | None:
    """Times to several targets of the primary endpoint on every axis, each arm tested against the reference."""
    primary, macro = analysis.primary, analysis.macro
    columns: list[tuple[str, str]] = []
    body: dict[Arm, list[Cell]] = {}
    for axis in AXES:
        for share in SHARES:
            found = convergence(
                macro, primary.setting, analysis.dev_tier, primary.metric, share=share, axis=axis
            )
            if found is None:
                continue
            columns.append((axis, f"{percent(share)}: {number(found.target)}"))
            for arm in macro.arms:
                body.setdefault(arm, []).append(_tested_cell(analysis, found, arm))
    if not columns:
        return None
    rows = tuple(Row(arm.title, "", tuple(cells)) for arm, cells in body.items())
    note = "Below the time: p of the difference from the reference over paired seeds, uncorrected."
    return Table(
        primary.text,
        "arm",
        spans_of(columns),
        tuple(name for _, name in columns),
        rows,
        (note,) if analysis.reference is not None else (),
    )


def _curve_columns(macro: Results, metric: str) -> list[tuple[str, str]]:
    rows = macro.select(split="dev", metric=metric, centring="none")
    return [
        (setting, tier)
        for setting in SETTINGS
        for tier in ALL_TIERS
        if tier in rows.select(setting=setting).distinct("tier")
    ]


def _time_cell(found: Convergence | None, arm: Arm) -> Cell:
    if found is None or arm not in found.times:
        return Cell(NONE)
    text, note = _time(found, found.times[arm])
    return Cell(text, note)


def _time(found: Convergence, times: Times) -> tuple[str, str]:
    """The restricted mean, and its interval or how many seeds got there."""
    reached = int(times.reached.sum())
    if not reached:
        return f"> {found.horizon:,.0f}", "never"
    mean = restricted_mean(times.times, times.reached, found.horizon)
    if reached < len(times.reached):
        return f"≥ {mean.mean:,.0f}", f"{reached} of {len(times.reached)}"
    half = (mean.high - mean.low) / 2
    return f"{mean.mean:,.0f}", "" if math.isnan(half) else f"± {half:,.0f}"


def _tested_cell(analysis: Analysis, found: Convergence, arm: Arm) -> Cell:
    if arm not in found.times:
        return Cell(NONE)
    text, note = _time(found, found.times[arm])
    reference = analysis.reference
    if reference is None or arm == reference or reference not in found.times:
        return Cell(text, note)
    one, other = found.times[reference], found.times[arm]
    shared = [seed for seed in one.seeds if seed in other.seeds]
    if len(shared) < SEEDS_TESTED or arm not in analysis.comparable:
        return Cell(text, note)
    estimate = compare_times(_of(one, shared), _of(other, shared), found.horizon)
    p = estimate.p_value()
    return Cell(text, note if math.isnan(p) else p_text(p))


def _of(times: Times, seeds: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return times.times[[times.seeds.index(seed) for seed in seeds]]


def _area_cell(found: Convergence | None, arm: Arm) -> Cell:
    if found is None or arm not in found.areas:
        return Cell(NONE)
    area = seed_interval(found.areas[arm])
    half = (area.high - area.low) / 2
    return Cell(number(area.mean), "" if math.isnan(half) else f"± {number(half)}")
