"""Every kind of file that PyHBT reads, damaged in every way: a value, or one of our errors that names the file.

No other exception leaves a reader, none takes memory that the file does not have, none runs what a file says.
"""

from __future__ import annotations

import gzip
import json
import random
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pyhbt import ExactIndex, NgramEncoder, load_encoder
from pyhbt.data import load_corpus, load_pairs, write_pairs
from pyhbt.data.beir import load_beir
from pyhbt.data.lareqa import load_lareqa
from pyhbt.data.mmarco import load_mmarco
from pyhbt.data.pair_set import PairSet
from pyhbt.data.teacher_scores import TeacherScores
from pyhbt.data.texts import read_ids, read_texts
from pyhbt.data.trec import read_qrels, read_run
from pyhbt.encoders.means import LanguageMeans
from pyhbt.options import read_config
from pyhbt.retrieval.run import SearchJob, search_to_run
from pyhbt.study.cells import damaged, finished_cells, measured_parts, read_exposure
from pyhbt.study.influences import load_influences
from pyhbt.study.results import load_results
from pyhbt.study.run import run_study
from pyhbt.training.code_switching import load_lexicon
from tests.docs.workshop import write_mmarco, write_own_data, write_xquad_r
from tests.mutations import MUTATIONS
from tests.study.test_jobs import SMALL
from tests.toy import parallel_items, save_tiny_bert, study_data

PAIRS = PairSet.from_parallel(parallel_items(5, ("aa", "bb")))
OURS = (ValueError, TypeError, OSError, ImportError)  # of which one line is told


@dataclass(frozen=True)
class Kind:
    """Files of one kind below a folder, how they are made and read, and how often they are damaged."""

    make: Callable[[Path], object]
    files: str
    read: Callable[[Path], object]
    times: int = 300


def _save_sentence_transformer(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(save_tiny_bert(folder / "plain")), device="cpu").save(str(folder / "encoder"))


def _save_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    columns = ("query", "passage", "query_lang", "passage_lang", "group")
    table = pa.table({name: [getattr(pair, name) for pair in PAIRS] for name in columns})
    pyarrow.parquet.write_table(table, folder / "pairs.parquet")


