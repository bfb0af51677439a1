"""Tables of the report, before they are HTML: text cells under one or two lines of headings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pyhbt.evaluation.names import ALL_SETTINGS, ALL_TIERS
from pyhbt.study.scores import Scores

CENTRING_NAMES = {
    "none": "plain",
    "passages": "passages centred",
    "both": "centred",
    "text": "centred by other text",
}


@dataclass(frozen=True)
class Cell:
    """One figure of a table, a smaller note beside it, and whether it stands out."""

    text: str
    note: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Row:
    """``head`` is empty in all but the first of the rows that share it."""

    head: str
    sub: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table with two lines of headings: ``spans`` are (name, number of columns below it).

    ``notes`` stand below it: what its marks mean.
    """

    title: str
    corner: str
    spans: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


class SummaryTable(NamedTuple):
    """Text cells: headings and ``rows`` of equal length."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def setting_tiers(scores: Scores, metric: str, split: str = "test") -> list[tuple[str, str]]:
    """(setting, tier) that have final scores of a metric, in order."""
    return [
        (setting, tier)
        for setting in ALL_SETTINGS
        for tier in ALL_TIERS
        if tier in scores.tiers(setting, metric, split)
    ]


def spans_of(columns: Sequence[tuple[str, str]]) -> tuple[tuple[str, int], ...]:
    """(first, how many columns) of each run of equal firsts, which stand together."""
    names = list(dict.fromkeys(first for first, _ in columns))
    return tuple((name, sum(first == name for first, _ in columns)) for name in names)
