"""Error rates on LASER's Tatoeba test, cosine beside margins: ``python -m benches.bitext ENCODER``.

The test is read from tatoeba-v1/, in the folder that PYHBT_DATA names (XXX-eng.tsv as LASER publishes it, all pairs of
a language). Rows go to benches/results/bitext.csv, and from there to the table of docs/guides/bitext.md. Both sides
have the prefix "query: ", as E5 wants it of texts that are alike.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from pyhbt import load_encoder
from pyhbt.data.records import columns, read_lines
from pyhbt.encoders import Encoder
from pyhbt.mining import bitext_error_rates
from pyhbt.mining.margins import Margin

from .rows import RESULTS, commit, read_rows, write_rows
from .tables import markdown

LANGUAGES = ("amh", "ara", "cmn", "deu", "eus", "hin", "jpn", "kab", "rus", "spa", "swh", "tgl", "tur", "vie")
MARGINS: tuple[Margin, ...] = ("absolute", "ratio", "distance")
K = 4
FILE = RESULTS / "bitext.csv"
PAGE = Path(__file__).parents[1] / "docs" / "guides" / "bitext.md"


@dataclass(frozen=True)
class Row:
    """Sentences of one language and of English whose best match by one margin is not their translation."""

    language: str
    pairs: int
    margin: str
    k: int
    to_english_errors: int
    from_english_errors: int
    encoder: str
    commit: str


def measure(encoder: Encoder, name: str, language: str, file: Path) -> list[Row]:
    """All margins of one language."""
    pairs = [columns(where, line, ("source", "target")) for where, line in read_lines(file)]
    sources, targets = (encoder.encode(side, "query", progress=True) for side in zip(*pairs, strict=True))
    found = []
    for margin in MARGINS:
        rates = bitext_error_rates(sources, targets, k=K, margin=margin)
        counts = rates.forward_errors, rates.backward_errors
        found.append(Row(language, rates.pairs, margin, K, *counts, name, commit()))
    return found


def table(rows: list[dict[str, str]]) -> str:
    """Errors in per cent, to English / from English."""
    body = []
    for language in dict.fromkeys(row["language"] for row in rows):
        cells = {row["margin"]: row for row in rows if row["language"] == language}
        pairs = cells[MARGINS[0]]["pairs"]
        body.append([language, f"{int(pairs):,}", *(_rates([cells[margin]]) for margin in MARGINS)])
    means = [_rates([row for row in rows if row["margin"] == margin]) for margin in MARGINS]
    return markdown(["language", "pairs", "cosine", "ratio", "distance"], [*body, ["mean", "", *means]])


def _rates(rows: list[dict[str, str]]) -> str:
    shares = [
        sum(int(row[f"{way}_english_errors"]) / int(row["pairs"]) for row in rows) / len(rows)
        for way in ("to", "from")
    ]
    return " / ".join(f"{100 * share:.1f}" for share in shares)


def write_table() -> None:
    """Put the rows into the guide, between its markers."""
    page = PAGE.read_text(encoding="utf-8")
    filled = rf"\g<1>\n{table(read_rows(FILE))}\n\n\g<2>"
    page, found = re.subn(r"(<!-- tatoeba -->\n).*?(<!-- /tatoeba -->)", filled, page, flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"{PAGE}: found {found} blocks for tatoeba, expected 1")
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoder", help="folder or hub name")
    parser.add_argument("--name", help="what the rows call it; default: the last part of encoder")
    options = parser.parse_args()
    folder = Path(os.environ["PYHBT_DATA"]) / "tatoeba-v1"
    name = options.name or Path(options.encoder).name
    encoder = load_encoder(options.encoder, query_prefix="query: ")
    rows = [
        row
        for language in LANGUAGES
        for row in measure(encoder, name, language, folder / f"{language}-eng.tsv")
    ]
    write_rows(FILE, rows, list(asdict(rows[0])))
    write_table()


if __name__ == "__main__":
    main()
