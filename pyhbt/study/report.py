"""The report of a ratio study: one self-contained HTML page, its plots, and the table for a terminal.

Reads only OUT/results.jsonl, OUT/cells/*/scores.npz, OUT/config.yaml and OUT/environment.json; writes OUT/report.html
(no script, no outside file; plots inlined for light and dark pages) and OUT/plots/*.png. About 10 s for 15 cells and
42 languages, nearly all of it plots. Text from data sets is escaped by jinja2.
"""

from __future__ import annotations

import base64
import math
import re
import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pyhbt.evaluation.names import (
    ALL_TIERS,
    BIAS_METRICS,
    PEER,
    RANK_CORRELATION,
    RANK_DISTANCE,
    RANK_METRICS,
    SETTINGS,
    STUDY_CENTRINGS,
    TOP_1_SAME_LANGUAGE,
)
from pyhbt.files import write_atomically
from pyhbt.options import read_config
from pyhbt.study.arms import Arm
from pyhbt.study.cells import exposures
from pyhbt.study.findings import (
    LEVEL,
    NONE,
    SHARE,
    Comparison,
    best_arm,
    compare_arms,
    compared_pairs,
    convergence,
    final_interval,
    headline_metrics,
    mean_steps,
    number,
    p_text,
    short_answer,
    signed,
)
from pyhbt.study.plots import THEMES, Theme, final_values, learning_curves, pair_heat_map, png_bytes
from pyhbt.study.results import (
    Results,
    load_results,
    load_unit_scores,
)
from pyhbt.training.exposure import Count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from matplotlib.figure import Figure

_CENTRING_NAMES: Final = {"none": "plain", "both": "centred"}
_BIAS_TABLES: Final = {
    "Between languages of passages": (*RANK_METRICS, PEER),
    "Between languages of queries": (TOP_1_SAME_LANGUAGE, RANK_CORRELATION),
}
# The share in the query's language has no best end: both 0 and 1 are biased.
_BEST: Final = {**dict.fromkeys(RANK_METRICS, min), TOP_1_SAME_LANGUAGE: None}  # of the others, max


class SummaryTable(NamedTuple):
    """Text cells: headings and ``rows`` of equal length."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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
    """A table with two lines of headings: ``spans`` are (name, number of columns below it)."""

    title: str
    corner: str
    spans: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Picture:
    """One plot as data URLs for a light and a dark page, with its size in CSS pixels."""

    alt: str
    light: str
    dark: str
    width: int
    height: int


def summary_table(results: Results) -> SummaryTable:
    """Final headline metric (recall@10 where measured) and rank distance, plain, a column for each arm.

    Rows are setting and tier; values are means over seeds. Five arms fit a terminal of 80 columns.
    """
    final = results.macro(split="test", centring="none")
    headline = headline_metrics(results)[:1]
    body = []
    for metric in (*headline, RANK_DISTANCE):
        for setting, tier in _setting_tiers(final.select(metric=metric)):
            if metric in headline or tier == "all":
                means = [
                    final_interval(final, arm, metric=metric, setting=setting, tier=tier).mean
                    for arm in results.arms
                ]
                name = setting if metric in headline else metric
                body.append(
                    (
                        name,
                        tier,
                        *(f"{mean:,.0f}" if metric in BIAS_METRICS else number(mean) for mean in means),
                    )
                )
    title = headline[0] if headline else ""
    return SummaryTable((title, "tier", *(arm.title for arm in results.arms)), tuple(body))


def write_report(out: Path) -> Path:
    """Write report.html and the images in plots/ from the results in ``out``; returns the page's path.

    Raises:
        FileNotFoundError: ``out`` has no results.jsonl.
        ValueError: a file is malformed; the message names file, line and field.
    """
    out = Path(out)
    results = load_results(out)
    config = _load_config(out)
    macro = results.macro()  # all but the heat maps and the counts need no more
    metrics = headline_metrics(macro)
    comparisons = compare_arms(macro, load_unit_scores(out), metrics) if len(results.arms) > 1 else []
    html = _environment().get_template("report.html.j2").render(
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        facts=_facts(results),
        findings=short_answer(macro, comparisons),
        main_tables=[_main_table(macro, metric) for metric in metrics],
        tests=[
            (centring, [_test_table(macro, comparisons, metric, centring) for metric in metrics])
            for centring in _CENTRING_NAMES
            if any(comparison.centring == centring for comparison in comparisons)
        ],
        convergence_tables=[table for metric in metrics if (table := _convergence_table(macro, metric))],
        batches_table=_batches_table(out, results.arms),
        bias_tables=[table for part in _BIAS_TABLES.items() if (table := _bias_table(macro, *part)).rows],
        pictures=_write_plots(results, macro, metrics, out / "plots"),
        command=_command(config),
        configuration=_configuration(config),
        environment=list(_flatten(config.get("environment", {}))),
        share=f"{SHARE * 100:g} %",
        level=LEVEL,
    )  # fmt: skip
    page = out / "report.html"
    with write_atomically(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return page


_TEMPLATES: Final = Path(__file__).parent / "templates"


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _load_config(out: Path) -> dict[str, Any]:
    """What was run: "config", "command", "environment" and more; {} where the study left nothing.

    OUT/config.yaml and OUT/environment.json, or the OUT/config.json that studies before 0.2 have.
    """
    former = out / "config.json"
    if former.is_file():
        return read_config(former)
    found = read_config(out / "environment.json") if (out / "environment.json").is_file() else {}
    if (out / "config.yaml").is_file():
        found["config"] = read_config(out / "config.yaml")
    return found


def _configuration(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Everything but command and environment; the part named "config" first and without that name."""
    rest = {key: entry for key, entry in config.items() if key not in ("command", "config", "environment")}
    return [*_flatten(config.get("config", {})), *_flatten(rest)]


