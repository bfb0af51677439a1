"""Gains by language against training examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyhbt.study.analysis import analyse
from pyhbt.study.gain import language_gains
from tests.study.synthetic_study import SMALL, Study, write_study


def test_gains_are_means_over_the_pairs_of_a_language(tmp_path: Path) -> None:
    analysis = analyse(write_study(tmp_path, SMALL))
    found = language_gains(analysis, "recall@10")
    assert found is not None
    assert found.languages == tuple(sorted(SMALL.languages))
    rows = analysis.results.select(split="test", centring="none", metric="recall@10", setting="cross-lingual")
    after, before = (rows.pair_means(arm=arm) for arm in (analysis.chosen, analysis.reference))
    for language, gain in zip(found.languages, found.gains, strict=True):
        others = [other for other in SMALL.languages if other != language]
        assert gain == pytest.approx(np.mean([after[language, o] - before[language, o] for o in others]))
    examples = dict(zip(found.languages, found.examples, strict=True))
    assert examples["th"] == examples["zu"] == 0
    assert min(examples[language] for language in ("en", "de", "ar", "sw")) > 0
    assert not np.isnan(found.line.slope.mean)


def test_no_gain_without_two_arms(tmp_path: Path) -> None:
    analysis = analyse(write_study(tmp_path, Study(ratios=(0.5,), languages=("en", "de"))))
    assert language_gains(analysis, "recall@10") is None
