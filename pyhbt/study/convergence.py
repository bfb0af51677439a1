"""How fast arms learn: time to a target common to them, as data censored at the end of training.

Curves are those of the dev set, plain. The target is a share of the best arm's final value, so that a low plateau
reached early is not fast. The time is that of a *lasting* crossing (:mod:`pyhbt.study.statistics.convergence`), in
steps, examples or tokens; a seed that never gets there counts with the horizon, the shortest training of all cells, and
the mean is a restricted mean. Imports nothing heavy beside numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pyhbt.study.arms import Arm
from pyhbt.study.results import Results
from pyhbt.study.statistics.convergence import lasting_crossing, normalised_area

SHARES: Final = (0.8, 0.9, 0.95, 0.99)
SHARE: Final = 0.9  # of the target that is told in words and drawn
Axis = Literal["steps", "examples", "tokens"]
AXES: Final[tuple[Axis, ...]] = get_args(Axis)

_Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Times:
    """Time of each seed (s,) to a target, the horizon where ``reached`` (s,) is false, and the seeds themselves."""

    seeds: tuple[int, ...]
    times: NDArray[np.float64]
    reached: NDArray[np.bool_]


@dataclass(frozen=True)
class Convergence:
    """Of every arm in one setting, tier and metric, on one axis."""

    target: float
    horizon: float
    times: Mapping[Arm, Times]
    areas: Mapping[Arm, NDArray[np.float64]]
    """Mean height of each seed's curve up to the horizon, as a share of the best arm's final value."""


def dev_curves(
    results: Results, arm: Arm, axis: Axis, *, setting: str, tier: str, metric: str
) -> dict[int, _Curve]:
    """Seed -> (steps, examples or tokens so far; dev value), both (evaluations,); empty where the axis is not known."""
    curves = results.curves(
        arm=arm,
        setting=setting,
        tier=tier,
        metric=metric,
        centring="none",
        query_lang="*",
        passage_lang="*",
    )
    if axis == "steps":
        return curves
    amounts = results.curves(
        split="train", arm=arm, metric=f"exposure {axis}", setting="all", query_lang="*", passage_lang="*"
    )
    return {seed: _over(curve, amounts[seed]) for seed, curve in curves.items() if seed in amounts}


def _over(curve: _Curve, amount: _Curve) -> _Curve:
    """The curve over the amount at its steps; none has been seen at step 0."""
    steps, values = curve
    known, amounts = np.concatenate([[0.0], amount[0]]), np.concatenate([[0.0], amount[1]])
    kept = np.isin(steps, known)
    return amounts[np.searchsorted(known, steps[kept])], values[kept]


def convergence(
    results: Results, setting: str, tier: str, metric: str, *, share: float = SHARE, axis: Axis = "steps"
) -> Convergence | None:
    """Times and areas of every arm that has learning curves here; None where none has."""
    curves = {
        arm: found
        for arm in results.arms
        if (found := dev_curves(results, arm, axis, setting=setting, tier=tier, metric=metric))
    }
    if not curves:
        return None
    best = max(float(np.mean([values[-1] for _, values in found.values()])) for found in curves.values())
    horizon = min(float(x[-1]) for found in curves.values() for x, _ in found.values())
    target = share * best
    times = {}
    for arm, found in curves.items():
        crossings = [lasting_crossing(x, values, target) for x, values in found.values()]
        reached = np.array([crossing.reached and crossing.time <= horizon for crossing in crossings])
        at = np.array([min(crossing.time, horizon) for crossing in crossings])
        times[arm] = Times(tuple(found), np.where(reached, at, horizon), reached)
    areas = {
        arm: np.array([normalised_area(*_until(curve, horizon), best) for curve in found.values()])
        for arm, found in curves.items()
    }
    return Convergence(target, horizon, times, areas)


def _until(curve: _Curve, horizon: float) -> _Curve:
    """The part of a curve up to the horizon, where it is interpolated."""
    x, values = curve
    inside = x < horizon
    return (
        np.concatenate([x[inside], [horizon]]),
        np.concatenate([values[inside], [np.interp(horizon, x, values)]]),
    )
