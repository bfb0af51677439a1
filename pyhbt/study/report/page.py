"""The report of a ratio study: one self-contained HTML page and its plots.

Reads only what is in the study's folder (results.jsonl, the cells' scores and exposures, config.yaml, data.json,
environment.json, tuning.json); writes OUT/report.html (no script, no outside file; plots inlined for light and dark
pages) and OUT/plots/*.png. Nearly all of its time goes into plots. Text from data sets is escaped by jinja2.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from pyhbt.files import check_folder_target, write_atomically
from pyhbt.study.analysis import Analysis, analyse
from pyhbt.study.cells import damaged, finished_cells
from pyhbt.study.comparisons import LEVEL
from pyhbt.study.convergence import SHARE
from pyhbt.study.findings import short_answer
from pyhbt.study.report.design import (
    coverage_tables,
    exposure_table,
    language_exposure_table,
    tuning_table,
)
from pyhbt.study.report.pictures import write_plots
from pyhbt.study.report.provenance import command, configuration, facts, flatten
from pyhbt.study.report.quality import (
    BIAS_TABLES,
    bias_differences_table,
    bias_table,
    differences_table,
    quality_table,
)
from pyhbt.study.report.response import factor_tables, gain_table, needed_table, response_table
from pyhbt.study.report.speed import speed_table, targets_table
from pyhbt.study.report.tables import CENTRING_NAMES, Table
from pyhbt.study.rows import collect
from pyhbt.study.tuning import choices
from pyhbt.study.words import percent
from pyhbt.visible import visible

logger = logging.getLogger(__name__)

_TEMPLATES: Final = Path(__file__).parent / "templates"


def write_report(out: Path, analysis: Analysis | None = None, *, jobs: int = 1) -> Path:
    """Write report.html and the images in plots/ from the results in ``out``; returns the page's path.

    The study may be unfinished, or run still: OUT/results.jsonl is made of its finished cells first, where it lacks
    one. ``analysis`` is that of ``out``, where it was made before. With ``jobs`` above 1 a second process helps to
    draw; then the program's main module must be importable, as :mod:`multiprocessing` asks.

    Raises:
        FileNotFoundError: ``out`` has neither a finished cell nor results.jsonl.
        ValueError: a file is malformed; the message names file, line and field.
    """
    out = Path(out)
    if out.is_dir():
        check_folder_target("study", out, ("report.html",), ("plots",))
    wrong = damaged(out)
    for folder, fault in wrong.items():
        logger.warning("%s: %s; it does not count, and the study's command makes it again", folder, fault)
    if analysis is None and (wrong or _is_behind(out / "results.jsonl", finished_cells(out).values())):
        collect(out)
    analysis = analysis or analyse(out)
    metrics, config = analysis.metrics, analysis.config
    further = [split for split in analysis.scores.splits if split != "test"]
    html = _environment().get_template("report.html.j2").render(
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        facts=facts(analysis),
        findings=short_answer(analysis),
        quality_tables=[quality_table(analysis, metric) for metric in metrics],
        difference_tables=_differences(analysis),
        further_tables=[
            (split, [quality_table(analysis, metric, split) for metric in metrics], _further(analysis, split))
            for split in further
        ],
        response_table=response_table(analysis),
        factor_tables=factor_tables(analysis),
        gain_table=gain_table(analysis),
        speed_tables=_present(speed_table(analysis, metric) for metric in metrics),
        targets_table=targets_table(analysis),
        exposure_tables=_present([exposure_table(analysis), language_exposure_table(analysis)]),
        meaning_of_ratio=analysis.data.get("meaning_of_ratio", []),
        coverage_tables=coverage_tables(analysis),
        tuning_table=tuning_table(choices(out), analysis.primary.text),
        needed_table=needed_table(analysis),
        bias_tables=_present(bias_table(analysis, *part) for part in BIAS_TABLES.items()),
        pictures=write_plots(analysis, out / "plots", jobs),
        command=command(config),
        configuration=configuration(config),
        environment=list(flatten(config.get("environment", {}))),
        share=percent(SHARE),
        level=LEVEL,
        margin=f"{analysis.margin:g}",
    )  # fmt: skip
    page = out / "report.html"
    with write_atomically(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return page


def _present(tables: Any) -> list[Table]:
    return [table for table in tables if table is not None]


def _is_behind(results: Path, cells: Collection[Path]) -> bool:
    """Whether a cell was finished after the cells were gathered, as where the study was killed or runs still."""
    if not results.is_file():
        return bool(cells)
    return any(cell.stat().st_mtime_ns > results.stat().st_mtime_ns for cell in cells)


def _differences(analysis: Analysis) -> list[tuple[str, list[Table]]]:
    """Tables of differences by centring, plain first."""
    found = []
    for centring, name in CENTRING_NAMES.items():
        quality = [differences_table(analysis, metric, centring) for metric in analysis.metrics]
        bias = [
            bias_differences_table(analysis, title, metrics, centring)
            for title, metrics in BIAS_TABLES.items()
        ]
        if tables := _present([*quality, *bias]):
            found.append((name, tables))
    return found


def _further(analysis: Analysis, split: str) -> list[Table]:
    return _present(differences_table(analysis, metric, "none", split) for metric in analysis.metrics)


def _harmless(value: Any) -> Any:
    """Text of a template's field without control characters and marks of direction; markup of ours has none."""
    return visible(value, keep="\n\t") if type(value) is str else value


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
