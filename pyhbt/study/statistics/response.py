"""A score as a function of the ratio: a fitted polynomial with its band, and an interval for the best ratio.

The fit is least squares over the arms' means, so that its value and its slope at any ratio are contrasts of arms, with
the intervals and tests of :mod:`pyhbt.study.statistics.contrasts`. The interval of the best ratio is the set of ratios
that are not rejected as the maximum: inside the range where the slope differs from 0 significantly, at an end where it
points inwards (inverting a test: Fieller 1954, J. R. Statist. Soc. B 16(2), 175-185, for a quadratic). Its ends are the
ends of that set; where it covers all ratios that were run, the response is flat.

What the interval covers is the best ratio of a polynomial. So the degree is tested for lack of fit by the orthogonal
polynomials of higher degree, which are contrasts of arms too (Draper and Smith 1998, Applied Regression Analysis,
chapters 2 and 22), and raised while it is significant. Where no degree fits, the interval goes by the arms alone: with
one rise and one fall, the best ratio lies between the neighbours of the best arm, and so between those of the arms that
are not worse than the best (:func:`pyhbt.study.statistics.multiple.not_worse`). Three ratios leave nothing to test by.
Lack of fit that is not found leaves the interval too narrow: beside a law that is no polynomial of degree 3 it may
cover the best ratio in little more than half of the studies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray
from scipy import stats

from pyhbt.study.statistics.contrasts import Endpoint, Estimate, Interval, contrast, contrasts
from pyhbt.study.statistics.multiple import holm, not_worse

_HIGHEST_DEGREE = 3
_CURVED = 2  # the lowest degree that has a best ratio between the ends
_GRID = 101  # ratios at which the slope is tested
_FIT_LEVEL = 0.15  # of the test for lack of fit: missing one costs more than a degree too many
_ROUNDING = 1e-12  # of the means: contrasts below it are 0


class BestRatio(NamedTuple):
    """The highest point of the fit and its interval; ``flat`` where that is the whole range."""

    at: float
    low: float
    high: float
    flat: bool


@dataclass(frozen=True)
class Response:
    """A polynomial of ``degree`` through the scores of the arms at ``ratios``, which are distinct.

    ``errors[d]`` is the root mean square error of degree d in leave-one-ratio-out cross-validation, NaN where there are
    too few ratios for it.
    """

    ratios: tuple[float, ...]
    endpoint: Endpoint
    degree: int
    errors: tuple[float, ...]

    def value(self, ratio: float) -> Estimate:
        """The fit at a ratio."""
        return contrast(self.endpoint, self._weights(ratio, self.degree, 0))

    def best_ratio(self, level: float = 0.95, *, highest: bool = True) -> BestRatio:
        """The ratio of the highest (lowest) score, by a fit of degree 2 at least. O(_GRID * seeds * clusters).

        The limits are NaN where seeds are too few for them.
        """
        degree = _fitting_degree(self.ratios, self.endpoint, max(self.degree, _CURVED))
        low, high = self.ratios[0], self.ratios[-1]
        grid = np.linspace(low, high, _GRID)
        sign = 1.0 if highest else -1.0
        fitted = np.array([self._weights(x, degree, 0) for x in grid]) @ self.endpoint.means.mean(axis=1)
        at = float(grid[int(np.argmax(sign * fitted))])
        if lack_of_fit(self.ratios, self.endpoint, degree) < _FIT_LEVEL:
            return self._between_neighbours(at, highest)
        inside = np.ones(len(grid), dtype=np.bool_)
        inside[[0, -1]] = False
        kept = []
        for x, between, slope, curvature in zip(
            grid, inside, self._at(grid, degree, 1), self._at(grid, degree, 2), strict=True
        ):
            error = slope.standard_error
            if np.isnan(error):
                return BestRatio(at, np.nan, np.nan, False)
            up = sign * slope.value
            inward = abs(up) if between else up if x == low else -up
            limits = curvature.interval(level)
            valley = between and (limits.low if highest else -limits.high) > 0
            if inward <= (error and slope.critical(level) * error) and not valley:
                kept.append(float(x))
        if not kept:  # the fit has no maximum that the slope allows: the highest point alone
            kept = [at]
        return BestRatio(at, min(kept), max(kept), min(kept) == low and max(kept) == high)

    def _between_neighbours(self, at: float, highest: bool) -> BestRatio:
        """The interval by the arms that are not worse than the best, from one's neighbour to another's."""
        found = not_worse(self.endpoint, range(len(self.ratios)), higher_is_better=highest)
        if found.members is None:
            return BestRatio(at, np.nan, np.nan, False)
        first, last = max(found.members[0] - 1, 0), min(found.members[-1] + 1, len(self.ratios) - 1)
        low, high = self.ratios[first], self.ratios[last]
        return BestRatio(min(max(at, low), high), low, high, first == 0 and last == len(self.ratios) - 1)

    def _at(self, grid: NDArray[np.float64], degree: int, derivative: int) -> list[Estimate]:
        """The fit of a degree, or one of its derivatives, at every ratio of a grid."""
        weights = np.array([self._weights(x, degree, derivative) for x in grid])
        if not weights.any():
            return [Estimate(0.0, 0.0, 0.0, 0.0, 0, 0, 0.0)] * len(grid)
        return contrasts(self.endpoint, weights)

    def _weights(self, ratio: float, degree: int, derivative: int) -> NDArray[np.float64]:
        """The weight of each arm in the fit, or in one of its derivatives, at a ratio."""
        centre, solve = self._solvers[degree]
        powers = np.zeros(degree + 1)
        for power in range(derivative, degree + 1):
            powers[power] = math.perm(power, derivative) * (ratio - centre) ** (power - derivative)
        weights: NDArray[np.float64] = powers @ solve
        return weights

    @cached_property
    def _solvers(self) -> dict[int, tuple[float, NDArray[np.float64]]]:
        """For each degree, the centre of its basis and the matrix from means to coefficients."""
        at = np.array(self.ratios)
        centre = float(at.mean())
        found: dict[int, tuple[float, NDArray[np.float64]]] = {}
        for degree in range(min(_HIGHEST_DEGREE, len(at) - 1) + 1):
            powers = polynomial.polyvander(at - centre, degree).astype(np.float64)
            found[degree] = centre, np.linalg.pinv(powers).astype(np.float64)
        return found


def fit(ratios: Sequence[float], endpoint: Endpoint) -> Response:
    """The polynomial of lowest degree, 3 at most, whose cross-validated error is within a standard error of the least.

    The degree is raised while lack of fit is significant. Three ratios are too few to choose by: their polynomial of
    degree 2 passes through the means.

    Args:
        ratios: of the arms, ascending.
        endpoint: their scores; the seeds that all arms have count.

    Raises:
        ValueError: fewer than three ratios, ratios that do not ascend, another number of arms, or no shared seed.
    """
    at = tuple(map(float, ratios))
    if len(at) < 3 or list(at) != sorted(set(at)):
        raise ValueError(f"ratios: found {list(at)}, expected three or more, ascending")
    if len(endpoint.means) != len(at):
        raise ValueError(f"endpoint: found {len(endpoint.means)} arms, expected {len(at)}, one a ratio")
    shared = ~np.isnan(endpoint.means).any(axis=0)
    if not shared.any():
        raise ValueError("endpoint: found no seed that all arms have, expected one at least")
    endpoint = Endpoint(endpoint.means[:, shared], endpoint.influences[:, shared])
    means = endpoint.means.mean(axis=1)
    if len(at) == 3:
        return Response(at, endpoint, 2, ())
    errors = _errors_left_out(np.array(at), means)
    squared = errors**2
    mean = squared.mean(axis=1)
    best = int(np.argmin(mean))
    slack = squared[best].std(ddof=1) / np.sqrt(len(at))
    degree = _fitting_degree(at, endpoint, int(np.flatnonzero(mean <= mean[best] + slack)[0]))
    return Response(at, endpoint, degree, tuple(np.sqrt(mean).tolist()))


def lack_of_fit(ratios: Sequence[float], endpoint: Endpoint, degree: int) -> float:
    """p-value of the hypothesis that the true means of arms (a,) lie on a polynomial of a degree.

    The contrasts are the orthogonal polynomials of the degrees above it, to a - 1, corrected after Holm. NaN where
    there is none, and with one seed. O(a s c).
    """
    at = np.array(ratios) - np.mean(ratios)
    orthogonal = np.linalg.qr(polynomial.polyvander(at, len(at) - 1))[0].T[degree + 1 :]
    if not len(orthogonal):
        return math.nan
    nothing = _ROUNDING * float(np.nanmax(np.abs(endpoint.means)))
    estimates = contrasts(endpoint, orthogonal)
    adjusted = holm([1.0 if abs(one.value) <= nothing else one.p_value() for one in estimates])
    return float(adjusted.min())


def _fitting_degree(ratios: Sequence[float], endpoint: Endpoint, degree: int) -> int:
    """The lowest degree from ``degree`` up that is not rejected, or the highest there is."""
    highest = max(min(_HIGHEST_DEGREE, len(ratios) - 2), degree)
    while degree < highest and lack_of_fit(ratios, endpoint, degree) < _FIT_LEVEL:
        degree += 1
    return degree


def _errors_left_out(ratios: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors (degrees, a) of each ratio's mean, predicted from the others."""
    degrees = range(min(_HIGHEST_DEGREE, len(ratios) - 2) + 1)
    errors = np.empty((len(degrees), len(ratios)))
    for left_out in range(len(ratios)):
        rest = np.arange(len(ratios)) != left_out
        for degree in degrees:
            coefficients = polynomial.polyfit(ratios[rest], means[rest], degree)
            errors[degree, left_out] = polynomial.polyval(ratios[left_out], coefficients) - means[left_out]
    return errors


def on_front(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (a,) no other is at least as high as in both coordinates and higher in one. O(a^2)."""
    at_least = (first[:, None] >= first) & (second[:, None] >= second)
    above = at_least & ((first[:, None] > first) | (second[:, None] > second))
    dominated = above.any(axis=0)
    return np.logical_not(dominated)


class Gain(NamedTuple):
    """Gain for ten times as many examples, with its interval, and how gains and log10 examples correlate."""

    slope: Interval
    intercept: float
    correlation: float
    p: float


def gain_by_amount(examples: NDArray[np.float64], gains: NDArray[np.float64], level: float = 0.95) -> Gain:
    """Linear regression of gains (n,) on log10(1 + examples) (n,); NaN for fewer than three points or one amount."""
    x = np.log10(1 + examples)
    if len(x) < 3 or np.ptp(x) == 0:
        nothing = Interval(np.nan, np.nan, np.nan)
        return Gain(nothing, np.nan, np.nan, np.nan)
    found = stats.linregress(x, gains)
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 2) * found.stderr)
    slope = float(found.slope)
    return Gain(
        Interval(slope, slope - half, slope + half),
        float(found.intercept),
        float(found.rvalue),
        float(found.pvalue),
    )
