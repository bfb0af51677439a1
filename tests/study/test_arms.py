"""Arms: written, read back, refused; each kind of arm through a real study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyhbt.data.pair_set import PairSet
from pyhbt.study.arms import Arm
from pyhbt.study.cells import finished_cells
from pyhbt.study.config import StudyConfig
from pyhbt.study.influences import load_influences
from pyhbt.study.results import load_results
from pyhbt.study.run import run_study
from pyhbt.training.config import TrainingConfig
from tests.toy import parallel_items, study_data

TRAINING = TrainingConfig.of(steps=4, batch_size=8, learning_rate=0.01, temperature=0.05)


@pytest.mark.parametrize(
    ("spec", "label", "changes"),
    [
        (0.5, "0.5", {}),
        ("0.50", "0.5", {}),
        (1 / 3, "0.3333333333333333", {}),
        ("1/3", "0.3333333333333333", {}),
        ("linear:0:2/3", "linear:0:0.6666666666666666", {}),
        (
            "0.5+steps=8+lr-scheduler-type=constant_with_warmup",
            "0.5+lr-scheduler-type=constant_with_warmup+steps=8",
            {"steps": 8, "lr_scheduler_type": "constant_with_warmup"},
        ),
        (1, "1", {}),
        ("linear:0:1", "linear:0:1", {}),
        ("adaptive:0.1:0.9", "adaptive:0.1:0.9", {}),
        ("0.5+symmetric", "0.5+symmetric", {"symmetric": True}),
        ("0.50+js=0.50+alignment=1", "0.5+alignment=1+js=0.5", {"js_weight": 0.5, "alignment_weight": 1.0}),
        ("1+parallel-passages=2", "1+parallel-passages=2", {"parallel_passages": 2}),
        (
            "steps:0@0,1@0.5+language-sampling=linear:1:0.3",
            "steps:0@0,1@0.5+language-sampling=linear:1:0.3",
            {"language_sampling": "linear:1:0.3"},
        ),
        ("0+language-sampling=0.3", "0+language-sampling=0.3", {"language_sampling": 0.3}),
        ("0.5+learn-temperature+temperature=0.1", "0.5+learn-temperature+temperature=0.1", None),
        ("0.5+code-switching=0.3+cross-pairs=mixed", "0.5+code-switching=0.3+cross-pairs=mixed", None),
    ],
)
def test_read_and_written(spec: float | str, label: str, changes: dict[str, Any] | None) -> None:
    arm = Arm.parse(spec)
    assert arm.label == label
    assert Arm.parse(arm.label) == arm == Arm.parse(arm)
    if changes is not None:
        assert dict(arm.changes) == changes


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("0.5+nonsense=1", r"arm '0.5\+nonsense=1': found 'nonsense', expected one of steps, batch-size"),
        ("0.5+js=much", "js_weight: found 'much', expected a number"),
        ("0.5+symmetric=perhaps", "symmetric: found 'perhaps', expected true or false"),
        ("0.5+js=1+js=2", "found js twice"),
        ("0.5+parallel-passages=1.5", "expected a whole number"),
        ("2", r"found 2.0, expected a number in \[0, 1\]"),
        ("+js=1", "ratio: found ''"),
        ("1/0", "ratio: found '1/0', expected a number in"),
        ("4/3", r"ratio: found 1.3333333333333333, expected a number in \[0, 1\]"),
    ],
)
def test_mistakes(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Arm.parse(spec)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "change",
    [
        "guide=/no/such/guide",
        "distil=kl+teacher-scores=/no/such/scores.csv",
        "lexicon=/no/aa-bb.txt+code-switching=1",
    ],
)
def test_files_of_the_last_arm_are_read_before_the_first_is_trained(change: str, tmp_path: Path) -> None:
    config = StudyConfig(TRAINING, data="toy", arms=("0.5", f"0.5+{change}"), seeds=(0,))
    with pytest.raises(FileNotFoundError, match="/no/"):
        run_study(config, study_data(), tmp_path, observe=lambda progress: pytest.fail("trained"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lora=r=2", "NgramEncoder has no linear layers"),
        ("matryoshka-dims=4096", "matryoshka_dims: found 4096, expected at most"),
    ],
)
def test_an_arm_that_does_not_go_with_the_encoder_is_refused_before_any_is_trained(
    change: str, message: str, tmp_path: Path
) -> None:
    config = StudyConfig(TRAINING, data="toy", arms=("0.5", f"0.5+{change}"), seeds=(0,))
    with pytest.raises(ValueError, match=message):
        run_study(config, study_data(), tmp_path, observe=lambda progress: pytest.fail("trained"))
    assert list(tmp_path.iterdir()) == []


def test_every_kind_of_arm_is_studied(tmp_path: Path) -> None:
    lexicon = tmp_path / "aa-bb.txt"
    items = parallel_items(15, ("aa", "bb")) + parallel_items(60, ("aa",), seed=7)  # languages of unlike size
    data = replace(study_data(), train=PairSet.from_parallel(items))
    words = {pair.query for pair in data.train if pair.query_lang == "aa"}
    lexicon.write_text("".join(f"{word} {word}us\n" for word in sorted(words)))
    scores = tmp_path / "scores.jsonl"
    scores.write_text(
        "".join(
            json.dumps({"query": query, "passage": passage, "score": float((row * place) % 7)}) + "\n"
            for row, query in enumerate(data.train.queries)
            for place, passage in enumerate(data.train.passages)
        )
    )
    arms = (
        0.5,
        "linear:0:1",
        "adaptive:0.7:0.9",
        "0.5+language-sampling=linear:1:0.3",
        "0.5+code-switching=0.5",
        "0.5+parallel-passages=1",
        "0.5+alignment=0.1",
        "0.5+js=0.5",
        "0.5+learn-temperature+symmetric",
        "0.5+guide=ngram+guide-margin=0.1",
        f"0.5+distil=kl+distil-weight=0.5+teacher-scores={scores}",
    )
    training = TrainingConfig.of(
        steps=16, batch_size=8, learning_rate=0.01, temperature=0.05, lexicon=str(lexicon)
    )
    config = StudyConfig(training, data="toy", arms=arms, seeds=(0,), eval_every=8)
    out = tmp_path / "out"
    run_study(config, data, out)
    results = load_results(out)
    assert set(results.arms) == set(map(Arm.parse, arms))
    finals = {
        arm: results.by_seed(
            arm=arm,
            split="test",
            centring=centring,
            setting="multilingual",
            metric="mAP",
            tier="all",
            query_lang="*",
        )[0]
        for arm in arms
        for centring in ("none", "both")
    }
    assert len(set(finals.values())) == len(arms)  # every arm trained otherwise
    assert {arm for arm, _ in load_influences(out).cells} == set(results.arms)
    folders = {arm.label: folder for (arm, _), folder in finished_cells(out).items()}
    logs = {
        label: [json.loads(line) for line in _lines(folder / "train.jsonl")]
        for label, folder in folders.items()
    }
    assert any("loss_js" in row for row in logs["0.5+js=0.5"])
    assert any("loss_alignment" in row for row in logs["0.5+alignment=0.1"])
    assert any("dev_loss_cross_lingual" in row for row in logs["adaptive:0.7:0.9"])
    assert any("temperature" in row for row in logs["0.5+learn-temperature+symmetric"])
    assert any("loss_distil" in row for row in logs[arms[-1]])


def test_the_order_of_changes_makes_no_other_arm() -> None:
    one, other = Arm.parse("0.5+symmetric+js=0.5"), Arm.parse("0.5+js=0.5+symmetric")
    assert one == other
    assert one.label == other.label
    assert one.with_learning_rate(0.1) == Arm.parse("0.5+symmetric+learning-rate=0.1+js=0.5")


def test_an_arm_may_switch_a_flag_off() -> None:
    off = Arm.parse("0.5+symmetric=false")
    assert dict(off.changes) == {"symmetric": False}
    assert Arm.parse(off.label) == off
    assert Arm.parse("0.5+symmetric=true") == Arm.parse("0.5+symmetric")
    with pytest.raises(ValueError, match="symmetric"):
        Arm.parse("0.5+symmetric=perhaps")