def _save_table(folder: Path, suffix: str, separator: str) -> None:
    rows = ["query", "passage", "query_lang", "passage_lang"], ['what, "now"', "this\nthat", "en", "de"]
    lines = [separator.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    (folder / f"pairs.{suffix}").write_text("\n".join(lines) + "\n")


def _save_search(folder: Path) -> None:
    np.save(folder / "queries.npy", np.ones((3, 8), np.float32))
    np.save(folder / "corpus.npy", np.eye(8, dtype=np.float32))


def _search(folder: Path) -> None:
    search_to_run(SearchJob(folder / "queries.npy", folder / "corpus.npy", k=3), folder / "out.trec")


def _save_means(folder: Path) -> None:
    encoder = NgramEncoder(dim=8, num_buckets=64)
    texts = (["one", "two"], ["aa", "bb"])
    encoder.language_means = LanguageMeans.of(
        lambda strings, kind: encoder.encode(strings, kind), {"query": texts}
    )
    encoder.save(folder / "encoder")


def _read_study(folder: Path) -> None:
    damaged(folder)
    for cell in finished_cells(folder).values():
        measured_parts(cell)
        read_exposure(cell)
    load_influences(folder)
    load_results(folder)


def _unseal(folder: Path) -> None:
    """As an earlier version wrote it, without manifests, so that readers see the damage."""
    for path in folder.rglob("pyhbt_manifest.json"):
        path.unlink()
    for path in folder.rglob("cell.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in record.items() if name != "sealed"}))


def _unsealed_study(folder: Path) -> None:
    run_study(SMALL, study_data(), folder)
    _unseal(folder)


def _encode(folder: Path) -> None:
    load_encoder(folder / "encoder").encode(["what"], kind="query")


def _write(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def _read_gzip(folder: Path) -> None:
    load_pairs(folder / "pairs.jsonl.gz", query_lang="en", passage_lang="en")


def _save_index(folder: Path) -> None:
    ExactIndex(np.eye(8, dtype=np.float32), ids=[f"p{i}" for i in range(8)]).save(folder / "index")


def _search_index(folder: Path) -> None:
    ExactIndex.open(folder / "index", verify=True).search(np.ones((1, 8), np.float32), 2)


_LINES = "".join(
    json.dumps({"query": PAIRS[0].query, "passage": pair.passage, "score": 0.5}) + "\n" for pair in PAIRS[:4]
)
_YAML = "data: cldr\nsteps: 10\narms: [0, 0.5]\nset:\n  bf16: true\n"

KINDS = {
    "pairs.csv": Kind(lambda f: _save_table(f, "csv", ","), "*.csv", lambda f: load_pairs(f / "pairs.csv")),
    "pairs.tsv": Kind(lambda f: _save_table(f, "tsv", "\t"), "*.tsv", lambda f: load_pairs(f / "pairs.tsv")),
    "pairs.jsonl": Kind(
        lambda f: write_pairs(f / "pairs.jsonl", PAIRS), "*.jsonl", lambda f: load_pairs(f / "pairs.jsonl")
    ),
    "pairs.jsonl.gz": Kind(
        _write("pairs.jsonl.gz", gzip.compress(b'{"query": "a", "passage": "b"}\n' * 9)), "*.gz", _read_gzip
    ),
    "pairs.parquet": Kind(_save_parquet, "*.parquet", lambda f: load_pairs(f / "pairs.parquet")),
    "BEIR": Kind(write_own_data, "kenya/dev/**/*.*", lambda f: load_beir(f / "kenya/dev", "dev"), 450),
    "XQuAD-R": Kind(
        lambda f: write_xquad_r(f / "xquad-r"), "xquad-r/en.json", lambda f: load_lareqa(f / "xquad-r"), 100
    ),
    "mMARCO": Kind(
        lambda f: write_mmarco(f / "mmarco"),
        "mmarco/**/*.tsv",
        lambda f: load_mmarco(str(f / "mmarco"), languages=["en", "de"], negatives=1),
    ),
    "run": Kind(
        _write("run.trec", "q1 Q0 p1 1 0.5 x\nq1 Q0 p2 2 0.25 x\n"),
        "*.trec",
        lambda f: read_run(f / "run.trec"),
    ),
    "judgements": Kind(_write("qrels", "q1 0 p1 1\nq2 0 p7 0\n"), "qrels", lambda f: read_qrels(f / "qrels")),
    "corpus": Kind(write_own_data, "passages.jsonl", lambda f: load_corpus(f / "passages.jsonl")),
    "texts": Kind(write_own_data, "queries.jsonl", lambda f: read_texts(f / "queries.jsonl")),
    "ids": Kind(write_own_data, "ids.txt", lambda f: read_ids(f / "ids.txt", f, 180, "corpus_ids"), 100),
    "lexicon": Kind(write_own_data, "en-de.txt", lambda f: load_lexicon(f / "en-de.txt")),
    "teacher's scores": Kind(
        _write("scores.jsonl", _LINES),
        "scores.jsonl",
        lambda f: TeacherScores.load(f / "scores.jsonl", PAIRS),
    ),
    "embeddings": Kind(_save_search, "*.npy", _search),
    "index": Kind(_save_index, "index/**/*.*", _search_index),
    "n-gram encoder": Kind(_save_means, "encoder/*", _encode),
    "transformer": Kind(lambda f: save_tiny_bert(f / "encoder"), "encoder/*", _encode, 200),
    "sentence-transformer": Kind(_save_sentence_transformer, "encoder/**/*.*", _encode, 250),
    "configuration": Kind(_write("study.yaml", _YAML), "study.yaml", lambda f: read_config(f / "study.yaml")),
    "study": Kind(lambda f: run_study(SMALL, study_data(), f), "cells/**/*.*", _read_study, 150),
    "study of 0.1": Kind(_unsealed_study, "cells/**/*.*", _read_study, 250),
    "results": Kind(lambda f: run_study(SMALL, study_data(), f), "results.jsonl", load_results, 150),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of libraries, about what they find
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    whole = tmp_path / "whole"
    whole.mkdir()
    kind.make(whole)
    kind.read(shutil.copytree(whole, tmp_path / "copy"))
    files = sorted(path.relative_to(whole) for path in whole.glob(kind.files) if path.is_file())
    assert files
    rng, wrong, refused = random.Random(name), [], 0
    memory = _peak()
    for number in range(kind.times):
        file, mutation = files[number % len(files)], MUTATIONS[number // len(files) % len(MUTATIONS)]
        folder = tmp_path / "damaged"
        shutil.copytree(whole, folder)
        (folder / file).write_bytes(mutation((whole / file).read_bytes(), rng))
        begin = time.monotonic()
        what = f"{number} {file} {mutation.__name__}"
        try:
            kind.read(folder)
        except OURS as error:
            refused += 1
            if not any(part in str(error) for part in (file.name, str(folder / "encoder"))):
                wrong.append(f"{what}: {type(error).__name__} names no file: {str(error)[:200]}")
        except Exception as error:
            wrong.append(f"{what}: {type(error).__module__}.{type(error).__name__}: {str(error)[:200]}")
        if time.monotonic() - begin > 20:
            wrong.append(f"{what}: took {time.monotonic() - begin:.0f} s")
        shutil.rmtree(folder)
    assert not wrong, "\n".join(wrong)
    assert _peak() - memory < 1 << 30
    assert refused or "study" in name


def _peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
