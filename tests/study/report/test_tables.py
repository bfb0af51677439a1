"""Tables before they are HTML."""

from __future__ import annotations

from pathlib import Path

from pyhbt.evaluation.names import CENTRINGS
from pyhbt.study.analysis import analyse
from pyhbt.study.report.tables import CENTRING_NAMES, setting_tiers, spans_of
from tests.study.synthetic_study import Study, write_study


def test_columns_are_settings_with_their_tiers(tmp_path: Path) -> None:
    shape = Study(ratios=(0, 1), languages=("en", "de"), tiers=("seen", "zero-shot"))
    scores = analyse(write_study(tmp_path, shape)).scores
    columns = setting_tiers(scores, "mAP")
    assert columns[:3] == [("monolingual", tier) for tier in ("all", "seen", "zero-shot")]
    assert spans_of(columns) == (("monolingual", 3), ("cross-lingual", 3), ("multilingual", 3))
    assert setting_tiers(scores, "nDCG@3") == []
    assert spans_of([]) == ()


def test_every_centring_has_a_name() -> None:
    assert set(CENTRING_NAMES) == set(CENTRINGS)
