"""The study: rows, resume after SIGKILL, configuration checks."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyhbt.evaluation.names import STUDY_CENTRINGS
from pyhbt.files import FolderInUseError, only_writer
from pyhbt.options import build, changed, read_config, read_values
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell, damaged, finished_cells, part_folder, read_exposure
from pyhbt.study.config import StudyConfig
from pyhbt.study.report import write_report
from pyhbt.study.run import run_study
from pyhbt.study.workplace import Progress
from pyhbt.training.config import TrainingConfig
from pyhbt.training.sampling import HybridBatchSampler
from tests.interpreter import FOLDER, command, run_python
from tests.toy import study_data

TRAINING = TrainingConfig.of(steps=6, batch_size=8, learning_rate=0.01, temperature=0.05)
CONFIG = StudyConfig(TRAINING, data="toy", arms=(0.0, 0.5, "linear:0:1"), seeds=(0, 1), eval_every=3)


def read_rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    out = tmp_path_factory.mktemp("study") / "out"
    seen: list[Progress] = []
    run_study(CONFIG, study_data(), out, command="pyhbt study", observe=lambda p: seen.append(replace(p)))
    return out, seen


def test_rows(finished: tuple[Path, list[Progress]]) -> None:
    out, _ = finished
    rows = read_rows(out)
    keys = [
        "arm",
        "seed",
        "step",
        "split",
        "centring",
        "setting",
        "query_lang",
        "passage_lang",
        "tier",
        "metric",
        "value",
    ]
    assert all(list(row) == keys for row in rows)
    for arm, seed in CONFIG.cells:
        seen = [r for r in rows if (r["arm"], r["seed"], r["split"]) == (arm.label, seed, "train")]
        assert {row["metric"] for row in seen} >= {"exposure batches", "exposure examples", "exposure ratio"}
        assert {row["step"] for row in seen if row["metric"] == "exposure examples"} == {3, 6} | (
            {0} & {row["step"] for row in seen}
        )
        for centring in STUDY_CENTRINGS:
            mine = [r for r in rows if (r["arm"], r["seed"], r["centring"]) == (arm.label, seed, centring)]
            mine = [row for row in mine if row["split"] != "train"]
            dev = [row for row in mine if row["split"] == "dev"]
            assert {row["step"] for row in dev} == ({0, 3, 6} if centring == "none" else set())
            if centring == "none":
                assert {(row["query_lang"], row["passage_lang"]) for row in dev} == {("*", "*")}
                assert {row["setting"] for row in dev} == {"monolingual", "cross-lingual", "multilingual"}
                assert {row["tier"] for row in dev} == {"all", "seen", "zero-shot"}
                assert set(CONFIG.metrics) < {row["metric"] for row in dev}
            test = [row for row in mine if row["split"] == "test"]
            assert {row["step"] for row in test} == {6}
            pairs = {(row["query_lang"], row["passage_lang"]) for row in test if row["metric"] == "mAP"}
            langs = ("aa", "bb", "cc")
            assert pairs == {("*", "*")} | {(a, b) for a in langs for b in (*langs, "*")}
            keyed = [
                (
                    r["step"],
                    r["split"],
                    r["setting"],
                    r["query_lang"],
                    r["passage_lang"],
                    r["tier"],
                    r["metric"],
                )
                for r in mine
            ]
            assert len(set(keyed)) == len(keyed)
    unbounded = ("rank distance", "Max@R", "MRC@10")
    bounded = [row for row in rows if row["metric"] not in unbounded and row["split"] != "train"]
    assert all(0 <= row["value"] <= 1 for row in bounded)


def test_every_macro_mean_has_influences(finished: tuple[Path, list[Progress]]) -> None:
    out, _ = finished
    rows = read_rows(out)
    for cell, folder in finished_cells(out).items():
        mine = [row for row in rows if (row["arm"], row["seed"]) == (cell.arm.label, cell.seed)]
        with np.load(part_folder(folder, "test") / "scores.npz") as scores:
            assert len(scores["clusters"]) == 12
            named = {
                f"{row['centring']}/{row['setting']}/{row['tier']}/{row['metric']}"
                for row in mine
                if row["split"] == "test" and row["query_lang"] == row["passage_lang"] == "*"
            }
            assert set(scores.files) - {"clusters"} == named
            for name in named:
                assert scores[name].sum() == pytest.approx(0, abs=1e-9)


def test_progress(finished: tuple[Path, list[Progress]]) -> None:
    _, seen = finished
    assert [p.number for p in seen if p.finished] == list(range(6))
    assert {p.step for p in seen} == set(range(7))
    assert any("cross-lingual recall@10" in p.scores for p in seen)


def test_training_log(finished: tuple[Path, list[Progress]]) -> None:
    out, _ = finished
    lines = (finished_cells(out)[Cell(Arm.parse(0.5), 0)] / "train.jsonl").read_text().splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    assert len(losses) == 6


def test_cells_say_what_their_training_saw(finished: tuple[Path, list[Progress]]) -> None:
    out, _ = finished
    found = finished_cells(out)
    assert found.keys() == set(map(Cell._make, CONFIG.cells))
    for cell, folder in found.items():
        exposure = read_exposure(folder)
        assert exposure is not None
        sampler = HybridBatchSampler(study_data().train, 8, ratio=cell.arm.ratio, steps=6, seed=cell.seed)
        drawn = [sampler.kind(step) for step in range(6)]
        assert {kind: count.batches for kind, count in exposure.kinds.items()} == Counter(drawn)
        assert exposure.total[:3] == (6, 48, 0)
        assert exposure.has_tokens
        assert exposure.total.negatives_per_query == 7


def grown(**changes: Any) -> StudyConfig:
    return replace(CONFIG, arms=(0.5,), seeds=(0,), keep_encoders="all", **changes)


def test_a_study_grows_in_seeds_arms_metrics_and_test_sets(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_study(grown(), study_data(), out)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/rows.jsonl")}
    before = read_rows(out)
    more = replace(grown(), arms=(0.5, 1 / 3), seeds=(0, 1), metrics=(*CONFIG.metrics, "recall@3"))
    run_study(more, study_data(), out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert finished_cells(out).keys() == set(map(Cell._make, more.cells))
    after = read_rows(out)
    former = [
        row for row in after if row["arm"] == "0.5" and row["seed"] == 0 and row["metric"] != "recall@3"
    ]
    assert former == before
    assert {row["arm"] for row in after} == {"0.5", "0.3333333333333333"}
    assert {
        (row["arm"], row["seed"]) for row in after if row["metric"] == "recall@3" and row["split"] == "test"
    } == {(arm.label, seed) for arm, seed in more.cells}
    fewer = read_config(out / "config.yaml")
    run_study(grown(), study_data(), out)  # what is there stays, and stays in the configuration
    assert read_config(out / "config.yaml")["arms"] == fewer["arms"]
    assert read_rows(out) == after


def test_an_average_of_two_arms_is_not_trained(tmp_path: Path) -> None:
    config = replace(CONFIG, arms=(0.0, 1.0, "average:0+1@0.5"), seeds=(0,))
    run_study(config, study_data(), tmp_path)
    cells = finished_cells(tmp_path)
    average = Arm.parse("average:0+1@0.5")
    seen = read_exposure(cells[Cell(average, 0)])
    assert seen is not None
    assert seen.total.pairs == 2 * 48
    assert {row["arm"] for row in read_rows(tmp_path)} == {"0", "1", average.label}


def test_a_pivot_without_passages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pivot: found 'xx', expected a language of test's passages: aa"):
        run_study(replace(CONFIG, pivot="xx"), study_data(), tmp_path)
    assert not (tmp_path / "cells").exists()


def test_a_batch_size_that_cannot_be_filled_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arms = (0.0, 0.5, "0.5+batch-size=8")
    wide = replace(CONFIG, training=changed(TRAINING, steps=1, batch_size=500), arms=arms, seeds=(0, 1))
    run_study(wide, study_data(), tmp_path)
    texts = [row.getMessage() for row in caplog.records if "batch_size" in row.getMessage()]
    assert [text.partition(", but")[0] for text in texts] == [
        "ratio 0: batch_size: found 500",
        "ratio 0.5: batch_size: found 500",
    ]
    assert "aa-bb 59" in texts[1]  # of 60, of which two have the same words


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(FolderInUseError, match="is being written by process"):
        run_study(CONFIG, study_data(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_study_is_left_alone(finished: tuple[Path, list[Progress]]) -> None:
    out, _ = finished
    before = (out / "results.jsonl").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/rows.jsonl")}

    def never(progress: Progress) -> None:
        raise AssertionError(progress)

    run_study(CONFIG, study_data(), out, observe=never)
    assert (out / "results.jsonl").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in out.glob("cells/*/rows.jsonl")} == stamps


def test_another_configuration_is_refused_or_overwrites(tmp_path: Path) -> None:
    small = replace(CONFIG, arms=(0.5,), seeds=(0,))
    run_study(small, study_data(), tmp_path)
    other = replace(small, training=changed(TRAINING, temperature=0.1))
    with pytest.raises(FileExistsError, match=r"temperature.*0\.05.*0\.1"):
        run_study(other, study_data(), tmp_path)
    before = read_rows(tmp_path)
    run_study(other, study_data(), tmp_path, overwrite=True)
    after = read_rows(tmp_path)
    assert len(after) == len(before)
    assert after != before


_KILLED = """
    import sys
    sys.path.append(sys.argv[2])
    from tests.study.test_run import CONFIG, study_data, run_study

    def observe(progress):
        print(progress.number, progress.step, flush=True)

    run_study(CONFIG, study_data(), sys.argv[1], observe=observe)