def _command(config: dict[str, Any]) -> str:
    """The command that made the study, as one line of shell; empty where it was not kept."""
    command = config.get("command", "")
    return shlex.join(map(str, command)) if isinstance(command, list) else str(command)


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, value in print) of everything in a nested configuration."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from _flatten(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(entry, (dict, list)) for entry in value):
        for position, entry in enumerate(value):
            yield from _flatten(entry, f"{path}[{position}]")
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value)) or NONE
    elif value != {}:
        yield path, NONE if value is None else str(value)


def _facts(results: Results) -> list[tuple[str, str]]:
    """What was run, in figures."""
    finished = len(results.select(split="test"))
    cells = sum(len(results.select(split="test", arm=r).distinct("seed")) for r in results.arms)
    tiers = results.language_tiers()
    counts = {tier: list(tiers.values()).count(tier) for tier in ALL_TIERS}
    by_tier = ", ".join(f"{count} {tier}" for tier, count in counts.items() if count)
    steps = results.distinct("step")
    return [
        ("Arms", ", ".join(arm.title for arm in results.arms) or NONE),
        ("Seeds", str(len(results.distinct("seed")))),
        ("Cells finished", f"{cells} of {len(results.arms) * len(results.distinct('seed'))}"),
        ("Training steps", f"{steps[-1]:,}" if steps else NONE),
        ("Languages", f"{len(tiers)} ({by_tier})" if finished and tiers else NONE),
    ]


def _setting_tiers(rows: Results) -> list[tuple[str, str]]:
    """(setting, tier) that have rows, in order."""
    return [
        (setting, tier)
        for setting in SETTINGS
        for tier in ALL_TIERS
        if tier in rows.select(setting=setting).distinct("tier")
    ]


def _spans(columns: Sequence[tuple[str, str]]) -> tuple[tuple[str, int], ...]:
    """(first, how many columns) of each run of equal firsts."""
    names = list(dict.fromkeys(first for first, _ in columns))
    return tuple((name, sum(first == name for first, _ in columns)) for name in names)


def _interval_rows(rows: Results, arms: Sequence[Arm], columns: Sequence[dict[str, str]]) -> tuple[Row, ...]:
    """A row for each arm and centring; the best of a centring stands out where there are several arms."""
    body: dict[tuple[Arm, str], list[Cell]] = {}
    for where in columns:
        metric = where["metric"]
        choose = _BEST.get(metric, max)
        for centring in STUDY_CENTRINGS:
            intervals = {arm: final_interval(rows, arm, centring=centring, **where) for arm in arms}
            known = [interval.mean for interval in intervals.values() if not math.isnan(interval.mean)]
            best = choose(known) if choose and len(known) > 1 else None
            for arm, interval in intervals.items():
                note = "" if math.isnan(interval.low) else f"± {number(interval.half_width, metric)}"
                cell = Cell(number(interval.mean, metric), note, interval.mean == best)
                body.setdefault((arm, centring), []).append(cell)
    shown = [centring for centring in STUDY_CENTRINGS if centring in rows.distinct("centring")]
    return tuple(
        Row(
            arm.title if centring == shown[0] else "",
            _CENTRING_NAMES[centring],
            tuple(body[arm, centring]),
        )
        for arm in arms
        for centring in shown
        if columns
    )


