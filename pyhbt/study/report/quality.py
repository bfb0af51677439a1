"""Tables of final scores: means of arms with their intervals, and differences from the reference with their tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from pyhbt.evaluation.names import (
    ALL_TIERS,
    BIAS_METRICS,
    CENTRINGS,
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    PEER,
    PREFERENCE_METRICS,
    RANK_CORRELATION,
    RANK_DISTANCE,
    RANK_METRICS,
    TOP_1_SAME_LANGUAGE,
    headline_metrics,
)
from pyhbt.study.analysis import Analysis
from pyhbt.study.arms import Arm
from pyhbt.study.comparisons import Comparison
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.report.tables import (
    CENTRING_NAMES,
    Cell,
    Row,
    SummaryTable,
    Table,
    setting_tiers,
    spans_of,
)
from pyhbt.study.scores import Scores
from pyhbt.study.words import NONE, number, p_text, signed

BIAS_TABLES: Final = {
    "Between languages of passages": (*RANK_METRICS, PEER),
    "Between languages of queries": (TOP_1_SAME_LANGUAGE, RANK_CORRELATION),
    "Preference for the query's language": PREFERENCE_METRICS,
}
UNSEEN_MARK: Final = "\N{DAGGER}"
_NO_BEST_END: Final = frozenset(BIAS_METRICS).difference(LOWER_IS_BETTER, HIGHER_IS_BETTER)
_UNSEEN_NOTE: Final = (
    f"{UNSEEN_MARK} The arm never drew some of these languages, which others did, or has its own number of steps: it "
    "is not to be compared with them here."
)


def summary_table(scores: Scores) -> SummaryTable:
    """Final headline metric (recall@10 where measured) and rank distance, plain, a column for each arm.

    Rows are setting and tier; values are means over seeds. Five arms fit a terminal of 80 columns.
    """
    headline = headline_metrics(scores.metrics())[:1]
    body = []
    for metric in (*headline, RANK_DISTANCE):
        for setting, tier in setting_tiers(scores, metric):
            if metric in headline or tier == "all":
                endpoint = EndpointName(setting, metric, tier)
                means = [scores.mean(endpoint, arm).value for arm in scores.arms]
                name = setting if metric in headline else metric
                shown = (f"{mean:,.0f}" if metric in RANK_METRICS else number(mean) for mean in means)
                body.append((name, tier, *shown))
    title = headline[0] if headline else ""
    return SummaryTable((title, "tier", *(arm.title for arm in scores.arms)), tuple(body))


def quality_table(analysis: Analysis, metric: str, split: str = "test") -> Table:
    """Means of every arm in every setting and tier."""
    columns = setting_tiers(analysis.scores, metric, split)
    names = [EndpointName(setting, metric, tier, split=split) for setting, tier in columns]
    return _means(analysis, metric, columns, names)


def bias_table(analysis: Analysis, title: str, metrics: Sequence[str], split: str = "test") -> Table | None:
    """Means of every arm in measures of language bias; None where none was measured."""
    scores = analysis.scores
    columns = [
        (metric, tier)
        for metric in metrics
        for tier in ALL_TIERS
        if tier in scores.tiers("multilingual", metric, split)
    ]
    if not columns:
        return None
    names = [EndpointName("multilingual", metric, tier, split=split) for metric, tier in columns]
    return _means(analysis, title, columns, names)


def _means(
    analysis: Analysis, title: str, columns: Sequence[tuple[str, str]], endpoints: Sequence[EndpointName]
) -> Table:
    """A row for each arm and centring; the best of a centring stands out among arms of equal exposure."""
    known = set(analysis.scores.endpoints)
    shown = [c for c in CENTRINGS if any(name._replace(centring=c) in known for name in endpoints)]
    body: dict[tuple[Arm, str], list[Cell]] = {}
    marked = False
    for name in endpoints:
        for centring in shown:
            for arm, cell in _cells(analysis, name._replace(centring=centring)).items():
                body.setdefault((arm, centring), []).append(cell)
                marked = marked or UNSEEN_MARK in cell.text
    rows = tuple(
        Row(arm.title if centring == shown[0] else "", CENTRING_NAMES[centring], tuple(body[arm, centring]))
        for arm in analysis.scores.arms
        for centring in shown
        if columns
    )
    notes = (_UNSEEN_NOTE,) if marked else ()
    return Table(title, "arm", spans_of(columns), tuple(tier for _, tier in columns), rows, notes)


def _cells(analysis: Analysis, endpoint: EndpointName) -> dict[Arm, Cell]:
    scores, metric = analysis.scores, endpoint.metric
    comparable = analysis.exposures.comparable(endpoint, scores.measured(endpoint))
    lowest = metric in LOWER_IS_BETTER
    best = (
        None
        if metric in _NO_BEST_END or len(comparable) < 2
        else scores.best(endpoint, comparable, lowest=lowest)
    )
    top = math.nan if best is None else scores.mean(endpoint, best).value
    cells = {}
    for arm in scores.arms:
        estimate = scores.mean(endpoint, arm)
        limits = estimate.interval()
        half = (limits.high - limits.low) / 2
        mark = UNSEEN_MARK if not math.isnan(estimate.value) and arm not in comparable else ""
        note = "" if math.isnan(half) else f"± {number(half, metric)}"
        cells[arm] = Cell(number(estimate.value, metric) + mark, note, not mark and estimate.value == top)
    return cells


def differences_table(analysis: Analysis, metric: str, centring: str, split: str = "test") -> Table | None:
    """Every arm minus the reference, in every setting and tier of a metric; None where nothing is compared."""
    settings = setting_tiers(analysis.scores, metric, split)
    return _differences(
        analysis,
        metric,
        settings,
        [EndpointName(setting, metric, tier, centring, split) for setting, tier in settings],
    )


def bias_differences_table(
    analysis: Analysis, title: str, metrics: Sequence[str], centring: str = "none"
) -> Table | None:
    """Every arm minus the reference, in measures of language bias."""
    columns = [
        (metric, tier)
        for metric in metrics
        for tier in ALL_TIERS
        if tier in analysis.scores.tiers("multilingual", metric)
    ]
    names = [EndpointName("multilingual", metric, tier, centring) for metric, tier in columns]
    return _differences(analysis, title, columns, names)


def _differences(
    analysis: Analysis, title: str, columns: Sequence[tuple[str, str]], endpoints: Sequence[EndpointName]
) -> Table | None:
    wanted = set(endpoints)
    found = {(c.endpoint, c.arm): c for c in analysis.comparisons.all if c.endpoint in wanted}
    if not found:
        return None
    body = []
    for arm in analysis.scores.arms:
        cells = tuple(_difference(found.get((endpoint, arm)), endpoint) for endpoint in endpoints)
        if any(cell.text != NONE for cell in cells):
            body.append(Row(arm.title, "", cells))
    notes = tuple(_difference_notes(found.values()))
    return Table(title, "arm", spans_of(columns), tuple(tier for _, tier in columns), tuple(body), notes)


def _difference(comparison: Comparison | None, endpoint: EndpointName) -> Cell:
    if comparison is None:
        return Cell(NONE)
    text = signed(comparison.estimate.value, endpoint.metric)
    if not comparison.same_exposure:
        return Cell(text + UNSEEN_MARK, "not comparable")
    if not comparison.tested:
        return Cell(text, "not tested")
    return Cell(text, p_text(comparison.adjusted), comparison.significant)


def _difference_notes(comparisons: Iterable[Comparison]) -> list[str]:
    found = list(comparisons)
    notes = []
    references = list(dict.fromkeys(c.reference.called for c in found))
    notes.append(f"Reference: {', '.join(references)}.")
    families = {c.primary: c.family for c in found if c.tested}
    if True in families:
        notes.append(f"Primary: Holm over {families[True]}.")
    if False in families:
        notes.append(f"Secondary: false discovery rate over {families[False]} distinct comparisons.")
    if any(not c.same_exposure for c in found):
        notes.append(_UNSEEN_NOTE)
    return notes