"""


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_rows(
    finished: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = _KILLED, out, Path(__file__).parents[2]
    with subprocess.Popen(command(*script), cwd=FOLDER, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split() == ["2", "4"]:  # in the middle of the third cell
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL
    assert len(list((out / "cells").glob("arm=*"))) == 2
    left = f".arm=0.5,seed=1.{socket.gethostname()}.{process.pid}.9.partial"
    (out / "cells" / left).mkdir()  # what a kill while writing leaves
    started = time.time()
    run_python(*script)
    expected, _ = finished
    assert read_rows(out) == read_rows(expected)
    assert sorted(p.name for p in (out / "cells").iterdir()) == sorted(
        p.name for p in (expected / "cells").iterdir()
    )
    assert finished_cells(out)[Cell(Arm.parse(0), 0)].stat().st_mtime < started


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("rows.jsonl", "emptied"),
        ("cell.json", "cut"),
        ("exposure.json", "missing"),
        ("pyhbt_manifest.json", "missing"),
        ("measured/test/scores.npz", "changed"),
        ("measured/test/rows.jsonl", "emptied"),
        ("measured/test/measured.json", "missing"),
    ],
)
def test_damaged_cells_are_made_again_and_said(
    finished: tuple[Path, list[Progress]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    file: str,
    damage: str,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    wanted = read_rows(out)
    path = out / "cells/arm=0.5,seed=1" / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    else:
        path.write_bytes(content[: 0 if damage == "emptied" else len(content) // 2])
    with caplog.at_level(logging.WARNING):
        write_report(out)
        assert [str(out / "cells/arm=0.5,seed=1") in record.getMessage() for record in caplog.records] == [
            True
        ]
        left = [row for row in wanted if (row["arm"], row["seed"]) != ("0.5", 1)]
        part = file.startswith("measured")
        kept = [row for row in wanted if row in left or (part and row["split"] != "test")]
        assert read_rows(out) == kept  # nothing of what does not count stays
        run_study(CONFIG, study_data(), out)
    assert read_rows(out) == wanted
    said = [record.getMessage() for record in caplog.records if "is made again" in record.getMessage()]
    assert len(said) == 1
    assert str(out / "cells/arm=0.5,seed=1") in said[0]
    assert damaged(out) == {}


@pytest.mark.parametrize("left", ["all", "results", "first", "none", "partial"])
def test_a_report_of_any_unfinished_study(
    finished: tuple[Path, list[Progress]], tmp_path: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyhbt.study.report.page.write_plots", lambda *_: {})
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    wanted = read_rows(out)
    if left != "all":
        (out / "results.jsonl").unlink()
    for folder in list((out / "cells").iterdir())[0 if left in ("none", "partial") else 1 :]:
        if left in ("first", "none"):
            shutil.rmtree(folder)
        elif left == "partial":
            folder.rename(folder.with_name(f".{folder.name}.{socket.gethostname()}.{2**22 + 1}.0.partial"))
    if left in ("none", "partial"):
        with pytest.raises(
            FileNotFoundError, match=r"results.jsonl: missing: no cell of this study is finished"
        ):
            write_report(out)
        assert not (out / "report.html").exists()
        return
    assert write_report(out) == out / "report.html"
    cells = finished_cells(out)
    assert len(cells) == (1 if left == "first" else len(CONFIG.cells))
    assert read_rows(out) == [row for row in wanted if Cell(Arm.parse(row["arm"]), row["seed"]) in cells]


def test_the_saved_configuration_is_the_study(finished: tuple[Path, list[Progress]]) -> None:
    out, _ = finished
    values = read_values(StudyConfig, read_config(out / "config.yaml"), "config.yaml")
    assert build(StudyConfig, values) == CONFIG
    ran = json.loads((out / "environment.json").read_text())
    assert ran["command"] == "pyhbt study"
    assert ran["environment"]["torch"]


def test_a_study_of_the_former_version_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"config": {"ratios": [0.5]}}')
    (tmp_path / "plots").mkdir()
    small = replace(CONFIG, arms=(0.5,), seeds=(0,))
    with pytest.raises(FileExistsError, match=r"holds a study of PyHBT 0\.1, which reports are made of"):
        run_study(small, study_data(), tmp_path)
    run_study(small, study_data(), tmp_path, overwrite=True)
    assert not (tmp_path / "config.json").exists()
    assert not (tmp_path / "plots").exists()