def _main_table(results: Results, metric: str) -> Table:
    rows = results.macro(split="test", metric=metric)
    columns = _setting_tiers(rows)
    where = [{"setting": setting, "tier": tier, "metric": metric} for setting, tier in columns]
    body = _interval_rows(rows, results.arms, where)
    return Table(metric, "arm", _spans(columns), tuple(tier for _, tier in columns), body)


def _bias_table(results: Results, title: str, metrics: Sequence[str]) -> Table:
    """The metrics that were measured; old studies have but two, and parallel data no PEER."""
    rows = results.macro(split="test", setting="multilingual", metric=metrics)
    columns = [
        (metric, tier)
        for metric in metrics
        for tier in ALL_TIERS
        if tier in rows.select(metric=metric).distinct("tier")
    ]
    where = [{"tier": tier, "metric": metric} for metric, tier in columns]
    body = _interval_rows(rows, results.arms, where)
    return Table(title, "arm", _spans(columns), tuple(tier for _, tier in columns), body)


def _test_table(results: Results, comparisons: Iterable[Comparison], metric: str, centring: str) -> Table:
    found = {
        (c.setting, c.tier, c.first, c.second): c
        for c in comparisons
        if c.metric == metric and c.centring == centring
    }
    columns = [(s, t) for s in SETTINGS for t in ALL_TIERS if any(key[:2] == (s, t) for key in found)]
    body = []
    for first, second in compared_pairs(results.arms):
        cells = []
        for column in columns:
            test = found.get((*column, first, second))
            cells.append(
                Cell(signed(test.difference), p_text(test.adjusted), test.adjusted < LEVEL)
                if test
                else Cell(NONE)
            )
        body.append(Row(f"{first.title} → {second.title}", "", tuple(cells)))
    sizes = {setting: c.family for (setting, *_), c in found.items()}
    spans = tuple((f"{name} (family of {sizes[name]})", span) for name, span in _spans(columns))
    return Table(metric, "arms", spans, tuple(tier for _, tier in columns), tuple(body))


def _convergence_table(results: Results, metric: str) -> Table | None:
    columns = _setting_tiers(results.macro(split="dev", metric=metric, centring="none"))
    if not columns:
        return None
    found = [convergence(results, setting, tier, metric) for setting, tier in columns]
    targets = tuple(Cell(number(next(iter(column.values())).target)) for column in found)
    fastest, largest = [], []
    for column in found:
        sure = [mean_steps(c.to_target) for c in column.values() if None not in c.to_target]
        fastest.append(min(sure, default=math.nan))
        largest.append(max(c.area.mean for c in column.values()))
    body = [Row("target", f"{SHARE * 100:g} % of best", targets)]
    for arm in results.arms:
        mine = [column.get(arm) for column in found]
        several = len(results.arms) > 1
        to_target = [
            _steps_cell(c.to_target, several and mean_steps(c.to_target) == best) if c else Cell(NONE)
            for c, best in zip(mine, fastest, strict=True)
        ]
        to_own = [_steps_cell(c.to_own, False) if c else Cell(NONE) for c in mine]
        area = [
            Cell(number(c.area.mean), strong=several and c.area.mean == best) if c else Cell(NONE)
            for c, best in zip(mine, largest, strict=True)
        ]
        body += [
            Row(arm.title, "to target", tuple(to_target)),
            Row("", f"to own {SHARE * 100:g} %", tuple(to_own)),
            Row("", "area", tuple(area)),
        ]
    return Table(metric, "arm", _spans(columns), tuple(tier for _, tier in columns), tuple(body))


