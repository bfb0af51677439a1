"""What a study's folder says, read once and worked out once: figures for the short answer, the tables and the plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from pyhbt.evaluation.names import ALL_TIERS, LOWER_IS_BETTER, headline_metrics
from pyhbt.options import read_config
from pyhbt.study.arms import Arm
from pyhbt.study.comparisons import Comparison, Comparisons, compare_arms, testable
from pyhbt.study.endpoints import EndpointName
from pyhbt.study.results import Results, load_results
from pyhbt.study.scores import Scores, load_scores
from pyhbt.study.seen import Exposures, load_exposures
from pyhbt.study.statistics.multiple import BestArms, not_worse
from pyhbt.study.statistics.noninferiority import NonInferiority, non_inferior
from pyhbt.study.statistics.response import Response, fit

DEFAULT_MARGIN: Final = 0.01
_FEWEST_RATIOS: Final = 3  # that a response is fitted to


@dataclass(frozen=True)
class Analysis:
    """A study, analysed.

    ``data`` is what OUT/data.json says of the data, ``config`` what OUT/config.yaml says; {} where a study left none.
    """

    results: Results
    scores: Scores
    exposures: Exposures
    primary: EndpointName
    margin: float
    config: dict[str, Any]
    data: dict[str, Any]

    @cached_property
    def macro(self) -> Results:
        """The rows of macro means, which most figures are made of."""
        return self.results.macro()

    @cached_property
    def comparisons(self) -> Comparisons:
        """Of every arm with the reference, in every endpoint."""
        return compare_arms(self.scores, self.exposures, self.primary)

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics that tables are made of, that of the primary endpoint first."""
        quality = headline_metrics(self.scores.metrics())
        return list(dict.fromkeys([self.primary.metric, *quality])) if self._primary_measured else quality

    @cached_property
    def _primary_measured(self) -> bool:
        return self.primary in self.scores.endpoints

    @cached_property
    def comparable(self) -> list[Arm]:
        """Arms that may be compared in the primary endpoint: those of equal exposure there."""
        return self.exposures.comparable(self.primary, self.scores.measured(self.primary))

    @property
    def reference(self) -> Arm | None:
        """The first of them: the lowest ratio."""
        return self.comparable[0] if self.comparable else None

    @cached_property
    def chosen(self) -> Arm | None:
        """The one of them that is best on the dev set at the end of training, in the primary endpoint."""
        finals = {arm: self._final_on_dev(arm) for arm in self.comparable}
        known = {arm: value for arm, value in finals.items() if not math.isnan(value)}
        if not known:
            return None
        choose = min if self.primary.metric in LOWER_IS_BETTER else max
        return choose(known, key=known.__getitem__)

    @cached_property
    def dev_tier(self) -> str:
        """The tier that arms are chosen in: that of the primary endpoint, or "all" where the dev set lacks it."""
        rows = self.macro.select(split="dev", setting=self.primary.setting, metric=self.primary.metric)
        return self.primary.tier if self.primary.tier in rows.distinct("tier") else "all"

    def _final_on_dev(self, arm: Arm) -> float:
        curves = self.macro.curves(
            arm=arm,
            setting=self.primary.setting,
            metric=self.primary.metric,
            centring="none",
            tier=self.dev_tier,
        )
        return float(np.mean([values[-1] for _, values in curves.values()])) if curves else math.nan

    def tiers(self) -> list[str]:
        """Tiers of the primary endpoint's setting, "all" among them."""
        found = self.scores.tiers(self.primary.setting, self.primary.metric, self.primary.split)
        return [tier for tier in ALL_TIERS if tier in found]

    def endpoint(self, **changes: str) -> EndpointName:
        """The primary endpoint with some of its parts changed."""
        return self.primary._replace(**changes)

    def comparison(self, endpoint: EndpointName) -> Comparison | None:
        """Of the chosen arm with the reference."""
        return self.comparisons.find(endpoint, self.chosen) if self.chosen is not None else None

    def best(self, endpoint: EndpointName) -> BestArms | None:
        """The arms of equal exposure that are not worse than the best; None for fewer than two arms."""
        arms = self.exposures.comparable(endpoint, self.scores.measured(endpoint))
        if len(arms) < 2:
            return None
        places = [self.scores.arms.index(arm) for arm in arms]
        lowest = endpoint.metric in LOWER_IS_BETTER
        return not_worse(self.scores.of(endpoint), places, higher_is_better=not lowest)

    def non_inferiority(self, endpoint: EndpointName, reference: Arm, arm: Arm) -> NonInferiority | None:
        """Whether an arm loses less than the margin against a reference; None where that cannot be tested."""
        estimate = self.scores.difference(endpoint, reference, arm)
        if not testable(estimate) or not self.exposures.same(endpoint, reference, arm):
            return None
        return non_inferior(estimate, self.margin)

    def ratios(self, endpoint: EndpointName) -> list[Arm]:
        """The constant ratios of equal exposure in an endpoint, ascending."""
        arms = [arm for arm in self.scores.measured(endpoint) if arm.plain]
        return self.exposures.comparable(endpoint, arms)

    def response(self, endpoint: EndpointName) -> Response | None:
        """The score as a function of the ratio; None for fewer than three ratios of equal exposure."""
        arms = self.ratios(endpoint)
        if len(arms) < _FEWEST_RATIOS:
            return None
        data = self.scores.of(endpoint)
        places = [self.scores.arms.index(arm) for arm in arms]
        chosen = data._replace(means=data.means[places], influences=data.influences[places])
        return fit([arm.ratio.bounds[0] for arm in arms], chosen)

    def losses(self, arm: Arm) -> list[Comparison]:
        """Significant losses of an arm's quality against the reference, plain, all languages first."""
        return [
            comparison
            for comparison in self.comparisons.all
            if comparison.arm == arm
            and comparison.significant
            and comparison.endpoint.centring == "none"
            and comparison.endpoint != self.primary
            and comparison.endpoint.metric in self.metrics
            and comparison.estimate.value < 0
        ]


def analyse(out: Path) -> Analysis:
    """Read a study's folder.

    Raises:
        FileNotFoundError: it has no results.jsonl.
        ValueError: a file is malformed; the message names file, line and field.
    """
    results = load_results(out)
    config = load_config(out)
    options = config.get("config", {})
    scores = load_scores(out, results)
    return Analysis(
        results,
        scores,
        load_exposures(out, results),
        _primary(options, scores),
        float(options.get("margin", DEFAULT_MARGIN)),
        config,
        _load_data(out),
    )


def _primary(options: dict[str, Any], scores: Scores) -> EndpointName:
    if options.get("primary"):
        return EndpointName.parse(options["primary"])
    measured: Sequence[str] = headline_metrics(scores.metrics())
    return EndpointName("cross-lingual", measured[0] if measured else "recall@10")


def load_config(out: Path) -> dict[str, Any]:
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


def _load_data(out: Path) -> dict[str, Any]:
    path = out / "data.json"
    return read_config(path) if path.is_file() else {}
