"""A folder with everything that the documentation's examples speak of, and a hub that holds small models and data."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from pyhbt.data import write_pairs
from pyhbt.data.mmarco import LANGUAGE_NAMES
from pyhbt.data.pair_set import PairSet, ParallelItem
from tests.docs.blocks import ROOT, Block
from tests.toy import parallel_items, save_tiny_bert, word

MODELS = ("intfloat/multilingual-e5-small", "xlm-roberta-base", "BAAI/bge-m3")
LANGUAGES = ("ar", "de", "el", "en", "hi", "tr", "vi", "zh")

# Runs as the user's commands do, with less training: the last of an option given twice counts.
_LESS = """#!/bin/sh
case "$*" in
  study*--data*) exec {program} "$@" --steps 16 --seeds 2 ;;
  study*) exec {program} "$@" --steps 2 --seeds 1 ;;
  train*) exec {program} "$@" --steps 4 ;;
esac
exec {program} "$@"
"""

# In every process: data sets of the hub are folders.
_HUB = """
import pyhbt.data.hub as hub

_locate = hub.locate
hub.locate = lambda source: _locate({folder!r} if source == "unicamp-dl/mmarco" else source)
"""


class Workshop:
    """Where a page's blocks are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self._hub = folder / "hub"
        self.folder.mkdir(parents=True)
        self._write_models()
        self._write_program(folder / "bin")
        write_mmarco(self._hub / "mmarco")
        (self._hub / "sitecustomize.py").write_text(_HUB.format(folder=str(self._hub / "mmarco")))
        write_xquad_r(self.folder / "xquad-r")
        write_own_data(self.folder)

    def _write_models(self) -> None:
        tiny = save_tiny_bert(self._hub / "tiny")
        for name in MODELS:
            cached = self._hub / "cache" / f"models--{name.replace('/', '--')}"
            shutil.copytree(tiny, cached / "snapshots" / "0")
            (cached / "refs").mkdir()
            (cached / "refs" / "main").write_text("0")
        shutil.copytree(tiny, self.folder / "out" / "encoder")

    def _write_program(self, folder: Path) -> None:
        folder.mkdir()
        program = folder / "pyhbt"
        program.write_text(_LESS.format(program=Path(sys.executable).with_name("pyhbt")))
        program.chmod(0o755)
        self._path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(self, blocks: Sequence[Block]) -> None:
        """The blocks of a page in order; Python's that follow one another in one process.

        Raises:
            AssertionError: one fails; with its line and what it printed.
        """
        for (language, _), group in groupby(blocks, key=lambda block: (block.language, bool(block.file))):
            part = list(group)
            for block in part:
                if block.file:
                    path = self.folder / block.file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(block.code, encoding="utf-8")
            if not part[0].file:
                self._run(
                    "\n".join(f"{block.given}\n{block.code}" for block in part), language, part[0].where
                )

    def _run(self, code: str, language: str, where: str) -> None:
        script = self.folder / f".block.{language}"
        script.write_text(code, encoding="utf-8")
        program = [sys.executable] if language == "python" else ["bash", "-e"]
        done = subprocess.run(
            [*program, str(script)],
            cwd=self.folder,
            env=os.environ | self._variables(),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, (
            f"{where}: exit code {done.returncode}\n{code}\n{done.stdout}\n{done.stderr}"
        )

    def _variables(self) -> dict[str, str]:
        return {
            "PATH": self._path,
            "PYTHONPATH": f"{self._hub}",
            "HF_HUB_CACHE": str(self._hub / "cache"),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYHBT_TESTS": str(ROOT),
        }


def sentence(language: str, number: int, salt: str) -> str:
    rng = random.Random(f"{language}/{number}/{salt}")
    return " ".join(word(rng, language) for _ in range(5))


def write_xquad_r(folder: Path) -> None:
    """48 articles, as published, of two sentences and two questions each."""
    folder.mkdir()
    for language in LANGUAGES:
        articles = []
        for number in range(48):
            sentences = [sentence(language, number, salt) for salt in ("first", "second")]
            ends = [len(sentences[0]), len(sentences[0]) + 1 + len(sentences[1])]
            questions = [
                {"id": f"{number}-{place}", "question": sentence(language, number, f"q{place}")}
                | {"answers": [{"answer_start": (0, ends[0] + 1)[place], "text": "x"}]}
                for place in range(2)
            ]
            paragraph = {
                "context": " ".join(sentences),
                "sentences": sentences,
                "sentence_breaks": [[0, ends[0]], [ends[0] + 1, ends[1]]],
                "qas": questions,
            }
            articles.append({"title": str(number), "paragraphs": [paragraph]})
        (folder / f"{language}.json").write_text(json.dumps({"data": articles}), encoding="utf-8")


def write_mmarco(folder: Path) -> None:
    """Forty triples in the layout of the published ones."""
    data = folder / "data"
    triples = "".join(f"{number}\t{100 + number}\t{100 + (number + 7) % 40}\n" for number in range(40))
    (data / "google" / "queries" / "train").mkdir(parents=True)
    (data / "google" / "collections").mkdir()
    (data / "triples.train.ids.small.tsv").write_text(triples)
    for code in ("en", "de", "hi"):
        name = LANGUAGE_NAMES[code]
        queries = "".join(f"{number}\t{sentence(code, number, 'query')}\n" for number in range(40))
        passages = "".join(f"{100 + number}\t{sentence(code, number, 'passage')}\n" for number in range(40))
        (data / f"google/queries/train/{name}_queries.train.tsv").write_text(queries)
        (data / f"google/collections/{name}_collection.tsv").write_text(passages)


def write_own_data(folder: Path) -> None:
    """Files of one's own, by the names that the pages give them."""
    items = parallel_items(40, ("de", "en", "sw"))
    pairs = PairSet.from_parallel(items[:20])
    write_pairs(folder / "pairs.jsonl", pairs)
    _write_lines(
        folder / "passages.jsonl", [{"text": pair.passage, "lang": pair.passage_lang} for pair in pairs]
    )
    _write_lines(folder / "queries.jsonl", [{"text": pair.query} for pair in pairs])
    rng = np.random.default_rng(0)
    for name, rows in (("queries", 5), ("passages", 180)):
        np.save(folder / f"{name}.npy", rng.standard_normal((rows, 32), dtype=np.float32))
    (folder / "ids.txt").write_text("".join(f"p{number}\n" for number in range(180)))
    (folder / "faq.csv").write_text(
        "question,context\n" + "".join(f"{item.queries['de']},{item.passages['de']}\n" for item in items)
    )
    (folder / "en-de.txt").write_text(
        "".join(f"{item.queries['en']} {item.queries['de']}\n" for item in items)
    )
    for language in ("de", "en"):
        texts = [item.passages[language] for item in items]
        (folder / f"{language}.txt").write_text("".join(f"{text}\n" for text in texts))
    study = folder / "kenya"
    study.mkdir()
    write_pairs(study / "train.jsonl", PairSet.from_parallel(parallel_items(20, ("de", "en"))))
    for name, part in (("dev", items[20:30]), ("test", items[30:])):
        _write_beir(study / name, name, part)
    _write_beir(folder / "published", "test", items[30:])
    broken = [{"_id": "empty", "text": "", "title": ""}]
    _write_lines(folder / "published" / "corpus.jsonl", broken, mode="a")


def _write_beir(folder: Path, split: str, items: Sequence[ParallelItem]) -> None:
    (folder / "qrels").mkdir(parents=True)
    passages, queries, judged = [], [], ["query-id\tcorpus-id\tscore"]
    for item in items:
        for lang in item.queries:
            name = f"{item.group}-{lang}"
            passages.append({"_id": f"p-{name}", "text": item.passages[lang], "lang": lang})
            queries.append(
                {"_id": f"q-{name}", "text": item.queries[lang], "lang": lang, "question": item.group}
            )
            judged += [f"q-{name}\tp-{item.group}-{other}\t1" for other in item.passages]
    _write_lines(folder / "corpus.jsonl", passages)
    _write_lines(folder / "queries.jsonl", queries)
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join(judged) + "\n")


def _write_lines(path: Path, rows: Sequence[dict[str, str]], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
