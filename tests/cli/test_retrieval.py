"""``pyhbt evaluate``, ``encode``, ``search`` and ``mine`` as a newcomer meets them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyhbt import ExactIndex, NgramEncoder
from pyhbt.data import load_corpus, load_pairs, load_train
from pyhbt.data.trec import read_qrels, read_run, write_run
from pyhbt.mining.negatives import MiningRules, mine_negatives
from pyhbt.retrieval import run as searching

DATA = ("--data", "cldr", "--languages", "de,en")


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


def test_mined_files_of_every_format_train(pyhbt: Any, tmp_path: Path) -> None:
    """Two passages a query and no question, as in most files; what answers a query is not mined for it."""
    import csv

    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    rows = [
        {
            "query": f"who wrote book {row // 2}",
            "passage": f"author {row} wrote book {row // 2}",
            "query_lang": "en",
            "passage_lang": "en",
        }
        for row in range(24)
    ]
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    mined = tmp_path / "mined.jsonl"
    options = ("--num-negatives", "2", "--any-score")
    assert pyhbt("mine", "--data", f"jsonl:{source}", "--out", mined, *options)[0] == 0
    found = [json.loads(line) for line in mined.read_text("utf-8").splitlines()]
    for row in found:
        assert len(row["negatives"]) == 2
        assert not any(text.endswith(row["query"].removeprefix("who wrote")) for text in row["negatives"])
    pq.write_table(pa.Table.from_pylist(found), tmp_path / "mined.parquet")
    with (tmp_path / "mined.csv").open("w", encoding="utf-8", newline="") as stream:
        columns = [name for name in found[0] if name != "negatives"]  # CSV has no lists
        writer = csv.DictWriter(stream, [*columns, "question"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(found)
    for kind in ("jsonl", "parquet", "csv"):
        read = load_pairs(tmp_path / f"mined.{kind}")
        assert len(read.group_names) == 12
        assert bool(read.negatives) == (kind != "csv")
        trained = ("--ratio", "0", "--steps", "2", "--batch-size", "8", "--out", tmp_path / kind)
        code, _, err = pyhbt("train", "--data", f"{kind}:{tmp_path / f'mined.{kind}'}", *trained)
        assert code == 0, err
        again = ("--data", f"{kind}:{tmp_path / f'mined.{kind}'}", "--out", tmp_path / f"{kind}.jsonl")
        assert pyhbt("mine", *again, *options)[0] == 0
        assert load_pairs(tmp_path / f"{kind}.jsonl").negatives == load_pairs(mined).negatives


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
def test_mistakes_of_mine_give_one_line(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = pyhbt("mine", *options, "--languages", "de")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


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
        (("v.npy", "v.npy", "--corpus-ids", "same"), "same: found 'a' twice"),
        (("v.npy", "v.npy", "--query-ids", "few"), "query_ids: few: found 2, expected 4"),
        (("texts.txt", "v.npy"), "encoder: found none, expected one for the texts of texts.txt"),
        (("v.npy", "objects.npy"), "objects.npy: damaged, expected an array"),
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
