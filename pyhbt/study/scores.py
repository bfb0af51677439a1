"""Final scores of a study's arms by endpoint, ready for contrasts over seeds and clusters of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.influences import Influences, load_influences
from pyhbt.study.results import Results
from pyhbt.study.statistics.contrasts import Endpoint, Estimate, contrast

_NAMED: Final = ("setting", "metric", "tier", "centring", "split")  # in the order of EndpointName


class Scores:
    """Macro means and influences of a study's cells, aligned by arm, seed and cluster.

    Args:
        results: of the study.
        influences: of each test set, by split; those of a split that is absent count as none.
    """

    def __init__(self, results: Results, influences: Mapping[str, Influences]) -> None:
        finals = [split for split in results.distinct("split") if split.startswith("test")]
        rows = results.macro(split=finals)
        self.arms: tuple[Arm, ...] = tuple(results.arms)
        self.seeds: tuple[int, ...] = tuple(rows.distinct("seed"))
        self._influences = dict(influences)
        self._means = _by_endpoint(rows, self.arms, self.seeds)
        self._kept: dict[EndpointName, Endpoint] = {}

    @property
    def splits(self) -> list[str]:
        """The test sets."""
        return sorted({endpoint.split for endpoint in self._means})

    @property
    def endpoints(self) -> list[EndpointName]:
        """Those that have a final score."""
        return list(self._means)

    def metrics(self, split: str = "test") -> list[str]:
        """What was measured on a test set, in order of the rows."""
        return list(dict.fromkeys(name.metric for name in self._means if name.split == split))

    def tiers(self, setting: str, metric: str, split: str = "test") -> set[str]:
        """Tiers that a metric has in a setting."""
        return {
            name.tier
            for name in self._means
            if (name.setting, name.metric, name.split) == (setting, metric, split)
        }

    def of(self, endpoint: EndpointName) -> Endpoint:
        """Means (a, s), NaN where a cell has none, and influences (a, s, c); c is 0 where the study kept none."""
        if endpoint not in self._kept:
            shape = len(self.arms), len(self.seeds)
            means = self._means.get(endpoint, np.full(shape, np.nan))
            kept = self._influences.get(endpoint.split)
            known = (
                kept.clusters if kept and any(endpoint.key in cell for cell in kept.cells.values()) else ()
            )
            influences = np.full((*shape, len(known)), np.nan)
            for place, arm in enumerate(self.arms):
                for number, seed in enumerate(self.seeds):
                    found = kept.cells.get(Cell(arm, seed), {}).get(endpoint.key) if kept else None
                    if found is not None:
                        influences[place, number] = found
            if known:
                means = np.where(np.isnan(influences).any(axis=2), np.nan, means)
            self._kept[endpoint] = Endpoint(means, influences)
        return self._kept[endpoint]

    def mean(self, endpoint: EndpointName, arm: Arm) -> Estimate:
        """The mean of an arm over seeds."""
        return self.combined(endpoint, {arm: 1.0})

    def difference(self, endpoint: EndpointName, first: Arm, second: Arm) -> Estimate:
        """``second`` minus ``first``, over the seeds that both have."""
        return self.combined(endpoint, {first: -1.0, second: 1.0})

    def combined(self, endpoint: EndpointName, weights: Mapping[Arm, float]) -> Estimate:
        """A linear combination of arms' means."""
        row = np.zeros(len(self.arms))
        for arm, weight in weights.items():
            row[self.arms.index(arm)] = weight
        return contrast(self.of(endpoint), row)

    def measured(self, endpoint: EndpointName) -> list[Arm]:
        """Arms that have the endpoint in any seed."""
        means = self.of(endpoint).means
        return [arm for arm, values in zip(self.arms, means, strict=True) if not np.isnan(values).all()]

    def best(self, endpoint: EndpointName, arms: Sequence[Arm], *, lowest: bool = False) -> Arm | None:
        """The arm of the highest (lowest) mean; the first of equals; None where none has one."""
        means = {arm: self.mean(endpoint, arm).value for arm in self.measured(endpoint) if arm in arms}
        choose = min if lowest else max
        return choose(means, key=means.__getitem__) if means else None


def load_scores(out: Path, results: Results) -> Scores:
    """The scores of a study's folder.

    Raises:
        ValueError: a file of scores is malformed; names it.
    """
    splits = [split for split in results.distinct("split") if split.startswith("test")]
    return Scores(results, {split: load_influences(out, split) for split in splits})


def _by_endpoint(
    rows: Results, arms: Sequence[Arm], seeds: Sequence[int]
) -> dict[EndpointName, NDArray[np.float64]]:
    """Endpoint -> means (a, s). O(rows)."""
    arm_places = {rows.levels["arm"].index(arm): place for place, arm in enumerate(arms)}
    seed_places = {rows.levels["seed"].index(seed): place for place, seed in enumerate(seeds)}
    found: dict[EndpointName, NDArray[np.float64]] = {}
    columns = [[rows.levels[key][code] for code in rows.codes[key]] for key in _NAMED]
    for number, names in enumerate(zip(*columns, strict=True)):
        means = found.setdefault(EndpointName(*names), np.full((len(arms), len(seeds)), np.nan))
        place = arm_places[rows.codes["arm"][number]], seed_places[rows.codes["seed"][number]]
        means[place] = rows.values[number]
    return found
