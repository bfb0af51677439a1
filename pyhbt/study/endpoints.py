"""Endpoints: what a study's arms are compared in, such as ``cross-lingual recall@10, low-resource``.

An endpoint is a macro mean over language pairs (in the multilingual setting, over query languages) of one metric, in
one setting and one tier of languages. Imports nothing heavy.
"""

from __future__ import annotations

from typing import NamedTuple

from pyhbt.arguments import check_choice
from pyhbt.evaluation.names import ALL_SETTINGS, ALL_TIERS, BIAS_METRICS


class EndpointName(NamedTuple):
    """An endpoint by name; ``split`` says of which test set, ``centring`` of which embeddings."""

    setting: str
    metric: str
    tier: str = "all"
    centring: str = "none"
    split: str = "test"

    @classmethod
    def parse(cls, text: str) -> EndpointName:
        """An endpoint from ``SETTING METRIC`` or ``SETTING METRIC, TIER``.

        Raises:
            ValueError: it is none.
        """
        from pyhbt.evaluation.metrics import measure  # needs numpy and scipy, which names alone do not

        what, _, tier = (part.strip() for part in str(text).partition(","))
        setting, _, metric = what.partition(" ")
        metric = metric.strip()
        if setting not in ALL_SETTINGS or not metric:
            raise ValueError(
                f"primary: found {text!r}, expected SETTING METRIC, TIER such as "
                f"'cross-lingual recall@10, low-resource'; settings are {', '.join(ALL_SETTINGS)}"
            )
        if tier:
            check_choice("primary: tier", tier, ALL_TIERS)
        if metric not in BIAS_METRICS:
            measure(metric)
        elif setting != "multilingual":
            raise ValueError(f"primary: found {text!r}, expected {metric} in the multilingual setting")
        return cls(setting, metric, tier or "all")

    @property
    def text(self) -> str:
        """What :meth:`parse` reads back."""
        return f"{self.setting} {self.metric}" + ("" if self.tier == "all" else f", {self.tier}")

    @property
    def key(self) -> str:
        """Its name among the influences of a cell: ``centring/setting/tier/metric``."""
        return f"{self.centring}/{self.setting}/{self.tier}/{self.metric}"
