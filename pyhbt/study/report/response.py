"""Tables of the response to the ratio, two factors, gains by amount, and what a difference needs to be found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pyhbt.evaluation.names import ALL_SETTINGS, ALL_TIERS, LOWER_IS_BETTER, SETTINGS
from pyhbt.study.analysis import Analysis
from pyhbt.study.comparisons import SEEDS_TESTED, testable
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.factorial import factor_grid
from pyhbt.study.gain import language_gains
from pyhbt.study.report.tables import Cell, Row, Table
from pyhbt.study.scores import Scores
from pyhbt.study.statistics.contrasts import Estimate
from pyhbt.study.statistics.factors import two_factors
from pyhbt.study.statistics.power import (
    Components,
    clusters_needed,
    components,
    seeds_needed,
    smallest_found,
)
from pyhbt.study.words import NONE, number, p_text, signed

DIFFERENCES: Final = (0.005, 0.01, 0.02, 0.05)


def response_table(analysis: Analysis) -> Table | None:
    """The fit and the best ratio of the metrics' endpoints; None for fewer than three ratios."""
    rows = []
    for metric in analysis.metrics:
        for setting in ALL_SETTINGS:
            for tier in ALL_TIERS:
                endpoint = EndpointName(setting, metric, tier)
                if endpoint in analysis.scores.endpoints and (row := _response_row(analysis, endpoint)):
                    rows.append(row)
    spans = (("fit", 1), ("best ratio", 2), ("arms", 1))
    columns = ("degree", "estimate", "95 % interval", "not worse than the best")
    return Table("Response to the ratio", "endpoint", spans, columns, tuple(rows)) if rows else None


def _response_row(analysis: Analysis, endpoint: EndpointName) -> Row | None:
    response = analysis.response(endpoint)
    if response is None:
        return None
    best = response.best_ratio(highest=endpoint.metric not in LOWER_IS_BETTER)
    limits = NONE if math.isnan(best.low) else f"{best.low:.2f} to {best.high:.2f}"
    found = analysis.best(endpoint)
    members = (
        NONE
        if found is None or found.members is None
        else ", ".join(analysis.scores.arms[place].title for place in found.members)
    )
    cells = (str(response.degree), f"{best.at:.2f}", limits + (" (flat)" if best.flat else ""), members)
    return Row(endpoint.text, "", tuple(map(Cell, cells)))


def factor_tables(analysis: Analysis) -> list[Table]:
    """Main effects and interaction of ratio and change, where the arms hold a full grid of them."""
    grid = factor_grid(analysis.scores.arms)
    if grid is None:
        return []
    places = grid.places(analysis.scores.arms)
    names = [EndpointName(setting, metric) for metric in analysis.metrics for setting in SETTINGS]
    names = [name for name in names if name in analysis.scores.endpoints]
    rows: list[tuple[str, list[Estimate]]] = []
    for endpoint in names:
        arms = [arm for row in grid.arms for arm in row]
        if len(analysis.exposures.comparable(endpoint, arms)) < len(arms):
            continue
        found = two_factors(analysis.scores.of(endpoint), places)
        rows.append((endpoint.text, [*found.first, *found.second, found.interaction]))
    if not rows:
        return []
    base, first = f"{grid.ratios[0]:g}", grid.changes[0] or "no change"
    columns = (
        *(f"{ratio:g}" for ratio in grid.ratios[1:]),
        *(change or "no change" for change in grid.changes[1:]),
        "interaction",
    )
    spans = (
        (f"ratio, against {base}", len(grid.ratios) - 1),
        (f"change, against {first}", len(grid.changes) - 1),
        ("both", 1),
    )
    body = tuple(Row(name, "", tuple(map(_effect, found))) for name, found in rows)
    notes = (
        "Effects are averaged over the levels of the other factor; p is uncorrected.",
        f"Interaction: the effect of ratio {grid.ratios[-1]:g} with {grid.changes[-1] or 'no change'} minus that "
        f"with {first}.",
    )
    return [Table("Two factors", "endpoint", spans, columns, body, notes)]


def _effect(estimate: Estimate) -> Cell:
    note = p_text(estimate.p_value()) if testable(estimate) else ""
    return Cell(signed(estimate.value), note)


def gain_table(analysis: Analysis) -> Table | None:
    """The regression of gains on training examples; None where there are no gains."""
    rows = []
    for metric in analysis.metrics:
        found = language_gains(analysis, metric)
        if found is not None and not np.isnan(found.line.slope.mean):
            line = found.line
            limits = f"{signed(line.slope.low)} to {signed(line.slope.high)}"
            cells = (
                str(len(found.languages)),
                signed(line.slope.mean),
                limits,
                number(line.correlation),
                p_text(line.p),
            )
            rows.append(Row(f"cross-lingual {metric}", "", tuple(map(Cell, cells))))
    spans = (("", 1), ("gain for ten times the examples", 2), ("correlation", 2))
    columns = ("languages", "estimate", "95 % interval", "r", "p")
    return Table("Gain by amount", "endpoint", spans, columns, tuple(rows)) if rows else None


def needed_table(analysis: Analysis, differences: Sequence[float] = DIFFERENCES) -> Table | None:
    """Seeds and queries that a difference needs, from the spread between the chosen arm and the reference.

    None with fewer than two seeds or clusters.
    """
    rows = []
    for endpoint in _needed_endpoints(analysis):
        found = _spread(analysis, endpoint)
        if found is None:
            continue
        seeds = [_count(seeds_needed(found, difference)) for difference in differences]
        clusters = [_count(clusters_needed(found, difference)) for difference in differences]
        smallest = number(smallest_found(found))
        rows.append(Row(endpoint.text, "", tuple(map(Cell, (smallest, *seeds, *clusters)))))
    if not rows:
        return None
    found_names = tuple(f"{difference:g}" for difference in differences)
    spans = (
        ("found as it is", 1),
        ("seeds for a difference of", len(differences)),
        ("clusters of queries for a difference of", len(differences)),
    )
    columns = ("smallest", *found_names, *found_names)
    notes = (
        f"For 80 % power of one test at 5 %, two-sided; of seeds {SEEDS_TESTED} at least. never: the other level "
        "alone leaves too much open.",
    )
    return Table("What a difference needs", "endpoint", spans, columns, tuple(rows), notes)


def _needed_endpoints(analysis: Analysis) -> list[EndpointName]:
    names = [analysis.primary]
    names += [
        EndpointName(setting, metric, tier)
        for metric in analysis.metrics[:1]
        for setting in SETTINGS
        for tier in (analysis.primary.tier, "all")
    ]
    return [name for name in dict.fromkeys(names) if name in analysis.scores.endpoints]


def _spread(analysis: Analysis, endpoint: EndpointName) -> Components | None:
    """Components of the variance of a difference: the chosen arm's, or, where it is the reference, the next arm's."""
    scores: Scores = analysis.scores
    arms = analysis.exposures.comparable(endpoint, scores.measured(endpoint))
    if len(arms) < 2:
        return None
    reference = arms[0]
    other = analysis.chosen if analysis.chosen in arms and analysis.chosen != reference else arms[1]
    weights = np.zeros(len(scores.arms))
    weights[scores.arms.index(reference)] = -1.0
    weights[[scores.arms.index(arm) for arm in arms if arm == other]] = 1.0
    found = components(scores.of(endpoint), weights)
    return None if math.isnan(found.seed) else found


def _count(needed: int | None) -> str:
    return "never" if needed is None else f"{needed:,}"
