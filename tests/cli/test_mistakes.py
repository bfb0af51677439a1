"""Mistakes on the command line: one line that names what is wrong, exit code 2, and nothing written or encoded."""

from __future__ import annotations

import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyhbt.cli.mistakes import in_one_line, is_mistake

CLDR = "--data cldr --languages de,en"
LONG = "x" * 300


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the commands run; no encoder encodes, and no hub is asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pyhbt.encoders.ngram.NgramEncoder.encode", lambda *_, **__: pytest.fail("encoded"))
    monkeypatch.setattr("pyhbt.training.trainer.HybridTrainer.train", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr("pyhbt.encoders.checkpoint.snapshot_download", _no_network)
    monkeypatch.setattr("huggingface_hub.HfFileSystem.glob", _no_network)
    for name, dim in (("v", 8), ("w", 7)):
        np.save(tmp_path / f"{name}.npy", np.ones((4, dim), dtype=np.float32))
    np.save(tmp_path / "whole.npy", np.arange(8).reshape(2, 4))
    for name, text in {
        "t.txt": "a\nb\n",
        "t.jsonl": '{"text": "a"}\n{"tex": "b"}\n',
        "bad.npy": "xx",
        "p.jsonl": '{"query": "a", "passage": "b", "query_lang": "en", "passage_lang": "de"}\n',
        "list.yaml": "steps: [1\n",
        "typo.yaml": "metricz: mAP\n",
        "list.json": "[1]",
    }.items():
        (tmp_path / name).write_text(text)
    for folder in ("d", "run/enc", "broken/cells"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "broken/train.jsonl").mkdir()
    (tmp_path / "broken/plots").write_text("")
    (tmp_path / "broken/encoder").write_text("")
    return tmp_path


def _no_network(*_: Any, **__: Any) -> None:
    raise ConnectionError("no network")


OUTPUTS = [
    ("encode t.txt --out x.txt", "out: found 'x.txt', expected a name that ends in .npy"),
    ("encode t.txt --out d", "out: found 'd', expected a name that ends in .npy"),
    ("encode t.txt --out t.txt/x.npy", "out: t.txt is a file, expected a folder for t.txt/x.npy"),
    (f"encode t.txt --out {LONG}.npy", f"out: {LONG}.npy cannot be written (File name too long)"),
    ("encode t.txt --out /proc/x.npy", "out: /proc/x.npy cannot be written"),
    ("search v.npy v.npy --out d", "out: d is a folder, expected a file"),
    ("search v.npy v.npy --out t.txt/r", "out: t.txt is a file, expected a folder for t.txt/r"),
    (f"search v.npy v.npy --out {LONG}", "cannot be written (File name too long)"),
    ("search v.npy w.npy --out v.npy", "out: found v.npy, which is queries too, expected another file"),
    ("search v.npy w.npy --out ./d/../w.npy", "out: found d/../w.npy, which is corpus too"),
    ("search v.npy v.npy --out /dev/null", "out: /dev/null is a device or pipe, expected a file"),
    ("search v.npy v.npy --out ''", "out: . is a folder, expected a file"),
    (f"evaluate --encoder ngram {CLDR} --run d", "run: d is a folder, expected a file"),
    (f"evaluate --encoder ngram {CLDR} --qrels t.txt/q", "qrels: t.txt is a file, expected a folder"),
    (f"evaluate --encoder ngram {CLDR} --out d", "out: d is a folder, expected a file"),
    (f"evaluate --encoder ngram {CLDR} --run a --qrels a", "qrels: found a, which is run too"),
    (f"evaluate --encoder ngram {CLDR} --run a --out ./a", "out: found a, which is run too"),
    (f"mine {CLDR} --out x.txt", "out: found 'x.txt', expected a name that ends in .jsonl"),
    (f"mine {CLDR} --out t.txt/x.jsonl", "out: t.txt is a file, expected a folder for t.txt/x.jsonl"),
    (f"mine {CLDR} --out {LONG}.jsonl", "cannot be written (File name too long)"),
    ("bitext v.npy v.npy --out x.txt", "out: found 'x.txt', expected a name that ends in .tsv or .jsonl"),
    ("bitext t.txt t.jsonl --out t.jsonl", "out: found t.jsonl, which is targets too, expected another file"),
    ("bitext v.npy v.npy --source-texts a.tsv --out a.tsv", "out: found a.tsv, which is source_texts too"),
    (f"bitext v.npy v.npy --out {LONG}.tsv", "cannot be written (File name too long)"),
    (f"train {CLDR} --out t.txt", "out: t.txt is a file, expected a folder"),
    (f"train {CLDR} --out t.txt/o", "out: t.txt is a file, expected a folder"),
    (f"train {CLDR} --out {LONG}", "cannot be written (File name too long)"),
    (f"train {CLDR} --out broken", "out: broken/train.jsonl is a folder, expected a file"),
    ("study --quick --out t.txt", "out: t.txt is a file, expected a folder"),
    ("study --quick --out t.txt/x", "out: t.txt is a file, expected a folder"),
    ("study --quick --out broken", "out: broken/plots is a file, expected a folder"),
    ("report broken", "study: broken/plots is a file, expected a folder"),
]

ENCODERS = [
    ("evaluate --encoder t.txt", "encoder: t.txt is not a folder, but a file"),
    ("evaluate --encoder a/b/c", "encoder: a/b/c is not a folder, nor a name that the hub could have"),
    (
        "evaluate --encoder 'my model'",
        "encoder: my model is not a folder, nor a name that the hub could have",
    ),
    ("evaluate --encoder ./run/emc", "encoder: ./run/emc is not a folder", "did you mean 'run/enc'?"),
    ("evaluate --encoder run/emc", "encoder: no folder run/emc here and no model", "did you mean 'run/enc'?"),
    ("evaluate --encoder ngrma", "encoder: no folder ngrma here and no model", "did you mean 'ngram'?"),
    ("evaluate --encoder own/model", "no model of that name in the cache or the hub", "no network"),
    ("evaluate --encoder ''", "encoder: found '', expected ngram, a folder or a hub name"),
    ("evaluate --encoder d", "d/config.json: missing"),
    ("encode t.txt --out x.npy --encoder ./nope", "encoder: ./nope is not a folder"),
    ("search t.txt t.txt --out r --encoder ./nope", "encoder: ./nope is not a folder"),
    (f"mine {CLDR} --out x.jsonl --encoder ./nope", "encoder: ./nope is not a folder"),
    ("bitext t.txt t.txt --out x.tsv --encoder ./nope", "encoder: ./nope is not a folder"),
    ("bitext t.txt t.txt --out x.tsv", "encoder: found none, expected one for the texts of t.txt"),
    (f"train {CLDR} --out o --encoder ./nope", "encoder: ./nope is not a folder"),
    (f"train {CLDR} --out o --steps 1 --guide ./nope", "guide: found './nope'", "is not a folder"),
    ("study --quick --out s --encoder ./nope", "encoder: ./nope is not a folder"),
    ("encode t.txt --out x.npy --query-prefix '[INST] a [/INST]'", "query_prefix: found '[INST] a [/INST]'"),
]

DATA = [
    ("evaluate --encoder ngram --data cldrr", "data: found kind 'cldrr'"),
    ("evaluate --encoder ngram --data ''", "data: found kind ''"),
    ("evaluate --encoder ngram --data cldr:here", "data: found 'cldr:here', expected 'cldr' without"),
    ("evaluate --encoder ngram --data beir:nope", "data: nope in 'beir:nope' does not exist"),
    ("evaluate --encoder ngram --data beir:d", "d/corpus.jsonl: no such file"),
    ("evaluate --encoder ngram --data jsonl:p.jsonl", "p.jsonl is a file of pairs, which serves training"),
    ("evaluate --encoder ngram --data cldr --languages de,xx", "languages: found 'xx'"),
    ("evaluate --encoder ngram --data cldr --languages '[/x]'", "languages: found '[/x]'"),
    ("evaluate --encoder ngram --data cldr --languages ''", "languages: found no language"),
    ("evaluate --encoder ngram --data cldr --split train", "split: found 'train'"),
    ("evaluate --encoder ngram --data cldr --query-lang en", "query_lang: found 'en' for cldr"),
    ("evaluate --encoder ngram --data mmarco", "data: 'mmarco' cannot serve evaluation"),
    ("train --data mmarco --languages en,de --out o", "cannot be read from the hub", "no network"),
    ("train --data mmarco:own/copy --languages en,de --out o", "own/copy", "no network"),
    ("train --data miracl --languages en --out o", "cannot be read from the hub", "no network"),
    ("train --data jsonl:p.jsonl --languages fr --out o", "languages: found 'fr'", "de en"),
    ("train --data jsonl:t.txt --out o", "t.txt: found suffix '.txt'"),
    (f"train {CLDR} --limit 3 --out o", "limit: found 3"),
    (f"train {CLDR} --triple-negatives 3 --out o", "negatives: found 3 for cldr"),
    ("mine --data jsonl:p.jsonl --out x.jsonl --columns query", "columns: found 'query'"),
    ("mine --data jsonl:p.jsonl --out x.jsonl --corpus nope.jsonl", "nope.jsonl: no such file"),
    ("mine --data jsonl:p.jsonl --out x.jsonl --corpus t.jsonl", "t.jsonl:1: lang: missing"),
    ("encode d --out x.npy", "d: no such file"),
    ("encode t.jsonl --out x.npy", "t.jsonl:2: text: expected"),
    ("search v.npy w.npy --out r", "w.npy: found dim 7, expected 8, that of v.npy"),
    ("search v.npy whole.npy --out r", "whole.npy: found int64 of shape (2, 4)"),
    ("search v.npy bad.npy --out r", "bad.npy: "),
    ("search t.txt t.txt --out r", "encoder: found none, expected one for the texts of t.txt"),
    ("search v.npy v.npy --out r --corpus-ids nope", "nope"),
    ("study --quick --out s --data jsonl:d", "d/train.jsonl: no such file"),
    ("study --quick --out s --data mmarco", "data: 'mmarco' cannot serve study"),
    ("study --quick --out s --languages xx", "languages: found 'xx'"),
    ("report nope", "nope/results.jsonl: missing: no study here"),
    ("power d", "d/results.jsonl: missing: no study here"),
]

VALUES = [
    ("encode t.txt --out x.npy --kind both", "'--kind'", "found 'both', expected one of query, passage"),
    ("encode t.txt --out x.npy --max-length two", "'--max-length'", "found 'two'"),
    ("encode t.txt --out x.npy --max-length 0", "max_length: found 0"),
    ("encode t.txt --out x.npy --batch-size 0", "batch_size: found 0"),
    ("encode t.txt --out x.npy --threads 0", "threads: found 0"),
    ("encode t.txt --out x.npy --threads 99999999999", "threads: found 99999999999, expected at most"),
    (f"encode t.txt --out x.npy --max-length {10**20}", "'--max-length'", f"found '{10**20}'"),
    (f"mine {CLDR} --out x.jsonl --seed {10**30}", "'--seed'", f"found '{10**30}', expected a whole number"),
    ("encode t.txt u.txt --out x.npy", "u.txt"),
    ("encode --out x.npy", "Missing argument 'TEXTS'"),
    ("encode t.txt", "Missing option '--out'"),
    ("search v.npy v.npy --out r --k 0", "k: found 0"),
    ("search v.npy v.npy --out r --k 2.5", "'--k'", "found '2.5', expected a whole number"),
    ("search v.npy v.npy --out r --similarity l2", "'--similarity'", "found 'l2'"),
    ("evaluate", "Missing option '--encoder'"),
    ("evaluate --encoder ngram --metrics P@5", "metric: found 'P@5'"),
    ("evaluate --encoder ngram --metrics ''", "metrics: found none"),
    ("evaluate --encoder ngram --centring ''", "centring: found none"),
    ("evaluate --encoder ngram --centring bth", "centring: found 'bth'"),
    ("evaluate --encoder ngram --centring text", "centring_text: found None"),
    ("evaluate --encoder ngram --centring-text cldr", "centring_text: found 'cldr'"),
    (f"evaluate --encoder ngram {CLDR} --pivot xx", "pivot: found 'xx'", "de, en"),
    (f"evaluate --encoder ngram {CLDR} --language-means", "language_means: found True"),
    ("evaluate --encoder ngram --run-depth 0", "run_depth: found 0"),
    ("evaluate --encoder ngram --config list.yaml", "list.yaml:2: not YAML"),
    ("evaluate --encoder ngram --config typo.yaml", "typo.yaml: metricz: unknown; did you mean metrics?"),
    ("evaluate --encoder ngram --config list.json", "list.json: found list"),
    ("evaluate --encoder ngram --config nope.yaml", "nope.yaml: no such file"),
    (f"mine {CLDR} --out x.jsonl --num-negatives 0", "num_negatives: found 0"),
    (f"mine {CLDR} --out x.jsonl --pool mine", "'--pool'", "found 'mine'"),
    (f"mine {CLDR} --out x.jsonl --any-score --share 0.5", "share: found 0.5 with any_score"),
    ("bitext v.npy --out x.tsv", "Missing argument 'TARGETS'"),
    ("bitext v.npy w.npy --out x.tsv", "w.npy: found dim 7, expected 8, that of v.npy"),
    ("bitext v.npy bad.npy --out x.tsv", "bad.npy: damaged, expected an array"),
    ("bitext v.npy v.npy --out x.tsv --k 0", "k: found 0, expected at least 1"),
    ("bitext v.npy v.npy --out x.tsv --margin cosine", "'--margin'", "found 'cosine'"),
    ("bitext v.npy v.npy --out x.tsv --retrieval fwd", "'--retrieval'", "found 'fwd'"),
    ("bitext v.npy v.npy --out x.tsv --threshold nan", "threshold: found nan, expected a number"),
    (f"train {CLDR} --out o --steps 0", "steps: found 0"),
    (f"train {CLDR} --out o --steps 1.5", "'--steps'", "found '1.5'"),
    (f"train {CLDR} --out o --batch-size 0", "batch_size: found 0"),
    (f"train {CLDR} --out o --learning-rate -1", "learning_rate: found -1.0"),
    (f"train {CLDR} --out o --learning-rate nan", "learning_rate: found nan"),
    (f"train {CLDR} --out o --temperature 0", "temperature: found 0.0"),
    (f"train {CLDR} --out o --ratio 2", "ratio: found 2.0"),
    (f"train {CLDR} --out o --ratio linear:0", "ratio: found 'linear:0'"),
    (f"train {CLDR} --out o --seed -1", "seed: found -1"),
    (f"train {CLDR} --out o --seed 5000000000", "seed: found 5000000000"),
    (f"train {CLDR} --out o --save-every 0", "save_every: found 0"),
    (f"train {CLDR} --out o --extend", "extend: found True"),
    (f"train {CLDR} --out o --distil kl", "teacher_scores: found None"),
    (f"train {CLDR} --out o --set foo=1", "set: found foo"),
    (f"train {CLDR} --out o --set foo", "'--set'", "found 'foo', expected NAME=VALUE"),
    (f"train {CLDR} --out o --lora x", "lora: found 'x'"),
    (f"train {CLDR} --out o --code-switching 0.5", "lexicon: found None"),
    (f"train {CLDR} --out o --push-to-hub 'my model'", "push_to_hub: found 'my model'"),
    (f"train {CLDR} --out o --push-to-hub a/b/c", "push_to_hub: found 'a/b/c'"),
    (f"train {CLDR} --out o --bogus 3", "No such option: --bogus"),
    (f"train {CLDR}", "Missing option '--out'"),
    ("study --quick --out s --seeds 0,0", "seeds: found 0, 0"),
    ("study --quick --out s --seeds -1", "'--seeds'", "found -1"),
    ("study --quick --out s --seeds 1,5000000000", "seeds: found 5000000000"),
    ("study --quick --out s --arms ''", "arms: found none"),
    ("study --quick --out s --arms 0,2", "ratio: found 2.0"),
    ("study --quick --out s --arms 0.5+foo=1", "found 'foo'"),
    ("study --quick --out s --jobs 0", "jobs: found 0"),
    ("study --quick --out s --margin -1", "margin: found -1.0"),
    ("study --quick --out s --primary nope", "primary: found 'nope'"),
    ("study --quick --out s --learning-rates x", "'--learning-rates'", "found 'x'"),
    ("power d --difference x", "difference: found 'x', expected a number between 0 and 1"),
    ("power d --difference 0", "difference: found '0'"),
    ("power d --difference nan", "difference: found 'nan'"),
    ("doctor x", "unexpected extra argument", "x"),
    ("stud", "No such command 'stud'", "study"),
    ("--bogus", "No such option: --bogus"),
]

MISTAKES = [(line, parts) for table in (OUTPUTS, ENCODERS, DATA, VALUES) for line, *parts in table]


@pytest.mark.parametrize(("line", "parts"), MISTAKES, ids=[line[:60] for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(pyhbt: Any, place: Path, line: str, parts: list[str]) -> None:
    before = sorted(place.rglob("*"))
    code, _, err = pyhbt(*shlex.split(line))
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert err.startswith("pyhbt: ")
    for part in parts:
        assert part in err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["run[/b].trec", "[red]x[/].trec", "a\x1b[31mb.trec", "a\u202eb\nc.trec", "ü.trec"]
)
def test_names_are_printed_as_they_are_and_harmlessly(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.eye(3, dtype=np.float32))
    code, out, err = pyhbt("search", "v.npy", "v.npy", "--out", name)
    assert code == 0, err
    shown = name.encode("unicode_escape").decode() if not name.startswith("ü") else name
    assert out == f"{shown}: 3 queries, 3 passages\n"
    assert (tmp_path / name).is_file()


def test_data_with_brackets_and_escapes_are_printed_harmlessly(
    pyhbt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("a\n")
    assert pyhbt("encode", "t.txt", "--out", "out[v2].npy")[:2] == (0, "out[v2].npy: float32 (1, 128)\n")
    languages = ("[/x]", "e\x1b[1mn")
    rows = [
        {
            "query": f"q {i}",
            "passage": f"p {i}",
            "query_lang": languages[i % 2],
            "passage_lang": languages[i // 2],
        }
        for i in range(4)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = pyhbt("mine", "--data", "jsonl:p.jsonl", "--out", "m.jsonl", "--any-score")
    assert (code, "\x1b" in out + err) == (0, False), err
    assert "[/x]" in out
    code, out, err = pyhbt(
        "train", "--data", "jsonl:p.jsonl", "--out", "o[/b]", "--steps", "1", "--batch-size", "2"
    )
    assert (code, "\x1b[1mn" in out + err) == (0, False), err
    assert "encoder: o[/b]/encoder" in out


def test_escapes_of_an_argument_do_not_reach_the_terminal(pyhbt: Any, place: Path) -> None:
    for arguments in (
        ("stu\x1b[2Jd",),
        ("report", "a\x9b\u202eb"),
        ("evaluate", "--encoder", "x\x1b]0;t\x07"),
    ):
        code, _, err = pyhbt(*arguments)
        assert code == 2
        assert err.strip("\n").isprintable()


@pytest.mark.parametrize(
    "error",
    [
        zipfile.BadZipFile("damaged"),
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA"),
        type("ConnectError", (Exception,), {"__module__": "httpx2"})("no network"),
        type("SafetensorError", (Exception,), {"__module__": "safetensors_rust"})("header"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_troubles_of_files_networks_and_memory_are_one_line(error: Exception) -> None:
    assert is_mistake(error)
    assert in_one_line(error).isprintable()
    assert in_one_line(error)


def test_bugs_are_no_mistakes() -> None:
    assert not any(
        map(is_mistake, (KeyError("ours"), AssertionError(), RuntimeError("ours"), RecursionError()))
    )


def test_an_error_that_says_nothing_is_called_by_its_kind() -> None:
    assert in_one_line(MemoryError()) == "MemoryError"
    assert in_one_line(OSError(" \n ")) == "OSError"
    assert in_one_line("two\nlines \x1b") == r"two lines \x1b"
