"""Puts the measured rows into the docs: ``python -m benches.tables`` rewrites the tables in
docs/how-it-works/performance.md between their markers and draws docs/images/contrastive-share-of-peak.png and
search-speedup.png. What has no rows yet stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from .rows import RESULTS, read_rows

_ROOT = Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "how-it-works" / "performance.md"
_KINDS = {
    "contrastive": "dot product",
    "contrastive_cosine": "cosine",
    "contrastive_symmetric": "symmetric",
}
_LABELS = {"pyhbt": "PyHBT", "torch": "torch eager", "torch-panels": "torch, by panels"}
_SHADES = ("#2f81f7", "#79b8ff", "#1b4f91")
_INK, _GRID = "#1f2328", "#d0d7de"
_DATA = ("real", "gaussian", "real-spectrum")
_SEARCH = ("search", "search_once", "ranks")
_COLORS = {"pyhbt": "#2f81f7", "torch": "#d97706", "torch-panels": "#6e7781"}


def rows(op: str) -> list[dict[str, str]]:
    """The rows of one result file."""
    return read_rows(RESULTS / f"{op}.csv")


def markdown(header: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    lines = [list(header), ["---"] * len(list(header)), *map(list, body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed_table(op: str) -> str:
    """Time of PyHBT, its share of the ceiling, and how much longer each peer takes; in bold where it takes less."""
    measured = rows(op)
    peers = list(dict.fromkeys(row["backend"] for row in measured if row["backend"] != "pyhbt"))
    body = []
    for n, dim in dict.fromkeys((row["n"], row["dim"]) for row in measured):
        cell = {row["backend"]: row for row in measured if (row["n"], row["dim"]) == (n, dim)}
        ours = cell["pyhbt"]
        share = float(ours["gflops"]) / float(ours["ceiling_gflops"])
        ratios = [f"{float(cell[peer]['ratio']):.2f}" if peer in cell else "" for peer in peers]
        ratios = [f"**{x}**" if x and float(x) < 1 else x for x in ratios]  # the peer is the faster
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


def search_cases(op: str) -> list[dict[str, dict[str, str]]]:
    """The rows of each case of search or ranks, by backend; few passages first, then few queries."""
    measured = rows(op)

    def case(row: dict[str, str]) -> tuple[int, ...]:
        return *(int(row[name]) for name in ("m", "n", "dim")), _DATA.index(row["data"]), int(row["k"])

    ordered = sorted(set(map(case, measured)))
    return [{row["backend"]: row for row in measured if case(row) == key} for key in ordered]


def peers_of(cases: Iterable[dict[str, dict[str, str]]]) -> list[str]:
    return list(dict.fromkeys(name for case in cases for name in case if name != "pyhbt"))


def shape(row: dict[str, str]) -> list[str]:
    return [row["data"], *(f"{int(row[name]):,}" for name in ("n", "m")), row["dim"]]


def best_peer(case: dict[str, dict[str, str]]) -> str:
    """The fastest backend that is not ours."""
    return min(
        (name for name in case if not name.startswith("pyhbt")), key=lambda name: float(case[name]["ratio"])
    )


def search_table(op: str) -> str:
    """Time of PyHBT, its shares of the ceilings, and how much longer each peer takes; the best peer in bold."""
    cases = search_cases(op)
    peers = peers_of(cases)
    body = []
    for case in cases:
        ours, best = case["pyhbt"], best_peer(case)
        of_int8 = float(ours["gflops"]) / float(ours["ceiling_int8_gops"])
        of_memory = float(ours["gb_per_s"]) / float(ours["ceiling_gb_per_s"])
        ratios = [f"{float(case[peer]['ratio']):.2f}" if peer in case else "" for peer in peers]
        ratios = [f"**{x}**" if peer == best else x for peer, x in zip(peers, ratios, strict=True)]
        share = [f"{of_int8:.0%}", f"{of_memory:.0%}"]
        body.append([*shape(ours), ours["k"], f"{float(ours['p50_ms']):.4g}", *share, *ratios])
    last = "targets" if op == "ranks" else "k"
    header = ["vectors", "queries", "passages", "dim", last, "ms", "of int8 peak", "of memory peak", *peers]
    return markdown(header, body)


def build_table() -> str:
    """Time and memory of making each index."""
    cases = search_cases("search_build")
    backends = ["pyhbt", *peers_of(cases)]
    body = []
    for case in cases:
        row = case["pyhbt"]
        vectors = f"{4 * int(row['m']) * int(row['dim']) / 2**20:.0f}"
        cells = [
            (f"{float(case[name]['p50_ms']):.4g}", f"{float(case[name]['index_mib']):.0f}")
            if name in case
            else ("", "")
            for name in backends
        ]
        body.append(
            [row["data"], f"{int(row['m']):,}", row["dim"], vectors, *(x for pair in cells for x in pair)]
        )
    columns = [f"{name} {unit}" for name in backends for unit in ("ms", "MiB")]
    return markdown(["vectors", "passages", "dim", "their MiB", *columns], body)


def search_plot() -> str:
    """Times as fast as the best peer, by case and k; returns the line that shows the picture."""
    cases = search_cases("search")
    titles = list(dict.fromkeys(tuple(shape(case["pyhbt"])) for case in cases))
    ks = sorted({int(case["pyhbt"]["k"]) for case in cases})
    height = 0.8 / len(ks)
    figure, axis = plt.subplots(figsize=(9, 1 + 0.5 * len(titles)))
    for case in cases:
        row, best = case["pyhbt"], best_peer(case)
        number, ratio = ks.index(int(row["k"])), float(case[best]["ratio"])
        place = titles.index(tuple(shape(row))) + (number - (len(ks) - 1) / 2) * height
        axis.barh(place, ratio, height * 0.9, color=_SHADES[number % len(_SHADES)])
        axis.text(ratio, place, f" {ratio:.1f}, {best}", va="center", fontsize=6.5, color=_INK)
    for number, k in enumerate(ks):
        axis.barh(0, 0, color=_SHADES[number % len(_SHADES)], label=f"k = {k}")
    axis.axvline(1, color=_INK, linewidth=0.8)
    labels = [f"{n} {'query' if n == '1' else 'queries'}, {m} x {dim}, {data}" for data, n, m, dim in titles]
    axis.set_yticks(range(len(titles)), labels)
    axis.invert_yaxis()
    axis.margins(x=0.2)
    axis.grid(color=_GRID, linewidth=0.6, axis="x")
    axis.set_axisbelow(True)
    axis.tick_params(colors=_INK, labelsize=8)
    for spine in axis.spines.values():
        spine.set_color(_GRID)
    axis.set_xlabel("times as fast as the best peer (named)", color=_INK, fontsize=9)
    axis.legend(
        fontsize=8, frameon=False, labelcolor=_INK, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(ks)
    )
    figure.tight_layout()
    figure.savefig(_ROOT / "docs" / "images" / "search-speedup.png", dpi=130)
    plt.close(figure)
    return (
        "![Times as fast as the best peer, by queries, passages, vectors and k](../images/search-speedup.png)"
    )


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
    """Rewrites docs/how-it-works/performance.md and its pictures."""
    page = _PAGE.read_text(encoding="utf-8")
    tables = {op: speed_table(op) for op in (*_KINDS, "contrastive_frozen")} | {
        "contrastive_memory": memory_table()
    }
    tables |= {op: search_table(op) for op in _SEARCH if rows(op)}
    if rows("search_build"):
        tables["search_build"] = build_table()
    if rows("search"):
        tables["search_speedup"] = search_plot()
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page, found = re.subn(
            pattern, lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}", page, flags=re.DOTALL
        )
        if found != 1:
            raise SystemExit(f"docs/how-it-works/performance.md: found {found} blocks for {name}, expected 1")
    _PAGE.write_text(page, encoding="utf-8")
    plot()


if __name__ == "__main__":
    main()
