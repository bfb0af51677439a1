"""Puts the measured rows into the docs: ``python -m benches.tables`` rewrites the tables in docs/performance.md between
their markers and draws docs/images/contrastive-share-of-peak.png.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

_ROOT = Path(__file__).parents[1]
_RESULTS = Path(__file__).parent / "results"
_PAGE = _ROOT / "docs" / "performance.md"
_KINDS = {
    "contrastive": "dot product",
    "contrastive_cosine": "cosine",
    "contrastive_symmetric": "symmetric",
}
_LABELS = {"pyhbt": "PyHBT", "torch": "torch eager", "torch-panels": "torch, by panels"}
_INK, _GRID = "#1f2328", "#d0d7de"
_COLORS = {"pyhbt": "#2f81f7", "torch": "#d97706", "torch-panels": "#6e7781"}


def rows(op: str) -> list[dict[str, str]]:
    """The rows of one result file."""
    with (_RESULTS / f"{op}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def markdown(header: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    lines = [list(header), ["---"] * len(list(header)), *map(list, body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed_table(op: str) -> str:
    """Time of PyHBT, its share of the ceiling, and how much longer each peer takes."""
    measured = rows(op)
    peers = list(dict.fromkeys(row["backend"] for row in measured if row["backend"] != "pyhbt"))
    body = []
    for n, dim in dict.fromkeys((row["n"], row["dim"]) for row in measured):
        cell = {row["backend"]: row for row in measured if (row["n"], row["dim"]) == (n, dim)}
        ours = cell["pyhbt"]
        share = float(ours["gflops"]) / float(ours["ceiling_gflops"])
        ratios = [f"{float(cell[peer]['ratio']):.2f}" if peer in cell else "" for peer in peers]
        body.append([n, dim, f"{float(ours['p50_ms']):.4g}", ours["gflops"], f"{share:.0%}", *ratios])
    return markdown(["n = m", "dim", "ms", "GFLOP/s", "of peak", *peers], body)


def memory_table() -> str:
    """Peak memory above the inputs."""
    measured = rows("contrastive_memory")
    backends = list(dict.fromkeys(row["backend"] for row in measured))
    body = []
    for n, dim in dict.fromkeys((row["n"], row["dim"]) for row in measured):
        cell = {row["backend"]: row["peak_mib"] for row in measured if (row["n"], row["dim"]) == (n, dim)}
        gradients = f"{2 * int(n) * int(dim) * 4 / 2**20:.0f}"
        body.append([n, dim, gradients, *(f"{float(cell[b]):.0f}" if b in cell else "" for b in backends)])
    return markdown(["n = m", "dim", "gradients alone", *backends], body)


def plot() -> None:
    """Share of the multiply-add ceiling by batch size, dim 768."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
    for axis, (op, title) in zip(axes, _KINDS.items(), strict=True):
        for backend, label in _LABELS.items():
            chosen = [row for row in rows(op) if row["backend"] == backend and row["dim"] == "768"]
            sizes = [int(row["n"]) for row in chosen]
            shares = [100 * float(row["gflops"]) / float(row["ceiling_gflops"]) for row in chosen]
            axis.plot(sizes, shares, marker="o", color=_COLORS[backend], label=label)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axis.set_title(title, color=_INK, fontsize=10)
        axis.set_ylim(0, 100)
        axis.grid(color=_GRID, linewidth=0.6)
        axis.tick_params(colors=_INK, labelsize=8)
        for spine in axis.spines.values():
            spine.set_color(_GRID)
        axis.set_xlabel("queries = passages", color=_INK, fontsize=9)
    axes[0].set_ylabel("% of multiply-add ceiling", color=_INK, fontsize=9)
    axes[0].legend(fontsize=8, frameon=False, labelcolor=_INK, loc="lower right")
    figure.tight_layout()
    figure.savefig(_ROOT / "docs" / "images" / "contrastive-share-of-peak.png", dpi=130)
    plt.close(figure)


def main() -> None:
    """Rewrites docs/performance.md and its picture."""
    page = _PAGE.read_text(encoding="utf-8")
    tables = {op: speed_table(op) for op in _KINDS} | {"contrastive_memory": memory_table()}
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page, found = re.subn(
            pattern, lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}", page, flags=re.DOTALL
        )
        if found != 1:
            raise SystemExit(f"docs/performance.md: found {found} blocks for {name}, expected 1")
    _PAGE.write_text(page, encoding="utf-8")
    plot()


if __name__ == "__main__":
    main()
