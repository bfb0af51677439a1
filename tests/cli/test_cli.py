"""The command line as a newcomer meets it, each command in a process of its own or in ours."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyhbt import ExactIndex, cli
from pyhbt.data.trec import read_qrels, read_run, write_run
from pyhbt.retrieval import run as searching
from pyhbt.settings import read_config
from tests.toy import save_tiny_bert


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any
) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of ``pyhbt ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["pyhbt", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


@pytest.fixture
def pyhbt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: run(monkeypatch, capsys, *arguments)


@pytest.mark.parametrize(
    "command", ["study", "train", "evaluate", "encode", "search", "mine", "report", "doctor"]
)
def test_help(pyhbt: Any, command: str) -> None:
    code, out, _ = pyhbt(command, "--help")
    assert code == 0
    assert "Usage:" in out
    assert command in pyhbt("--help")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("study", "--bogus"), "No such option: --bogus"),
        (("study", "--seeds", "none"), "Invalid value for '--seeds'"),
        (("nonsense",), "No such command 'nonsense'"),
        (("study", "--data", "bogus"), "bogus"),
        (("study", "--data", "xquad-r:./nowhere"), "nowhere"),
        (("study", "--ratios", "0,2"), "ratio: found 2"),
        (("study", "--encoder", "./nowhere"), "encoder: ./nowhere is not a folder"),
        (("evaluate",), "Missing option '--encoder'"),
        (("evaluate", "--encoder", "ngram", "--metrics", "P@5"), "metric: found 'P@5'"),
        (("encode", "./nowhere.txt", "--out", "x.npy"), "nowhere.txt"),
        (("search", "./nowhere.npy", "./c.npy", "--out", "run"), "nowhere.npy"),
        (("search", "q.npy", "c.npy"), "Missing option '--out'"),
        (("search", "q.npy", "c.npy", "--out", "run", "--k", "0"), "k: found 0, expected at least 1"),
        (
            ("search", "q.npy", "c.npy", "--out", "run", "--similarity", "l2"),
            "Invalid value for '--similarity'",
        ),
        (("report", "./nowhere"), "nowhere"),
    ],
)
def test_mistakes_give_one_line_and_code_2(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = pyhbt(*arguments)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("pyhbt: ")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_doctor(pyhbt: Any) -> None:
    code, out, _ = pyhbt("doctor")
    assert code == 0
    for subject in ("pyhbt", "torch", "SIMD", "OpenMP", "threads", "CUDA"):
        assert f"\n{subject} " in f"\n{out}"


def test_study_report_and_resume(pyhbt: Any, tmp_path: Path) -> None:
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
    assert "holds a study with temperature 0.05, this one has temperature 0.1" in err


def test_a_transformer_is_trained_and_evaluated(pyhbt: Any, tmp_path: Path) -> None:
    """Its 64 positions are fewer than the 128 tokens that training keeps by default."""
    encoder = save_tiny_bert(tmp_path / "bert")
    languages = ["--languages", "de,en"]
    options = ["--encoder", encoder, "--steps", "2", "--batch-size", "4", *languages]
    assert pyhbt("train", *options, "--out", tmp_path / "trained")[0] == 0
    code, shown, _ = pyhbt("evaluate", "--encoder", tmp_path / "trained/encoder", *languages)
    assert code == 0
    assert "at most 64 tokens, query prefix 'query: '" in shown
    study = ["--ratios", "0 linear:0:1", "--seeds", "1", "--out", tmp_path / "study"]
    assert pyhbt("study", *options, *study)[0] == 0
    config = read_config(tmp_path / "study/config.yaml")
    assert config["max_length"] == 64
    assert config["arms"] == ["0", "linear:0:1"]
    assert config["temperature"] == 0.02


def test_train_evaluate_encode(pyhbt: Any, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    languages = ["--languages", "de,en"]
    options = ["--steps", "4", "--batch-size", "8", "--eval-every", "2", *languages]
    assert pyhbt("train", *options, "--out", trained)[0] == 0
    log = [json.loads(line) for line in (trained / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "eval_cross-lingual recall@10" in row] == [2, 4]
    assert pyhbt("train", *options, "--out", trained)[0] == 2
    scores, ranking, judged = tmp_path / "scores.jsonl", tmp_path / "run.trec", tmp_path / "qrels.trec"
    options = ["--out", scores, "--run", ranking, "--qrels", judged, "--run-depth", "5", *languages]
    code, shown, _ = pyhbt("evaluate", "--encoder", trained / "encoder", *options)
    assert code == 0
    for phrase in (
        "nDCG@10",
        "centring both",
        "rank distance",
        "the other half",
    ):
        assert phrase in " ".join(shown.split())
    rows = [json.loads(line) for line in scores.read_text().splitlines()]
    assert {row["centring"] for row in rows} == {"none", "both"}
    run_of, qrels = read_run(ranking), read_qrels(judged)
    assert run_of.keys() == qrels.keys()
    assert {len(ranked) for ranked in run_of.values()} == {5}
    texts = tmp_path / "texts.txt"
    texts.write_text("eins\nzwei\n", encoding="utf-8")
    assert pyhbt("encode", texts, "--encoder", trained / "encoder", "--out", tmp_path / "v.npy")[0] == 0
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.shape[0] == 2
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    lines = tmp_path / "texts.jsonl"
    lines.write_text('{"text": "eins"}\n{"body": "zwei"}\n', encoding="utf-8")
    code, _, err = pyhbt("encode", lines, "--encoder", trained / "encoder", "--out", tmp_path / "w.npy")
    assert code == 2
    assert "texts.jsonl:2: text" in err
    assert not (tmp_path / "w.npy").exists()


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


def test_language_means(pyhbt: Any, tmp_path: Path) -> None:
    languages = ("--languages", "en,de,fr")
    assert pyhbt("train", *languages, "--steps", 2, "--language-means", "--out", tmp_path)[0] == 0
    encoder = tmp_path / "encoder"
    (tmp_path / "texts.txt").write_text("Berlin\n")
    found = {}
    for option in ((), ("--language", "de")):
        out = tmp_path / "vectors.npy"
        assert pyhbt("encode", tmp_path / "texts.txt", "--encoder", encoder, "--out", out, *option)[0] == 0
        found[option] = np.load(out)
    assert not np.allclose(*found.values())
    scores = [
        pyhbt("evaluate", "--encoder", encoder, *languages, "--centring", "none", *option)[1]
        for option in ((), ("--language-means",))
    ]
    assert scores[0] != scores[1]
    code, _, err = pyhbt(
        "encode", tmp_path / "texts.txt", "--encoder", encoder, "--out", out, "--language", "xx"
    )
    assert (
        code,
        err.count("language: found 'xx', expected one with a mean of passage vectors: de, en, fr"),
    ) == (2, 1)


def test_search(pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["d0", "d1", "d2", "d3"]
    texts = ["eins", "zwei", "drei", "vier"]
    records = [json.dumps({"_id": name, "text": text}) for name, text in zip(names, texts, strict=True)]
    for file, lines in (("texts.txt", texts), ("texts.jsonl", records), ("ids", names)):
        Path(file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert pyhbt("encode", "texts.txt", "--out", "v.npy")[0] == 0
    options = ["--out", "run", "--k", "4", "--similarity", "cosine"]
    code, shown, _ = pyhbt("search", "texts.txt", "v.npy", "--encoder", "ngram", *options)
    assert code == 0
    assert "run: 4 queries, 4 passages" in shown
    assert [next(iter(hits)) for hits in read_run("run").values()] == ["0", "1", "2", "3"]
    options.append("--exclude-self")
    assert pyhbt("search", "texts.jsonl", "texts.jsonl", "--encoder", "ngram", *options)[0] == 0
    assert all({query, *hits} == {*names} and query not in hits for query, hits in read_run("run").items())
    from_texts = Path("run").read_text()
    assert pyhbt("search", "v.npy", "v.npy", "--query-ids", "ids", "--corpus-ids", "ids", *options)[0] == 0
    assert Path("run").read_text() == from_texts
    ExactIndex(np.load("v.npy"), ids=names, similarity="cosine").save("index")
    Path("run").unlink()
    arguments = ["search", "v.npy", "index", "--query-ids", "ids", "--block", "1", *options]
    calls = itertools.count(1)

    def interrupted(*written: Any, **named: Any) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        write_run(*written, **named)

    with monkeypatch.context() as patched:
        patched.setattr(searching, "write_run", interrupted)
        assert pyhbt(*arguments)[0] == 130
    assert not Path("run").exists()
    assert "run: 4 queries, 4 passages, 2 blocks from an earlier run" in pyhbt(*arguments)[1]
    assert Path("run").read_text() == from_texts
    assert {file.name for file in tmp_path.iterdir()} == {
        *("texts.txt", "texts.jsonl", "ids", "v.npy", "index", "run")
    }


def test_search_mistakes(pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.eye(4, dtype=np.float32))
    np.save("objects.npy", np.array([None, "a"], dtype=object))
    Path("same").write_text("a\nb\na\nc\n", encoding="utf-8")
    Path("few").write_text("a\nb\n", encoding="utf-8")
    Path("texts.txt").write_text("eins\n", encoding="utf-8")
    Path("folder").mkdir()
    before = sorted(tmp_path.iterdir())
    for arguments, message in (
        (("v.npy", "v.npy", "--corpus-ids", "same"), "corpus_ids: found 'a' twice"),
        (("v.npy", "v.npy", "--query-ids", "few"), "query_ids: found 2, expected 4"),
        (("texts.txt", "v.npy"), "encoder: found none, expected one for the texts of texts.txt"),
        (("v.npy", "objects.npy"), "objects.npy: Array can't be memory-mapped"),
        (("v.npy", "nowhere.npy"), "nowhere.npy"),
        (("v.npy", "folder"), "folder: is no index of PyHBT"),
        (("v.npy", "texts.txt", "--encoder", "./nowhere"), "encoder: ./nowhere is not a folder"),
    ):
        code, _, err = pyhbt("search", *arguments, "--out", "run")
        assert code == 2
        assert err.startswith("pyhbt: ")
        assert len(err.splitlines()) == 1
        assert message in err
    assert sorted(tmp_path.iterdir()) == before
