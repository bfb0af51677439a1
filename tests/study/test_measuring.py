"""What is measured of an encoder on a test set, written as a part of a cell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyhbt.encoders import load_encoder
from pyhbt.evaluation.evaluator import encode_set
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.measuring import Measured
from tests.toy import retrieval_set

CELL = Cell(Arm.parse(0.5), 3)
METRICS = ("mAP", "recall@10", "recall@3")


@pytest.fixture(scope="module")
def measured() -> Measured:
    return Measured("test", retrieval_set(4), METRICS, text=retrieval_set(5))


def test_a_part_is_rows_and_influences(measured: Measured, tmp_path: Path) -> None:
    encoder = load_encoder("ngram")
    measured.write_part(encoder, CELL, 7, tmp_path / "part")
    rows = [json.loads(line) for line in (tmp_path / "part/rows.jsonl").read_text().splitlines()]
    assert {(row["arm"], row["seed"], row["step"], row["split"]) for row in rows} == {("0.5", 3, 7, "test")}
    assert {row["centring"] for row in rows} == {"none", "both", "text"}
    pairs = {row["metric"] for row in rows if row["query_lang"] != "*"}
    assert "recall@10" in pairs
    assert "recall@3" not in pairs  # of pairs, the headline metrics and those of bias alone
    plain = next(iter(measured.evaluations(encoder)))
    queries, passages = encode_set(encoder, measured.data)
    expected = measured._evaluator.evaluate(queries, passages)
    for one, other in zip(plain.blocks, expected.blocks, strict=True):
        assert one.means == pytest.approx(other.means, nan_ok=True)
    with np.load(tmp_path / "part/scores.npz") as scores:
        assert scores["text/cross-lingual/all/mAP"].shape == scores["clusters"].shape


def test_what_a_part_serves(measured: Measured, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    (part / "measured.json").write_text(json.dumps(measured.description))
    assert measured.serves(part)
    assert replace(measured, metrics=METRICS[:1], text=None).serves(part)
    assert not replace(measured, metrics=(*METRICS, "nDCG@3")).serves(part)
    assert not replace(measured, pivot="aa").serves(part)
    assert not replace(measured, text=retrieval_set(6)).serves(part)
    with pytest.raises(FileExistsError, match=r"measured\.json: found test scores on .*, this study has"):
        replace(measured, data=retrieval_set(3)).serves(part)
