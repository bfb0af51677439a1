"""What each language gained, against how many examples of it an arm was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyhbt.evaluation.names import ALL_LANGUAGES
from pyhbt.study.analysis import Analysis
from pyhbt.study.statistics.response import Gain, gain_by_amount
from pyhbt.training.exposure import Exposure


@dataclass(frozen=True)
class LanguageGains:
    """By language (n,): training examples of the chosen arm with it, and the gain against the reference."""

    languages: tuple[str, ...]
    examples: NDArray[np.float64]
    gains: NDArray[np.float64]
    line: Gain


def language_gains(analysis: Analysis, metric: str) -> LanguageGains | None:
    """Gain in the cross-lingual setting, mean over the pairs that a language's queries are in; None without both arms.

    Examples are those with the language as that of the query or of the passage, mean over seeds.
    """
    chosen, reference = analysis.chosen, analysis.reference
    if chosen is None or reference is None or chosen == reference:
        return None
    rows = analysis.results.select(
        split=analysis.primary.split, centring="none", metric=metric, setting="cross-lingual"
    )
    after, before = rows.pair_means(arm=chosen), rows.pair_means(arm=reference)
    exposures = list(analysis.exposures.cells.get(chosen, {}).values())
    shared = sorted(pair for pair in after.keys() & before.keys() if ALL_LANGUAGES not in pair)
    languages = tuple(sorted({query for query, _ in shared}))
    if not languages or not exposures:
        return None
    gains = np.array(
        [
            np.mean([after[pair] - before[pair] for pair in shared if pair[0] == language])
            for language in languages
        ]
    )
    examples = np.array([np.mean([_examples(one, language) for one in exposures]) for language in languages])
    return LanguageGains(languages, examples, gains, gain_by_amount(examples, gains))


def _examples(exposure: Exposure, language: str) -> int:
    return sum(count.pairs for pair, count in exposure.languages.items() if language in pair)
