"""Files of data sets, as tests write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_beir(folder: Path, split: str, qrels: str | None = None) -> Path:
    corpus = [
        {"_id": "p1", "text": "text", "title": "Title", "lang": "en"},
        {"_id": "p2", "text": "texte", "title": "", "lang": "fr"},
    ]
    queries = [
        {"_id": "q1", "text": "what", "lang": "en", "group": "g"},
        {"_id": "q2", "text": "quoi", "lang": "fr", "group": "g"},
        {"_id": "q3", "text": "other split", "lang": "de"},
        {"_id": "q4", "text": "alone", "lang": "en"},
    ]
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "queries.jsonl", queries)
    (folder / "qrels").mkdir(exist_ok=True)
    rows = "q1\tp1\t1\nq1\tp2\t2\nq2\tp2\t1\nq4\tp1\t0\n" if qrels is None else qrels
    (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}", encoding="utf-8")
    return folder