def _batches_table(out: Path, arms: Sequence[Arm]) -> Table | None:
    """What a batch held, of each arm, means over its seeds; None where no cell says it."""
    held = [(cell.arm, exposure) for cell, exposure in exposures(out).items()]
    body = []
    for arm in arms:
        mine = [exposure for of, exposure in held if of == arm and exposure.total.batches]
        if mine:
            cross = [e.kinds.get("cross-lingual", Count()).batches / e.total.batches for e in mine]
            figures = [f"{sum(cross) / len(mine):.1%}", f"{mine[0].batch_size:,}"]
            for kind in ("monolingual", "cross-lingual"):
                means = [e.kinds[kind].pairs_per_batch for e in mine if kind in e.kinds]
                figures.append(f"{sum(means) / len(means):,.1f}" if means else NONE)
            figures.append(f"{sum(e.total.short / e.total.batches for e in mine) / len(mine):.1%}")
            body.append(Row(arm.title, "", tuple(map(Cell, figures))))
    columns = ("cross-lingual", "wanted", "monolingual", "cross-lingual", "short")
    spans = (("batches", 1), ("pairs a batch", 3), ("batches", 1))
    return Table("What a batch held", "arm", spans, columns, tuple(body)) if body else None


def _steps_cell(steps: Sequence[float | None], best: bool) -> Cell:
    """Mean steps, and the number of seeds that got there if not all did."""
    reached = sum(value is not None for value in steps)
    note = "" if reached in (0, len(steps)) else f"{reached} of {len(steps)}"
    return Cell(f"{mean_steps(steps):,.0f}" if reached else "never", note, best and not note)


def _write_plots(
    results: Results, macro: Results, metrics: Sequence[str], folder: Path
) -> dict[str, list[Picture]]:
    """Draw, save and inline every plot; section name -> its pictures."""
    folder.mkdir(exist_ok=True)
    sections: dict[str, list[Picture]] = {}

    def add(section: str, name: str, alt: str, draw: Callable[[Theme], Figure | None]) -> None:
        urls = []
        for theme in THEMES:
            figure = draw(theme)
            if figure is None:
                return
            png = png_bytes(figure)
            with write_atomically(folder / f"{name}{theme.suffix}.png") as temporary:
                temporary.write_bytes(png)
            urls.append("data:image/png;base64," + base64.b64encode(png).decode("ascii"))
            width, height = (round(100 * inches) for inches in figure.get_size_inches())
        sections.setdefault(section, []).append(Picture(alt, urls[0], urls[1], width, height))

    for metric in metrics:
        for setting in SETTINGS:
            name, what = f"{setting}-{_slug(metric)}", f"{metric}, {setting} setting"
            curves = partial(learning_curves, macro, setting, metric)
            add("curves", f"learning-curves-{name}", f"Learning curves: {what}, a line an arm", curves)
            finals = partial(final_values, macro, setting, metric)
            add("finals", f"final-{name}", f"Final {what}, by arm, plain and centred", finals)
    for metric in BIAS_METRICS:
        bias = partial(final_values, macro, "multilingual", metric)
        add("bias", f"bias-{_slug(metric)}", f"Language bias by arm: {metric}", bias)
    _add_heat_maps(results, metrics, add)
    return sections


def _add_heat_maps(results: Results, metrics: Sequence[str], add: Callable[..., None]) -> None:
    """The language pairs at the best arm, and their difference from the first arm."""
    best = best_arm(results, "cross-lingual", "all", metrics[0]) if metrics else None
    if best is None:
        return
    rows = results.select(split="test", centring="none", metric=metrics[0], setting=SETTINGS[:2])
    tiers = results.language_tiers()
    values = rows.pair_means(arm=best)
    title = f"{metrics[0]} at {best.called}"
    add("pairs", "language-pairs", f"{title} by language pair", partial(pair_heat_map, values, tiers, title))
    first = results.arms[0]
    if best == first:
        return
    before = rows.pair_means(arm=first)
    change = {pair: values[pair] - before[pair] for pair in values.keys() & before.keys()}
    name = f"{best.called} minus {first.called}"
    difference = partial(pair_heat_map, change, tiers, f"Difference: {name}", diverging=True)
    add("pairs", "language-pairs-difference", f"{metrics[0]} by language pair, {name}", difference)


def _slug(name: str) -> str:
    """A metric's name in a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "metric"
