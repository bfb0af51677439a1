"""Whether an arm is shown to lose less than a margin, or to differ by less than one."""

from __future__ import annotations

from typing import NamedTuple

from pyhbt.study.statistics.contrasts import Estimate

_LEVEL = 0.05


class NonInferiority(NamedTuple):
    """``p`` is one-sided, ``lower`` the 95 % one-sided limit of the difference; ``shown`` says whether it is above."""

    p: float
    lower: float
    shown: bool


def non_inferior(estimate: Estimate, margin: float) -> NonInferiority:
    """Test of the hypothesis that a difference (higher is better) is a loss of ``margin`` or more, at 5 %.

    "Not significant" is no evidence of no loss; this is. NaN, and not shown, where ``estimate`` allows no test.

    Raises:
        ValueError: ``margin`` is not above 0.
    """
    _check(margin)
    p = estimate.p_above(-margin)
    return NonInferiority(p, estimate.interval(1 - 2 * _LEVEL).low, p < _LEVEL)


def equivalent(estimate: Estimate, margin: float) -> float:
    """p-value of two one-sided tests that a difference is within ``margin`` of 0.

    Schuirmann 1987, J. Pharmacokin. Biopharm. 15(6), 657-680.

    Raises:
        ValueError: ``margin`` is not above 0.
    """
    _check(margin)
    return max(estimate.p_above(-margin), estimate.p_below(margin))


def _check(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin: found {margin}, expected a number above 0")
