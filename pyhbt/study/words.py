"""Figures in print: measurements, differences, intervals and p-values as reports and terminals show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pyhbt.evaluation.names import RANK_METRICS

NONE: Final = "\N{EN DASH}"  # printed where there is no figure
SPACE: Final = "\N{NO-BREAK SPACE}"
P_FLOOR: Final = 1e-4  # smaller p-values lean on tails that no study of some seeds knows
_MINUS: Final = "\N{MINUS SIGN}"


def number(value: float, metric: str = "") -> str:
    """A measurement in print: three decimals, or one for ranks; an en dash where there is none."""
    if math.isnan(value):
        return NONE
    if metric in RANK_METRICS:
        return f"{value:,.1f}".replace("-", _MINUS)
    return f"{round(value, 3) + 0.0:.3f}".replace("-", _MINUS)  # 0.0 takes the sign from -0.000


def signed(value: float, metric: str = "") -> str:
    """A difference in print, with a sign that is as wide as a plus."""
    if math.isnan(value):
        return NONE
    digits = 1 if metric in RANK_METRICS else 3
    rounded = round(value, digits)
    return f"{rounded:+,.{digits}f}".replace("-", _MINUS) if rounded else f"{0:.{digits}f}"


def interval(low: float, high: float, metric: str = "") -> str:
    """Both limits of a difference's interval."""
    return f"{signed(low, metric)} to {signed(high, metric)}"


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * share:g}{SPACE}%"


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in a sentence, of long lists the first ones."""
    shown = list(names[:most])
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def sentence(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def p_text(p: float) -> str:
    """A p-value in print; 0.0001 is the smallest that is told."""
    if math.isnan(p):
        return NONE
    if p <= P_FLOOR:
        return f"p{SPACE}\N{LESS-THAN OR EQUAL TO}{SPACE}{P_FLOOR:g}"
    return f"p{SPACE}={SPACE}{p:.4f}" if p < 0.001 else f"p{SPACE}={SPACE}{p:.3f}"
