"""Pages and figures of the studies whose rows lie here: ``python docs/results/build.py [--check]``.

NAME.tar.xz holds the cells of a study, without encoders and training logs. From each come NAME.md (the short answer and
its tables) and figures in docs/images. ``--check`` writes nothing, and fails where a page differs from what its rows
say.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyhbt.study.analysis import Analysis, analyse
from pyhbt.study.findings import short_answer
from pyhbt.study.report import write_report
from pyhbt.study.report.design import exposure_table
from pyhbt.study.report.quality import bias_table, quality_table
from pyhbt.study.report.response import needed_table, response_table
from pyhbt.study.report.speed import targets_table
from pyhbt.study.report.tables import Table
from pyhbt.study.rows import collect

HERE = Path(__file__).parent
TITLES = {"embedded": "The embedded study", "xquad-r": "XQuAD-R", "afriqa": "AfriQA"}
FIGURES = {
    "learning-curves": "learning-curves-cross-lingual-recall-10",
    "response": "response-cross-lingual-recall-10",
    "front": "front-recall-10",
}


def page(name: str, analysis: Analysis) -> str:
    """The page of a study."""
    command = str(analysis.config.get("command", ""))
    ran = analysis.config.get("environment", {})
    lines = [
        f"# {TITLES.get(name, name)}",
        "",
        f"Made by `python docs/results/build.py` from the rows in `docs/results/{name}.tar.xz`, which are of",
        "",
        "<!-- not run: it takes long; CI repeats what is made of its rows -->",
        "```sh",
        command,
        "```",
        "",
        f"on {ran.get('device', 'cpu')} with torch {ran.get('torch', '')}. The archive unpacks to a study's folder: "
        "`pyhbt report FOLDER` writes the whole report.",
        "",
    ]
    for finding in short_answer(analysis):
        lines += [f"## {finding.heading}", "", *(f"* {sentence}" for sentence in finding.sentences), ""]
    for figure in FIGURES:
        if (HERE.parent / "images" / f"{name}-{figure}.png").is_file():
            lines += [f"![{figure} of {TITLES.get(name, name)}](../images/{name}-{figure}.png)", ""]
    tables = [
        *(quality_table(analysis, metric) for metric in analysis.metrics),
        bias_table(analysis, "Language bias", ("rank distance", "top-1 in query language", "MRC@10")),
        response_table(analysis),
        targets_table(analysis),
        exposure_table(analysis),
        needed_table(analysis),
    ]
    for table in tables:
        if table is not None:
            lines += [f"## {table.title}", "", *_markdown(table), ""]
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ").rstrip() + "\n"


def _markdown(table: Table) -> Iterator[str]:
    """The table with one line of headings."""
    names = [name for name, span in table.spans for _ in range(span)]
    heads = [f"{name} {column}".strip() for name, column in zip(names, table.columns, strict=True)]
    yield "| " + " | ".join([table.corner, "", *heads]) + " |"
    yield "|" + "---|" * (len(heads) + 2)
    for row in table.rows:
        cells = [
            f"**{cell.text}**" if cell.strong else f"{cell.text} ({cell.note})" if cell.note else cell.text
            for cell in row.cells
        ]
        yield "| " + " | ".join([row.head, row.sub, *cells]) + " |"
    yield from ("", *(note for note in table.notes)) if table.notes else ()


def main() -> int:
    """Build all pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a page is out of date"
    )
    options = parser.parse_args()
    stale = []
    for archive in sorted(HERE.glob("*.tar.xz")):
        name = archive.name.removesuffix(".tar.xz")
        with tempfile.TemporaryDirectory() as scratch:
            with tarfile.open(archive) as packed:
                packed.extractall(scratch, filter="data")
            folder = Path(scratch) / name
            collect(folder)
            analysis = analyse(folder)
            if not options.check:
                write_report(folder, analysis)
                for figure, plot in FIGURES.items():
                    for theme in ("", "-dark"):
                        made = folder / "plots" / f"{plot}{theme}.png"
                        if made.is_file():
                            shutil.copyfile(made, HERE.parent / "images" / f"{name}-{figure}{theme}.png")
            text = page(name, analysis)
        target = HERE / f"{name}.md"
        if options.check and target.read_text(encoding="utf-8") != text:
            stale.append(target.name)
        elif not options.check:
            target.write_text(text, encoding="utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}: run python docs/results/build.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
