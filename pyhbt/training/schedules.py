"""How the cross-lingual ratio moves over training: constant, linear, cosine, steps, adaptive.

A schedule maps progress in [0, 1] (steps done / steps planned) to the probability that a batch is cross-lingual.
Hybrid batch training (arXiv 2408.10536, section 3) keeps it constant; the others are extensions of it. The exponent of
language sampling takes the same schedules, adaptive apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ScheduleKind = Literal["constant", "linear", "cosine", "steps", "adaptive"]


@dataclass(frozen=True, slots=True)
class RatioSchedule:
    """Cross-lingual ratio as a function of training progress. Make one with :meth:`parse` or the constructors.

    ``knots`` are (progress, ratio) points: one for ``constant``; start and end for ``linear`` and ``cosine``;
    the beginnings of plateaus for ``steps``; for ``adaptive`` the lowest and the highest ratio, between which a
    controller moves it (:mod:`pyhbt.training.adaptive`), beginning in the middle. ``label`` names the schedule
    in results and reports.
    """

    kind: ScheduleKind
    knots: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        for progress, ratio in self.knots:
            if not 0.0 <= ratio <= 1.0:
                raise ValueError(f"ratio: found {ratio}, expected a number in [0, 1]")
            if not 0.0 <= progress <= 1.0:
                raise ValueError(f"ratio: schedule point at progress {progress}, expected one in [0, 1]")
        places = [progress for progress, _ in self.knots]
        if not places or places[0] != 0.0 or places != sorted(set(places)):
            raise ValueError(f"ratio: schedule points at {places}, expected an ascending list from 0")
        if self.kind == "adaptive" and not self.knots[0][1] < self.knots[-1][1]:
            low, high = self.bounds
            raise ValueError(f"ratio: adaptive from {high:g} to {low:g}, expected LOW below HIGH")

    @classmethod
    def constant(cls, ratio: float) -> RatioSchedule:
        """The same ratio throughout."""
        return cls("constant", ((0.0, float(ratio)),))

    @classmethod
    def parse(cls, spec: float | str | RatioSchedule) -> RatioSchedule:
        """A number, or one of ``"0.5"``, ``"linear:0:1"``, ``"cosine:0:1"``, ``"steps:0@0,0.5@0.3,1@0.6"``,
        ``"adaptive:0.1:0.9"``; a number may be a fraction, as ``1/3``.

        In ``steps`` each item is RATIO@PROGRESS, the progress at which the plateau begins.

        Raises:
            ValueError: the text is none of these, or a ratio or a progress lies outside [0, 1].
        """
        if isinstance(spec, RatioSchedule):
            return spec
        if isinstance(spec, (int, float)):
            return cls.constant(spec)
        kind, _, rest = spec.strip().partition(":")
        try:
            for two_ends in ("linear", "cosine", "adaptive"):
                if kind == two_ends:
                    start, end = map(read_number, rest.split(":"))
                    return cls(two_ends, ((0.0, start), (1.0, end)))
            if kind == "steps":
                items = [item.split("@") for item in rest.split(",")]
                return cls("steps", tuple((read_number(place), read_number(ratio)) for ratio, place in items))
            number = read_number(spec)
        except ValueError as error:
            if str(error).startswith("ratio:"):
                raise
            raise ValueError(
                f"ratio: found {spec!r}, expected a number in [0, 1], linear:A:B, cosine:A:B, steps:R@P,... "
                "or adaptive:LOW:HIGH"
            ) from None
        return cls.constant(number)

    @property
    def label(self) -> float | str:
        """The number itself for a constant ratio, else a text that :meth:`parse` reads back."""
        return self.knots[0][1] if self.kind == "constant" else self.text

    @property
    def text(self) -> str:
        """What :meth:`parse` reads back as the same schedule: numbers in the fewest digits that do."""
        if self.kind == "constant":
            return number_text(self.knots[0][1])
        if self.kind == "steps":
            return "steps:" + ",".join(
                f"{number_text(ratio)}@{number_text(place)}" for place, ratio in self.knots
            )
        return f"{self.kind}:{number_text(self.knots[0][1])}:{number_text(self.knots[1][1])}"

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest ratio of the schedule."""
        ratios = [ratio for _, ratio in self.knots]
        return min(ratios), max(ratios)

    def at(self, progress: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ratios at the given progress values, clipped to [0, 1]; same shape. Adaptive: where it begins."""
        progress = np.clip(progress, 0.0, 1.0)
        if self.kind == "adaptive":
            return np.full(progress.shape, sum(self.bounds) / 2)
        ratios = np.array([ratio for _, ratio in self.knots])
        if self.kind in ("constant", "steps"):
            places = np.array([place for place, _ in self.knots])
            chosen: NDArray[np.float64] = ratios[np.searchsorted(places, progress, side="right") - 1]
            return chosen
        weight = progress if self.kind == "linear" else (1.0 - np.cos(math.pi * progress)) / 2.0
        blended: NDArray[np.float64] = ratios[0] + (ratios[1] - ratios[0]) * weight
        return blended


def read_number(text: str) -> float:
    """A number, or a fraction of two whole ones such as ``1/3``, to float64's last bit.

    Raises:
        ValueError: it is neither.
    """
    if "/" not in text:
        return float(text)
    try:
        return float(Fraction(text))
    except (ZeroDivisionError, OverflowError):
        raise ValueError(f"number: found {text!r}, expected one that float64 holds") from None


def number_text(number: float) -> str:
    """The fewest digits that read back as the same number; whole ones without a point."""
    return repr(number).removesuffix(".0")
