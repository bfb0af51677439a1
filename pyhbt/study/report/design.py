"""Tables of what a study's answer rests on: what arms saw, what the test sets hold, how learning rates were chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pyhbt.data.coverage import FEW
from pyhbt.evaluation.names import ALL_LANGUAGES
from pyhbt.study.analysis import Analysis
from pyhbt.study.arms import Arm
from pyhbt.study.report.tables import Cell, Row, Table
from pyhbt.study.tuning import Tuned
from pyhbt.study.words import NONE, number, percent
from pyhbt.training.exposure import Count, Exposure

_MANY = 16  # languages of which a table shows each pair


def exposure_table(analysis: Analysis) -> Table | None:
    """What each arm's training saw, means over its seeds; None where no cell says it."""
    rows = tuple(
        Row(arm.title, "", tuple(Cell(text) for text in _exposure_figures(list(cells.values()))))
        for arm, cells in sorted(analysis.exposures.cells.items())
        if cells
    )
    spans = (("share of batches", 2), ("in all", 3), ("distinct", 3), ("a query", 1))
    columns = (
        "cross-lingual",
        "short",
        "batches",
        "examples",
        "tokens",
        "pairs",
        "queries",
        "passages",
        "negatives",
    )
    return Table("What training saw", "arm", spans, columns, rows) if rows else None


def _exposure_figures(cells: Sequence[Exposure]) -> list[str]:
    def mean(figure: Callable[[Exposure], float]) -> float:
        return sum(map(figure, cells)) / len(cells)

    def cross(exposure: Exposure) -> float:
        return exposure.kinds.get("cross-lingual", Count()).batches / max(1, exposure.total.batches)

    distinct = [found for one in cells if (found := one.distinct("all", ALL_LANGUAGES, ALL_LANGUAGES))]
    return [
        f"{mean(cross):.1%}",
        f"{mean(lambda one: one.total.short / max(1, one.total.batches)):.1%}",
        f"{mean(lambda one: one.total.batches):,.0f}",
        f"{mean(lambda one: one.total.pairs):,.0f}",
        f"{mean(lambda one: one.total.tokens):,.0f}" if all(one.has_tokens for one in cells) else NONE,
        *(
            f"{sum(found[place] for found in distinct) / len(distinct):,.0f}" if distinct else NONE
            for place in range(3)
        ),
        f"{mean(lambda one: one.total.negatives_per_query):,.1f}",
    ]


def language_exposure_table(analysis: Analysis) -> Table | None:
    """Examples of each language as query and as passage, by arm, means over seeds."""
    cells = analysis.exposures.cells
    tiers: Mapping[str, str] = analysis.data.get("tiers", {}) or analysis.results.language_tiers()
    drawn = {
        language
        for seeds in cells.values()
        for exposure in seeds.values()
        for pair in exposure.languages
        for language in pair
    }
    languages = [language for language in tiers if language in drawn] + sorted(drawn - tiers.keys())
    if not languages:
        return None
    rows = []
    for arm, seeds in sorted(cells.items()):
        exposures = list(seeds.values())
        for number_, (role, place) in enumerate((("as query", 0), ("as passage", 1))):
            shown = tuple(Cell(_examples(exposures, place, language)) for language in languages)
            rows.append(Row(arm.title if number_ == 0 else "", role, shown))
    spans = tuple(
        (tier, sum(tiers.get(language, "seen") == tier for language in languages))
        for tier in dict.fromkeys(tiers.get(language, "seen") for language in languages)
    )
    return Table("Examples by language", "arm", spans, tuple(languages), tuple(rows), ("0: never drawn.",))


def _examples(exposures: Sequence[Exposure], place: int, language: str) -> str:
    total = sum(
        count.pairs
        for exposure in exposures
        for pair, count in exposure.languages.items()
        if pair[place] == language
    )
    return f"{total / len(exposures):,.0f}"


def coverage_tables(analysis: Analysis) -> list[Table]:
    """Queries of each language pair of every set; in a macro mean each pair that has any weighs the same."""
    sets: Mapping[str, Any] = analysis.data.get("sets", {})
    return [_coverage_table(split, found) for split, found in sets.items() if found.get("pairs")]


def _coverage_table(split: str, found: Mapping[str, Any]) -> Table:
    counts = {(query, passage): int(number_) for query, passage, number_ in found["pairs"]}
    queries = sorted({query for query, _ in counts})
    passages = sorted({passage for _, passage in counts})
    many = len(passages) > _MANY
    rows = []
    for query in queries:
        mine = [counts[query, passage] for passage in passages if (query, passage) in counts]
        shown = (
            (Cell(_range(mine)), Cell(str(len(mine))))
            if many
            else tuple(_count_cell(counts.get((query, passage), 0)) for passage in passages)
        )
        rows.append(Row(query, "", shown))
    cross = sum(query != passage for query, passage in counts)
    weights = [
        f"{percent(round(100 / size, 2) / 100)} each in the {setting} mean"
        for setting, size in (("monolingual", len(counts) - cross), ("cross-lingual", cross))
        if size
    ]
    title = f"{split}: {found['queries']:,} queries in {found['clusters']:,} clusters, {found['passages']:,} passages"
    columns = ("queries a pair", "passage languages") if many else tuple(passages)
    notes = (f"Language pairs weigh {' and '.join(weights)}.", f"Marked: fewer than {FEW} queries.")
    return Table(title, "query language", (("passage language", len(columns)),), columns, tuple(rows), notes)


def _range(counts: Iterable[int]) -> str:
    low, high = min(counts := list(counts)), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _count_cell(count: int) -> Cell:
    return Cell(f"{count:,}" if count else NONE, strong=0 < count < FEW)


def tuning_table(choices: Mapping[Arm, Tuned], endpoint: str) -> Table | None:
    """The dev score of every learning rate tried, the chosen one standing out; None where none were tried."""
    if not choices:
        return None
    rates = sorted({rate for tuned in choices.values() for rate in tuned.scores})
    rows = tuple(
        Row(
            arm.title,
            "",
            tuple(
                Cell(number(tuned.scores[rate]), strong=rate == tuned.chosen)
                if rate in tuned.scores
                else Cell(NONE)
                for rate in rates
            ),
        )
        for arm, tuned in sorted(choices.items())
    )
    columns = tuple(f"{rate:g}" for rate in rates)
    edge = [
        arm.called
        for arm, tuned in sorted(choices.items())
        if tuned.chosen in (min(tuned.scores), max(tuned.scores))
    ]
    notes = (
        (f"At the edge of the rates tried: {', '.join(edge)}; a rate beyond may be better.",) if edge else ()
    )
    return Table(f"{endpoint}, dev set", "arm", (("learning rate", len(columns)),), columns, rows, notes)
