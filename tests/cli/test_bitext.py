"""``pyhbt bitext`` as a newcomer meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyhbt.cli.bitext import BitextCommand
from pyhbt.data.records import columns, read_lines
from pyhbt.options import options_of

GERMAN = ["das Haus am See", "eine graue Katze", "", "das Haus am See", "der Tisch"]
ENGLISH = ["a grey Katze", "the Haus am See", "a Tisch", "nothing of it"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, texts in (("de.txt", GERMAN), ("en.txt", ENGLISH)):
        Path(name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return tmp_path


def read(path: str) -> list[tuple[str, str]]:
    rows = [line.split("\t") for line in Path(path).read_text(encoding="utf-8").splitlines()]
    scores = [float(row[0]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    return [(row[1], row[2]) for row in rows]


def test_texts_to_pairs(pyhbt: Any, place: Path) -> None:
    code, shown, _ = pyhbt("bitext", "de.txt", "en.txt", "--encoder", "ngram", "--out", "pairs.tsv")
    assert code == 0
    assert shown == "pairs.tsv: 3 pairs of 3 sources and 4 targets; left out: 1 empty, 1 repeated\n"
    expected = {
        ("das Haus am See", "the Haus am See"),
        ("eine graue Katze", "a grey Katze"),
        ("der Tisch", "a Tisch"),
    }
    assert set(read("pairs.tsv")) == expected
    options = ("--k", 2, "--margin", "distance", "--retrieval", "backward", "--no-unify")
    code, shown, _ = pyhbt("bitext", "de.txt", "en.txt", "--encoder", "ngram", "--out", "back.tsv", *options)
    assert shown == "back.tsv: 4 pairs of 4 sources and 4 targets; left out: 1 empty, 0 repeated\n"
    assert {target for _, target in read("back.tsv")} == set(ENGLISH)
    assert sorted(path.name for path in place.iterdir()) == ["back.tsv", "de.txt", "en.txt", "pairs.tsv"]


def test_encoded_files_give_the_same(pyhbt: Any, place: Path) -> None:
    for name in ("de", "en"):
        assert pyhbt("encode", f"{name}.txt", "--out", f"{name}.npy", "--kind", "query")[0] == 0
    texts = ("--source-texts", "de.txt", "--target-texts", "en.txt")
    assert pyhbt("bitext", "de.npy", "en.npy", *texts, "--out", "vectors.tsv")[0] == 0
    assert pyhbt("bitext", "de.txt", "en.txt", "--encoder", "ngram", "--out", "texts.tsv")[0] == 0
    assert read("vectors.tsv") == read("texts.tsv")
    assert pyhbt("bitext", "de.npy", "en.npy", "--out", "rows.tsv")[0] == 0
    assert {("1", "0"), ("4", "2")} <= set(read("rows.tsv"))


def test_pairs_train(pyhbt: Any, place: Path) -> None:
    options = ("--encoder", "ngram", "--threshold", "1", "--out", "pairs.jsonl")
    assert pyhbt("bitext", "de.txt", "en.txt", *options)[0] == 0
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 3
    assert all(row["score"] >= 1 for row in rows)
    pairs = ("--data", "jsonl:pairs.jsonl", "--columns", "query=source,passage=target")
    languages = ("--query-lang", "de", "--passage-lang", "en", "--ratio", "1")
    code, _, err = pyhbt("train", *pairs, *languages, "--steps", 1, "--batch-size", 2, "--out", "trained")
    assert code == 0, err


def test_options_of_a_file_and_of_help(pyhbt: Any, place: Path) -> None:
    Path("c.yaml").write_text("sources: de.txt\ntargets: en.txt\nencoder: ngram\nretrieval: forward\nk: 1\n")
    assert pyhbt("bitext", "--config", "c.yaml", "--out", "forward.tsv")[0] == 0
    assert len(read("forward.tsv")) == 3
    assert pyhbt("bitext", "--config", "c.yaml", "--retrieval", "backward", "--out", "backward.tsv")[0] == 0
    assert len(read("backward.tsv")) == 4
    shown = pyhbt("bitext", "-h")[1]
    for item in options_of(BitextCommand):
        assert (item.name.upper() if item.about.positional else f"--{item.name.replace('_', '-')}") in shown


def test_an_interruption_leaves_nothing(pyhbt: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyhbt.mining.bitext_files.mine_bitext", stop)
    code, _, err = pyhbt("bitext", "de.txt", "en.txt", "--encoder", "ngram", "--out", "pairs.tsv")
    assert code == 130
    assert err.endswith("pyhbt: interrupted\n")
    assert sorted(path.name for path in place.iterdir()) == ["de.txt", "en.txt"]


def test_tatoeba(pyhbt: Any, place: Path, data_dir: Path, models_dir: Path) -> None:
    """Spanish and English, 150 sentences each: most of what two sides agree on is right."""
    file = data_dir / "tatoeba-v1" / "spa-eng.tsv"
    rows = [columns(where, line, ("source", "target")) for where, line in read_lines(file)][:150]
    for name, side in zip(("spa.txt", "eng.txt"), zip(*rows, strict=True), strict=True):
        Path(name).write_text("".join(f"{text}\n" for text in side), encoding="utf-8")
    encoder = ("--encoder", models_dir / "e5-small-4L-f26k-fp16", "--query-prefix", "query: ")
    code, shown, err = pyhbt(
        "bitext", "spa.txt", "eng.txt", *encoder, "--threshold", "1.03", "--out", "pairs.tsv"
    )
    assert code == 0, err
    found = read("pairs.tsv")
    right = set(found) & {tuple(row) for row in rows}
    assert shown.startswith(f"pairs.tsv: {len(found)} pairs of 150 sources and 150 targets")
    assert len(found) > 20
    assert len(right) > 0.9 * len(found)
