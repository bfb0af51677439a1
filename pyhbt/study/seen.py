"""What arms saw in training, and which comparisons of arms rest on different exposure.

A tier is of the data; whether an arm was trained on a language is of the arm. Where the data have no monolingual pairs
of a language, an arm without cross-lingual batches never draws it, and one of cross-lingual batches alone may never
draw queries of another. Arms are of equal exposure in an endpoint if they drew the same of its languages, queries as
queries and passages as passages; a comparison of others mixes the ratio with having seen a language at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pyhbt.evaluation.names import ALL_LANGUAGES
from pyhbt.study.arms import Arm
from pyhbt.study.cells import read_exposure
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.results import Results
from pyhbt.study.tuning import study_cells
from pyhbt.training.exposure import Exposure


@dataclass(frozen=True)
class Seen:
    """Languages that an arm drew in every seed, as those of queries and as those of passages."""

    queries: frozenset[str]
    passages: frozenset[str]

    @property
    def languages(self) -> frozenset[str]:
        """Drawn at all."""
        return self.queries | self.passages

    def of(
        self, queries: Collection[str], passages: Collection[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Which of these languages were drawn, each in its role."""
        return self.queries & frozenset(queries), self.passages & frozenset(passages)

    def unseen(self, queries: Collection[str], passages: Collection[str]) -> list[str]:
        """In words: which of these languages were never drawn, at all or in their role; in alphabetical order."""
        never = sorted({*queries, *passages} - self.languages)
        parts = [f"{_listed(never)} unseen by this arm"] if never else []
        for role, wanted, drawn in (
            ("queries", queries, self.queries),
            ("passages", passages, self.passages),
        ):
            missing = sorted(frozenset(wanted) & self.languages - drawn)
            if missing:
                parts.append(f"{_listed(missing)} never drawn as {role} by this arm")
        return parts


class Exposures:
    """What every arm of a study saw, against what its endpoints are of.

    Args:
        results: of the study, with rows of language pairs.
        cells: by arm and seed; empty for studies that do not say.
    """

    def __init__(self, results: Results, cells: Mapping[Arm, Mapping[int, Exposure]]) -> None:
        self.cells = cells
        self._results = results
        self._kept: dict[tuple[str, str, str], tuple[tuple[str, str], ...]] = {}
        self._pools: dict[str, frozenset[str]] = {}
        self._signatures: dict[tuple[tuple[str, str, str], Arm], tuple[object, ...] | None] = {}

    def seen(self, arm: Arm) -> Seen | None:
        """The languages that an arm drew; None where its cells do not say."""
        found = self.cells.get(arm)
        if not found:
            return None
        queries = [frozenset(exposure.languages_as_queries) for exposure in found.values()]
        passages = [frozenset(exposure.languages_as_passages) for exposure in found.values()]
        return Seen(frozenset.intersection(*queries), frozenset.intersection(*passages))

    def same(self, endpoint: EndpointName, first: Arm, second: Arm) -> bool:
        """Whether two arms are of equal exposure in an endpoint; so where cells do not say.

        An arm that changes ``steps`` had other means, and is equal to those of the same steps alone.
        """
        if first.steps != second.steps:
            return False
        one, other = self._drawn(endpoint, first), self._drawn(endpoint, second)
        return one is None or other is None or one == other

    def unseen(self, endpoint: EndpointName, arm: Arm) -> list[str]:
        """In words: what of an endpoint's languages an arm never drew, of those that another arm drew; other steps."""
        steps = [] if arm.steps is None else [f"trained for {arm.steps} steps"]
        mine = self.seen(arm)
        if mine is None:
            return steps
        others = [seen for other in self.cells if (seen := self.seen(other)) is not None]
        queries = frozenset[str]().union(*(seen.queries for seen in others))
        passages = frozenset[str]().union(*(seen.passages for seen in others))
        blocks = self._blocks(endpoint)
        asked = frozenset[str]().union(*(block.queries for block in blocks))
        answered = frozenset[str]().union(*(block.passages for block in blocks))
        return steps + mine.unseen(asked & queries, answered & passages)

    def comparable(self, endpoint: EndpointName, arms: Sequence[Arm]) -> list[Arm]:
        """The most arms that are all of equal exposure in an endpoint; of sets of one size, that of the first arm."""
        classes: list[list[Arm]] = []
        for arm in arms:
            for members in classes:
                if self.same(endpoint, members[0], arm):
                    members.append(arm)
                    break
            else:
                classes.append([arm])
        return max(classes, key=len) if classes else []

    def pairs_of(self, endpoint: EndpointName) -> tuple[tuple[str, str], ...]:
        """The (query language, passage language) that an endpoint is a mean over; ``*`` is a pool of all."""
        key = (endpoint.split, endpoint.setting, endpoint.tier)
        if key not in self._kept:
            chosen = self._results.select(split=endpoint.split, setting=endpoint.setting)
            if endpoint.tier != "all":
                chosen = chosen.select(tier=endpoint.tier)
            self._kept[key] = tuple(chosen.distinct_pairs())
        return self._kept[key]

    def _drawn(self, endpoint: EndpointName, arm: Arm) -> tuple[object, ...] | None:
        """What an arm drew of the languages of each pair of an endpoint; None where its cells do not say."""
        key = (endpoint.split, endpoint.setting, endpoint.tier), arm
        if key not in self._signatures:
            seen = self.seen(arm)
            drawn = None if seen is None else tuple(seen.of(*block) for block in self._blocks(endpoint))
            self._signatures[key] = drawn
        return self._signatures[key]

    def _blocks(self, endpoint: EndpointName) -> list[_Block]:
        """The languages of these pairs."""
        if endpoint.split not in self._pools:
            passages = (passage for _, passage in self._results.select(split=endpoint.split).distinct_pairs())
            self._pools[endpoint.split] = frozenset(passages) - {ALL_LANGUAGES}
        pool = self._pools[endpoint.split]
        return [
            _Block(frozenset({query}), pool if passage == ALL_LANGUAGES else frozenset(passage.split("+")))
            for query, passage in self.pairs_of(endpoint)
        ]


class _Block(NamedTuple):
    """Languages of the queries and of the passages of a part of an endpoint."""

    queries: frozenset[str]
    passages: frozenset[str]


def load_exposures(out: Path, results: Results) -> Exposures:
    """What the cells of a study say that they saw."""
    found: dict[Arm, dict[int, Exposure]] = {}
    for cell, folder in study_cells(out).items():
        exposure = read_exposure(folder)
        if exposure is not None:
            found.setdefault(cell.arm, {})[cell.seed] = exposure
    return Exposures(results, found)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
