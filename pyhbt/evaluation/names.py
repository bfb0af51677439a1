"""Names that evaluation writes and the report reads: settings, tiers of means, measures of language bias."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

from pyhbt.data.tiers import TIERS

Setting = Literal["monolingual", "cross-lingual", "multilingual", "two-language"]
ALL_SETTINGS: Final[tuple[Setting, ...]] = get_args(Setting)
TWO_LANGUAGE: Final[Setting] = "two-language"
SETTINGS: Final[tuple[Setting, ...]] = ALL_SETTINGS[
    :3
]  # measured always; pools of two languages where asked for

DEFAULT_METRICS: Final = ("mAP", "recall@1", "recall@10", "nDCG@10", "MRR@10")
METRICS_HELP: Final = "Measures, comma-separated: mAP, mAP@k, recall@k, nDCG@k, MRR, MRR@k."

ALL_TIERS: Final = ("all", *TIERS)
ALL_LANGUAGES: Final = "*"  # in the place of a language: a pool of all, or a mean over all

Centring = Literal["none", "passages", "both", "text"]
CENTRINGS: Final[tuple[Centring, ...]] = get_args(Centring)
TEXT_CENTRING: Final[Centring] = "text"  # by the means of other text, which a caller names
STUDY_CENTRINGS: Final[tuple[Centring, ...]] = (
    "none",
    "both",
)  # every figure of a study is given plain and centred

RANK_DISTANCE: Final = "rank distance"
MAX_RANK: Final = "Max@R"
TOP_1_SAME_LANGUAGE: Final = "top-1 in query language"
RANK_CORRELATION_CUTOFF: Final = 10
RANK_CORRELATION: Final = f"MRC@{RANK_CORRELATION_CUTOFF}"
PEER_CUTOFF: Final = 100
PEER: Final = f"PEER@{PEER_CUTOFF}"
FIRST_RELEVANT: Final = "first relevant in query language"
RANK_SHIFT: Final = "rank shift to query language"
GRADED_CUTOFF: Final = 10
GRADED_NDCG: Final = f"language-graded nDCG@{GRADED_CUTOFF}"
FIRST_PLACES: Final = (
    "top-1 right in query language",
    "top-1 right in other language",
    "top-1 wrong in query language",
    "top-1 wrong in other language",
)
RANK_METRICS: Final = (RANK_DISTANCE, MAX_RANK)  # measured in ranks, unbounded, the lower the better
PREFERENCE_METRICS: Final = (FIRST_RELEVANT, RANK_SHIFT, GRADED_NDCG, *FIRST_PLACES)
BIAS_METRICS: Final = (*RANK_METRICS, PEER, TOP_1_SAME_LANGUAGE, RANK_CORRELATION, *PREFERENCE_METRICS)
LOWER_IS_BETTER: Final = RANK_METRICS
HIGHER_IS_BETTER: Final = (PEER, RANK_CORRELATION)  # of the measures of bias; the others have no best end


def headline_metrics(metrics: Iterable[str]) -> list[str]:
    """recall@10 and mAP where they are among ``metrics``; else the first two measures of quality."""
    quality = [metric for metric in metrics if metric not in BIAS_METRICS]
    return [metric for metric in ("recall@10", "mAP") if metric in quality] or quality[:2]
