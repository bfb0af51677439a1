"""Scores of one encoder on one retrieval set, by language pair, and the means made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyhbt.arguments import check_choice
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import Tier
from pyhbt.evaluation.names import ALL_LANGUAGES, ALL_SETTINGS, ALL_TIERS, BIAS_METRICS, Centring, Setting

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Block:
    """Scores of the queries of one language against one pool.

    ``passage_lang`` is ``"*"`` in the multilingual setting, ``L+PIVOT`` in that of two languages. ``queries`` int64
    (b,) are positions in the retrieval set, ``values[metric]`` float64 (b,) their scores, NaN where a measure is
    undefined for a query; ``means[metric]`` is the mean over the others, NaN if there are none.
    """

    setting: Setting
    query_lang: str
    passage_lang: str
    tier: Tier
    queries: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    means: Mapping[str, float]

    def __repr__(self) -> str:
        means = ", ".join(f"{metric} {mean:.4f}" for metric, mean in self.means.items())
        place = f"{self.setting}, {self.query_lang} -> {self.passage_lang}"
        return f"Block({place}, {len(self.queries):,} queries: {means})"


@dataclass(frozen=True)
class MeanScore:
    """One mean: of a block, or (``query_lang == passage_lang == "*"``) a macro mean over the blocks of a tier."""

    setting: Setting
    query_lang: str
    passage_lang: str
    tier: str
    metric: str
    value: float


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Per-query scores of one encoder on one retrieval set, by language pair."""

    data: RetrievalSet
    centring: Centring
    blocks: tuple[Block, ...]

    def macro(self, setting: Setting, metric: str, tier: str = "all") -> float:
        """Macro mean over the languages or language pairs of a tier; NaN if it has none.

        Raises:
            ValueError: a setting, metric or tier of which there is none.
        """
        check_choice("setting", setting, ALL_SETTINGS)
        check_choice("tier", tier, ALL_TIERS)
        measured = dict.fromkeys(name for block in self.blocks for name in block.means)
        if self.blocks and metric not in BIAS_METRICS:
            check_choice("metric", metric, measured)
        means = [
            block.means[metric]
            for block in self.blocks
            if block.setting == setting and tier in ("all", block.tier) and metric in block.means
        ]
        return _mean_of_defined(np.array(means))

    def __repr__(self) -> str:
        place = f"{self.data!r}, centring {self.centring!r}, {len(self.blocks)} language pairs"
        return f"Evaluation({place}: {self._shown()})"

    def _shown(self) -> str:
        """The first measure in every setting, in words."""
        firsts = {mean.setting: mean for mean in reversed(list(self.macro_means())) if mean.tier == "all"}
        return ", ".join(
            f"{mean.setting} {mean.metric} {mean.value:.4f}" for mean in reversed(firsts.values())
        )

    def _repr_html_(self) -> str:
        """The macro means over all tiers as a table, for notebooks."""
        frame = self.to_pandas()
        frame = frame[
            (frame.query_lang == ALL_LANGUAGES)
            & (frame.passage_lang == ALL_LANGUAGES)
            & (frame.tier == "all")
        ]
        table = frame.pivot(index="metric", columns="setting", values="value")
        return f"<p>{escape(repr(self.data))}</p>{table.to_html(na_rep='', float_format='{:.4f}'.format)}"

    def to_pandas(self) -> pd.DataFrame:
        """One row a mean, with the fields of :class:`MeanScore`: of every tier first, then of every language pair.

        Raises:
            ImportError: pandas is missing.
        """
        import pandas as pd

        rows = [asdict(mean) for means in (self.macro_means(), self.pair_means()) for mean in means]
        return pd.DataFrame(rows, columns=[field.name for field in fields(MeanScore)])

    def macro_means(self) -> Iterator[MeanScore]:
        """Macro means of every setting, tier and metric that the data has."""
        for setting in ALL_SETTINGS:
            present = [block for block in self.blocks if block.setting == setting]
            tiers = np.array([block.tier for block in present])
            for metric in present[0].means if present else ():
                means = np.array([block.means[metric] for block in present])
                for tier in ALL_TIERS:
                    value = _mean_of_defined(means if tier == "all" else means[tiers == tier])
                    if not np.isnan(value):
                        yield MeanScore(setting, ALL_LANGUAGES, ALL_LANGUAGES, tier, metric, value)

    def pair_means(self, metrics: Sequence[str] | None = None) -> Iterator[MeanScore]:
        """Mean of every language or language pair, for the metrics named or all."""
        for block in self.blocks:
            for metric, value in block.means.items():
                if (metrics is None or metric in metrics) and not np.isnan(value):
                    yield MeanScore(
                        block.setting, block.query_lang, block.passage_lang, block.tier, metric, value
                    )

    def influences(
        self, metrics: Sequence[str] | None = None
    ) -> tuple[tuple[str, ...], dict[str, NDArray[np.float64]]]:
        """How much each cluster of queries moves each macro mean: what intervals and tests over queries are made of.

        With B blocks, of which block b has the mean m_b over its n_b queries that the measure is defined for, a cluster
        c has the influence z_c = sum over b and over its queries q in b of (score_q - m_b) / (B n_b): the macro mean,
        a sum of ratios, linearised (Taylor series under cluster sampling: Wolter 2007, doi:10.1007/978-0-387-35099-8,
        chapter 6). They sum to 0, and those of two encoders on the same data differ by the influences on the
        difference of their macro means.

        Returns:
            The clusters (c,) and, for each ``"setting/tier/metric"`` that has a macro mean, float64 (c,). O(scores).
        """
        names = self.data.cluster_names
        clusters = tuple(dict.fromkeys(names))
        number = {cluster: index for index, cluster in enumerate(clusters)}
        of_query = np.array([number[name] for name in names], dtype=np.int64)
        found: dict[str, NDArray[np.float64]] = {}
        for setting, blocks in groupby(self.blocks, key=lambda block: block.setting):
            chosen = list(blocks)
            wanted = chosen[0].values if metrics is None else metrics
            units = of_query[np.concatenate([block.queries for block in chosen])]
            for metric in wanted:
                for tier, sums in _moved(chosen, metric, units, len(clusters)).items():
                    found[f"{setting}/{tier}/{metric}"] = sums
        return clusters, found


def _moved(
    blocks: Sequence[Block], metric: str, units: NDArray[np.int64], size: int
) -> dict[str, NDArray[np.float64]]:
    """By tier that has a macro mean over the blocks, how much each unit moves it, (size,)."""
    values = np.concatenate([block.values[metric] for block in blocks])
    lengths = [len(block.queries) for block in blocks]
    means = np.array([block.means[metric] for block in blocks])
    tier = np.array([ALL_TIERS.index(block.tier) for block in blocks])
    known = ~np.isnan(values)
    block = np.repeat(np.arange(len(blocks)), lengths)[known]
    share = (values[known] - means[block]) / np.bincount(block, minlength=len(blocks))[block]
    cell = tier[block] * size + units[known]
    sums = np.bincount(cell, weights=share, minlength=len(ALL_TIERS) * size).reshape(-1, size)
    defined = np.bincount(tier[~np.isnan(means)], minlength=len(ALL_TIERS))
    moved = {"all": sums.sum(axis=0) / defined.sum()} if defined.any() else {}
    return moved | {
        name: sums[number] / count
        for number, (name, count) in enumerate(zip(ALL_TIERS, defined, strict=True))
        if count
    }


def _mean_of_defined(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
