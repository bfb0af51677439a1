"""``pyhbt study`` and ``pyhbt train`` as a newcomer meets them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pyhbt.cli import training
from pyhbt.cli.training import StudyCommand, TrainCommand
from pyhbt.encoders import load_encoder
from pyhbt.files import only_writer
from pyhbt.options import build, options_of, plain_values, read_config
from pyhbt.study.config import StudyConfig
from pyhbt.training.config import TrainingConfig
from tests.toy import save_tiny_bert


def test_study_report_and_resume(pyhbt: Any, tmp_path: Path, without_plots: None) -> None:
    out = tmp_path / "out"
    options = ["--languages", "de,en,fr", "--low-resource", "sw", "--zero-shot", "nl"]
    options += ["--ratios", "0,1", "--seeds", "1", "--steps", "4", "--batch-size", "8", "--out", out]
    code, shown, err = pyhbt("study", *options)
    assert (code, err) == (0, "")
    assert "report.html" in shown.replace("\n", "")
    assert (out / "report.html").stat().st_size > 10_000
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {row["tier"] for row in rows} == {"all", "seen", "low-resource", "zero-shot"}
    assert {row["query_lang"] for row in rows} == {"*", "de", "en", "fr", "sw", "nl"}
    ran = json.loads((out / "environment.json").read_text())
    assert ran["command"].startswith("pyhbt study --languages de,en,fr")
    (out / "report.html").unlink()
    assert pyhbt("study", *options)[0] == 0  # every cell is there
    (out / "report.html").unlink()
    assert pyhbt("report", out)[0] == 0
    assert (out / "report.html").is_file()
    code, _, err = pyhbt("study", *options, "--temperature", "0.1")
    assert code == 2
    assert "holds a study with temperature 0.05 (ratio 0 seed 0), this one has temperature 0.1" in err


def test_a_transformer_is_trained_and_evaluated(pyhbt: Any, tmp_path: Path, without_plots: None) -> None:
    """Its 64 positions are fewer than the 128 tokens that training keeps by default."""
    encoder = save_tiny_bert(tmp_path / "bert")
    languages = ["--languages", "de,en"]
    options = ["--encoder", encoder, "--steps", "2", "--batch-size", "4", *languages]
    assert pyhbt("train", *options, "--out", tmp_path / "trained")[0] == 0
    code, shown, _ = pyhbt("evaluate", "--encoder", tmp_path / "trained/encoder", *languages)
    assert code == 0
    assert "at most 64 tokens, query prefix ''" in shown
    study = ["--ratios", "0 linear:0:1", "--seeds", "1", "--jobs", "1", "--out", tmp_path / "study"]
    assert pyhbt("study", *options, *study)[0] == 0
    config = read_config(tmp_path / "study/config.yaml")
    assert config["max_length"] == 64
    assert config["arms"] == ["0", "linear:0:1"]
    assert config["temperature"] == 0.02


def test_a_guide_and_a_teacher_are_options(
    pyhbt: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    langs = {"query_lang": "en", "passage_lang": "en"}
    rows = [{"query": f"q{i}", "passage": f"p{i}", **langs, "negatives": [f"n{i}"]} for i in range(6)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = tmp_path / "scores.csv"
    lines = [f"q{i},{kind}{i},{i + (kind == 'p')}" for i in range(4) for kind in "pn"]
    scores.write_text("\n".join(["query,passage,score", *lines]) + "\n")
    options = ["--data", f"jsonl:{pairs}", "--ratio", 0, "--steps", 2, "--batch-size", 6]
    options += ["--out", tmp_path / "out"]
    teacher = ["--distil", "margin-mse", "--distil-weight", 0.5, "--teacher-scores", scores]
    code, _, err = pyhbt("train", *options, *teacher, "--guide", "ngram", "--guide-margin", 0.1)
    assert code == 0, err
    assert "4 of 6 pairs have a score of their passage, 4 of these one of a negative too" in caplog.text
    config = read_config(tmp_path / "out/config.yaml")
    wanted = {"guide": "ngram", "guide_margin": 0.1, "distil": "margin-mse", "teacher_scores": str(scores)}
    assert {name: config[name] for name in wanted} == wanted
    log = [json.loads(line) for line in (tmp_path / "out/train.jsonl").read_text().splitlines()]
    assert all(row["loss_distil"] > 0 for row in log if "loss" in row)
    assert "margin-mse" in (tmp_path / "out/encoder/README.md").read_text()
    for wrong, message in (
        (["--distil", "kl"], "teacher_scores: found None, expected it with distil, which is 'kl'"),
        (["--teacher-scores", scores], "distil: found None, expected it with teacher_scores"),
        (["--guide", tmp_path / "none"], "guide: found"),
        ([*teacher[:-1], tmp_path / "none.csv"], "none.csv: no such file"),
    ):
        code, _, err = pyhbt("train", *options[:-1], tmp_path / "other", *wrong)
        assert code == 2
        assert message in err.replace("\n", " ")
        assert not (tmp_path / "other").exists()


def test_a_damaged_checkpoint_is_told_in_one_line(pyhbt: Any, tmp_path: Path) -> None:
    options = ("--languages", "en,de,fr", "--steps", 2, "--out", tmp_path)
    assert pyhbt("train", *options)[0] == 0
    code, _, err = pyhbt("train", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert "checkpoint-2 is there: resume from it" in err
    (tmp_path / "checkpoints/checkpoint-2/model.safetensors").unlink()
    code, _, err = pyhbt("train", *options, "--resume")
    assert code == 2
    assert "no whole checkpoint to resume from" in err.splitlines()[-1]


def test_nothing_to_resume_is_told_before_anything_is_loaded(pyhbt: Any, tmp_path: Path) -> None:
    options = ("--encoder", "no/such/model", "--data", "no-such-data", "--resume", "--out", tmp_path)
    code, _, err = pyhbt("train", *options)
    assert code == 2
    assert err == f"pyhbt: {tmp_path / 'checkpoints'}: no checkpoint to resume from\n"


def test_a_run_goes_on_with_its_own_options(pyhbt: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    begun = [
        "--languages",
        "de,en",
        "--steps",
        4,
        "--batch-size",
        4,
        "--save-every",
        2,
        "--set",
        "max_grad_norm=0.5",
    ]
    assert pyhbt("train", *begun, "--out", out)[0] == 0
    before = (out / "encoder/model.safetensors").read_bytes()
    shutil.rmtree(out / "checkpoints/checkpoint-4")
    code, _, err = pyhbt("train", "--resume", "--out", out, "--learning-rate", 0.1, "--seed", 1)
    assert (code, err.count("\n")) == (2, 1)
    for phrase in ("learning_rate: found 0.1, the run has 0.01", "seed: found 1, the run has 0"):
        assert phrase in err
    assert pyhbt("train", "--resume", "--out", out, "--set", "logging_steps=2", "--save-every", 3)[0] == 0
    assert (out / "encoder/model.safetensors").read_bytes() == before
    assert (out / "checkpoints/checkpoint-3").is_dir()
    assert pyhbt("train", "--resume", "--out", out, "--steps", 6)[0] == 2
    assert pyhbt("train", "--resume", "--extend", "--out", out, "--steps", 6)[0] == 0
    assert read_config(out / "config.yaml")["steps"] == 6
    assert pyhbt("train", "--resume", "--out", out)[0] == 0
    code, _, err = pyhbt("train", "--resume", "--out", out, "--steps", 4)
    assert code == 2
    assert "steps: found 4, the run has 6; a run is never shortened" in err


def test_a_folder_that_another_writes_to_is_refused_before_anything_is_loaded(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("pyhbt.encoders.load_encoder", never)
    with only_writer(tmp_path):
        code, _, err = pyhbt("train", "--out", tmp_path)
    assert code == 2
    assert f"{tmp_path} is being written by process {os.getpid()}" in err


class BegunError(Exception):
    """Ends a command where its work would begin."""


def planned(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> tuple[StudyConfig, Path, Any]:
    """What ``pyhbt study`` would run: configuration, folder, and the other arguments."""
    seen: list[Any] = []

    def run_study(config: StudyConfig, data: Any, out: Path, **others: Any) -> None:
        seen.extend((config, out, others))
        raise BegunError

    monkeypatch.setattr("pyhbt.study.run.run_study", run_study)
    with pytest.raises(BegunError):
        training.study({"languages": ("de", "en"), **given})
    config, out, others = seen
    return config, out, others


def test_a_quick_study_is_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config, out, others = planned(monkeypatch, {"quick": True})
    assert [arm.label for arm in config.arms] == ["0", "0.5", "1"]
    assert (config.seeds, config.training.steps, out) == ((0,), 100, Path("pyhbt-study-quick"))
    assert not others["overwrite"]
    given = {"quick": True, "steps": 7, "seeds": (4, 5), "out": Path("here"), "overwrite": True}
    config, out, others = planned(monkeypatch, given)
    assert (config.seeds, config.training.steps, out) == ((4, 5), 7, Path("here"))
    assert others["overwrite"]


def test_a_study_is_what_was_given_and_suits_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    config, out, _ = planned(monkeypatch, {})
    encoder = load_encoder("ngram")
    assert config == StudyConfig(TrainingConfig.for_encoder(encoder), languages=("de", "en"))
    assert (out, config.training.steps) == (Path("pyhbt-study"), 200)
    given = {"temperature": 0.2, "zero_shot": ("en",), "eval_every": 3, "max_length": 9}
    config, _, _ = planned(monkeypatch, given)
    assert config.training == TrainingConfig.for_encoder(encoder, temperature=0.2)
    assert (config.zero_shot, config.eval_every, config.max_length) == (("en",), 3, 9)


def test_transformers_are_studied_at_the_length_of_trainings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bert = str(save_tiny_bert(tmp_path / "bert"))
    assert planned(monkeypatch, {"encoder": bert})[0].max_length == 64  # of 128, what it takes
    assert planned(monkeypatch, {"encoder": bert, "max_length": 10})[0].max_length == 10
    config = planned(monkeypatch, {"encoder": bert})[0]
    assert config.training.objective.temperature == 0.02
    assert config.training.weight_decay == 0.01


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ratio": "2"}, "ratio: found 2.0, expected a number in"),
        ({"ratio": "often"}, "ratio: found 'often'"),
        ({"limit": 0}, "limit: found 0, expected at least 1"),
        ({"eval_every": 0}, "eval_every: found 0, expected at least 1"),
        ({"save_every": 0}, "save_every: found 0, expected at least 1"),
        ({"seed": -1}, "seed: found -1, expected at least 0"),
        ({"steps": 0}, "steps: found 0, expected at least 1"),
        ({"extend": True}, "extend: found True, expected False where no run is resumed"),
    ],
)
def test_options_of_train_are_checked(wrong: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"steps": 1, "batch_size": 2, "learning_rate": 0.1, "out": Path("out")}
    assert build(TrainCommand, settings).limit is None
    with pytest.raises(ValueError, match=message):
        build(TrainCommand, settings | wrong)


def test_what_names_a_run_is_not_saved() -> None:
    settings: dict[str, Any] = {"steps": 1, "batch_size": 2, "learning_rate": 0.1}
    saved = plain_values(build(TrainCommand, {**settings, "out": Path("out"), "threads": 1, "resume": True}))
    assert {"out", "resume", "extend", "push_to_hub", "threads"}.isdisjoint(saved)
    assert {"data", "encoder", "ratio", "seed", "temperature", "set"} <= saved.keys()
    saved = plain_values(build(StudyCommand, {**settings, "quick": True}))
    assert {"out", "quick", "threads", "overwrite"}.isdisjoint(saved)
    assert {"arms", "seeds", "data"} <= saved.keys()
    words = {item.name: item.default_in_words for item in options_of(TrainCommand)}
    assert words["out"] == "required"
    assert words["eval_every"] == "never"
    assert words["learning_rate"].startswith("0.01 for n-grams")


def test_train_saves_a_configuration_and_pushes_once(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[Any] = []

    def push(*given: Any) -> str:
        pushed.append(given)
        return "https://hub/me/name"

    monkeypatch.setattr("pyhbt.training.model_card.push_to_hub", push)
    options = ["--languages", "de,en", "--steps", 2, "--batch-size", 4, "--ratio", "adaptive:0.1:0.9"]
    code, shown, err = pyhbt("train", *options, "--push-to-hub", "name", "--out", tmp_path / "out")
    assert code == 0, err
    assert pushed == [(tmp_path / "out/encoder", "name")]
    assert shown.splitlines()[-2:] == [f"encoder: {tmp_path}/out/encoder", "pushed: https://hub/me/name"]
    saved = read_config(tmp_path / "out/config.yaml")
    assert (saved["ratio"], saved["languages"], saved["max_length"]) == (
        "adaptive:0.1:0.9",
        ["de", "en"],
        None,
    )
    card = (tmp_path / "out/encoder/README.md").read_text(encoding="utf-8")
    assert "adaptive:0.1:0.9" in card
    assert pyhbt("train", *options, "--out", tmp_path / "other")[0] == 0
    assert len(pushed) == 1


def _write_foreign(folder: Path) -> Path:
    """Own data whose columns have other names, and whose dev and test sets name no language."""
    lines = ["q\tp"] + [f"was ist {word}\t{word} ist das" for word in ("rot", "blau", "gelb", "braun")]
    folder.mkdir()
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    for split in ("dev", "test"):
        (folder / split / "qrels").mkdir(parents=True)
        texts = [{"_id": str(i), "text": f"text {i} {split}"} for i in range(3)] + [
            {"_id": "empty", "text": ""}
        ]
        (folder / split / "corpus.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
        (folder / split / "queries.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts[:3]))
        (folder / split / "qrels" / f"{split}.tsv").write_text("".join(f"{i}\t{i}\t1\n" for i in range(3)))
    return folder


@pytest.mark.parametrize("command", ["train", "study", "mine"])
def test_data_of_other_columns(
    command: str, pyhbt: Any, tmp_path: Path, without_plots: None, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _write_foreign(tmp_path / "own")
    mapping = ["--columns", "query=q,passage=p", "--query-lang", "de", "--passage-lang", "de"]
    out = tmp_path / "out"
    options = {
        "train": ["--data", f"tsv:{folder / 'train.tsv'}", "--ratio", "0", "--steps", "2", "--out", out],
        "study": ["--data", f"tsv:{folder}", "--arms", "0 0+symmetric", "--seeds", "1", "--steps", "2"],
        "mine": ["--data", f"tsv:{folder / 'train.tsv'}", "--any-score", "--out", out.with_suffix(".jsonl")],
    }[command]
    more = {"train": [], "study": ["--skip-unusable", "--out", out], "mine": ["--encoder", "ngram"]}[command]
    code, _, err = pyhbt(command, *options, *more)
    assert code == 2
    assert "query: missing" in err or "passage" in err or "lang" in err, err
    code, _, err = pyhbt(command, *options, *more, *mapping)
    assert code == 0, err
    if command == "mine":
        mined = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
        assert {row["query_lang"] for row in mined} == {"de"}
        assert mined[0]["query"] == "was ist rot"
    else:
        config = read_config(out / "config.yaml")
        assert config["query_lang"] == "de"
        assert config["columns"] == ["query=q", "passage=p"]
    if command == "study":
        assert "left out" in caplog.text
        assert "empty" in caplog.text
        code, _, err = pyhbt(command, *options, *mapping, "--out", tmp_path / "other")
        assert code == 2
        assert "corpus.jsonl:4" in err


def test_evaluation_without_languages(pyhbt: Any, tmp_path: Path) -> None:
    folder = _write_foreign(tmp_path / "own") / "test"
    options = ["--data", f"beir:{folder}", "--encoder", "ngram", "--query-lang", "de"]
    code, _, err = pyhbt("evaluate", *options)
    assert (code, "corpus.jsonl:1: lang: missing" in err) == (2, True)
    code, _, err = pyhbt("evaluate", *options, "--passage-lang", "en")
    assert (code, "corpus.jsonl:4" in err) == (2, True)
    code, shown, _ = pyhbt("evaluate", *options, "--passage-lang", "en", "--skip-unusable")
    assert code == 0
    assert "cross-lingual" in shown
    assert "monolingual" not in shown


@pytest.mark.parametrize("command", ["study", "train"])
def test_columns_are_looked_at_before_the_encoder(
    command: str, pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any, **options: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("pyhbt.encoders.load_encoder", never)
    monkeypatch.setattr("pyhbt.encoders.load.load_encoder", never)
    code, _, err = pyhbt(command, "--columns", "query", "--data", "jsonl:x", "--out", tmp_path / "out")
    assert code == 2
    assert "columns: found 'query', expected FIELD=COLUMN" in err
