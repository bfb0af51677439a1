"""``pyhbt mine`` as a newcomer meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pyhbt import NgramEncoder, cli
from pyhbt.data import load_corpus, load_pairs, load_train
from pyhbt.mining.negatives import MiningRules, mine_negatives

DATA = ("--data", "cldr", "--languages", "de,en")


@pytest.fixture
def pyhbt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pyhbt", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def test_mined_pairs_train(pyhbt: Any, tmp_path: Path) -> None:
    out = tmp_path / "mined.jsonl"
    code, shown, _ = pyhbt(
        "mine", "--out", out, *DATA, "--pool", "other", "--num-negatives", "3", "--any-score"
    )
    assert code == 0
    pairs = load_train("cldr", languages=["de", "en"])
    expected, statistics = mine_negatives(
        NgramEncoder(), pairs, MiningRules(num_negatives=3, pool="other", share=None)
    )
    read = load_pairs(out)
    assert [pair.negatives for pair in read] == [pair.negatives for pair in expected]
    assert statistics.describe() in shown
    assert f"pairs with all negatives {len(pairs):,}, with fewer 0, with none 0" in shown
    trained = ("--steps", "2", "--batch-size", "4", "--out", tmp_path / "trained")
    code, _, err = pyhbt("train", "--data", f"jsonl:{out}", *trained)
    assert code == 0, err
    again = tmp_path / "again.jsonl"
    options = (
        "--existing",
        "replace",
        "--draw",
        "random",
        "--seed",
        "3",
        "--margin",
        "0.2",
        "--skip-top",
        "2",
    )
    assert (
        pyhbt(
            "mine",
            "--out",
            again,
            "--data",
            f"jsonl:{out}",
            *options,
            "--encoder",
            tmp_path / "trained/encoder",
        )[0]
        == 0
    )
    assert {len(pair.negatives) for pair in load_pairs(again)} >= {7}
    assert load_pairs(again).negatives != read.negatives


def test_corpus(pyhbt: Any, tmp_path: Path) -> None:
    pairs = load_train("cldr", languages=["de"])
    file = tmp_path / "corpus.jsonl"
    file.write_text(
        "".join(json.dumps({"text": f"{pairs[n].query} {n}", "lang": "de"}) + "\n" for n in range(9))
    )
    out = tmp_path / "mined.jsonl"
    options = ("--corpus", file, "--depth", "9", "--num-negatives", "9", "--any-score", "--languages", "de")
    assert pyhbt("mine", "--out", out, *options)[0] == 0
    found = {text for pair in load_pairs(out) for text in pair.negatives}
    assert {passage.text for passage in load_corpus(file)} <= found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Missing option '--out'"),
        (("--out", "pairs.csv"), "out: found 'pairs.csv', expected a name that ends in .jsonl"),
        (("--out", "a.jsonl", "--depth", "3"), "depth: found 3, expected at least 7"),
        (("--out", "a.jsonl", "--pool", "own"), "Invalid value for '--pool'"),
        (("--out", "a.jsonl", "--share", "0"), "share: found 0"),
        (("--out", "a.jsonl", "--corpus", "./nowhere.jsonl"), "nowhere.jsonl: no such file"),
        (("--out", "a.jsonl", "--encoder", "./nowhere"), "encoder: ./nowhere is not a folder"),
    ],
)
def test_mistakes_give_one_line_and_code_2(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = pyhbt("mine", *options, "--languages", "de")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_help(pyhbt: Any) -> None:
    code, out, _ = pyhbt("mine", "--help")
    assert code == 0
    assert "Usage:" in out
    assert "mine" in pyhbt("--help")[1]
