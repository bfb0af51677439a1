"""What is worked out of a study's folder: endpoint, reference, the arm chosen on dev, sets and fits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pyhbt.options import write_config
from pyhbt.study.analysis import Analysis, analyse, load_config
from pyhbt.study.arms import Arm
from pyhbt.study.endpoints import EndpointName
from tests.study.synthetic_study import SMALL, Study, write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), SMALL)


def test_the_arm_is_chosen_on_the_dev_set(folder: Path) -> None:
    analysis = analyse(folder)
    finals = {}
    for row in map(json.loads, (folder / "results.jsonl").read_text().splitlines()):
        wanted = ("dev", "cross-lingual", "all", "recall@10", "none", 2000)
        if (
            tuple(row[key] for key in ("split", "setting", "tier", "metric", "centring", "step")) == wanted
            and row["query_lang"] == "*"
        ):
            finals.setdefault(row["arm"], []).append(row["value"])
    best = max(finals, key=lambda arm: np.mean(finals[arm]))
    assert analysis.chosen == Arm.parse(best)
    assert analysis.reference == Arm.parse(0)
    assert analysis.tiers() == ["all", "seen", "low-resource", "zero-shot"]


def test_the_primary_endpoint_and_the_margin_are_the_studys(folder: Path, tmp_path: Path) -> None:
    assert analyse(folder).primary == EndpointName("cross-lingual", "recall@10")
    out = write_study(tmp_path, Study(ratios=(0, 1), languages=("en", "de", "ar")))
    write_config(out / "config.yaml", {"primary": "monolingual mAP, zero-shot", "margin": 0.05}, "a study")
    analysis = analyse(out)
    assert analysis.primary == EndpointName("monolingual", "mAP", "zero-shot")
    assert analysis.margin == 0.05
    assert analysis.metrics == ["mAP", "recall@10"]
    assert analysis.dev_tier == "zero-shot"


def test_fits_need_three_ratios_of_equal_exposure(folder: Path, tmp_path: Path) -> None:
    analysis = analyse(folder)
    response = analysis.response(analysis.primary)
    assert response is not None
    assert response.ratios == (0, 0.25, 0.5, 0.75, 1)
    best = response.best_ratio()
    assert best.low <= 0.6 <= best.high
    few = analyse(write_study(tmp_path, Study(ratios=(0, 1, "linear:0:1"), languages=("en", "de"))))
    assert few.response(few.primary) is None
    assert few.ratios(few.primary) == [Arm.parse(0), Arm.parse(1)]


def test_losses_are_significant_ones_of_quality(folder: Path) -> None:
    analysis = analyse(folder)
    found = analysis.losses(Arm.parse(1))
    assert found
    assert all(one.significant and one.estimate.value < 0 for one in found)
    assert {one.endpoint.setting for one in found} == {"monolingual"}


def test_non_inferiority_is_not_tested_without_seeds(folder: Path, tmp_path: Path) -> None:
    analysis: Analysis = analyse(folder)
    mono = EndpointName("monolingual", "recall@10")
    assert analysis.non_inferiority(mono, Arm.parse(0), Arm.parse(1)) is not None
    few = analyse(write_study(tmp_path, Study(seeds=(0, 1), ratios=(0, 1), languages=("en", "de"))))
    assert few.non_inferiority(mono, Arm.parse(0), Arm.parse(1)) is None
    best = few.best(few.primary)
    assert best is not None
    assert best.members is None


def test_what_was_run(tmp_path: Path) -> None:
    assert load_config(tmp_path) == {}
    (tmp_path / "config.json").write_text('{"command": "x"}')
    assert load_config(tmp_path) == {"command": "x"}
