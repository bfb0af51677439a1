"""Whole jobs of ``pyhbt evaluate`` and ``pyhbt encode``: texts in, scores, runs and vectors out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pyhbt.centring import DESCRIPTION, Centring
from pyhbt.data import RetrievalSet
from pyhbt.data.trec import write_qrels, write_run
from pyhbt.encoders import Encoder, TextKind
from pyhbt.evaluation import DEFAULT_METRICS, Evaluation, Evaluator, encode_set
from pyhbt.files import write_atomically
from pyhbt.ops import search
from pyhbt.trainer import Evaluate


def score_encoder(
    encoder: Encoder,
    data: RetrievalSet,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    centrings: Sequence[Centring] = ("none", "both"),
    language_means: bool = False,
    batch_size: int | None = None,
    run: Path | None = None,
    run_depth: int = 100,
    qrels: Path | None = None,
) -> list[Evaluation]:
    """Encode the set once, with the encoder's language means if wanted, and evaluate it under each centring.

    ``run`` gets the first ``run_depth`` passages of every query in the multilingual pool, not centred, in TREC
    format; ``qrels`` the judgements.
    """
    evaluator = Evaluator(
        data, metrics=metrics
    )  # before the long part, so that a wrong metric is told at once
    queries, passages = encode_set(
        encoder, data, language_means=language_means, batch_size=batch_size, progress=True
    )
    evaluations = [evaluator.evaluate(queries, passages, centring=centring) for centring in centrings]
    if run is not None:
        scores, indices = search(queries, passages, run_depth)
        ranking = {
            query: {
                data.passage_ids[place]: float(score)
                for place, score in zip(places, row, strict=True)
                if place >= 0
            }
            for query, places, row in zip(data.query_ids, indices, scores, strict=True)
        }
        write_run(run, ranking)
    if qrels is not None:
        write_qrels(qrels, data.qrels)
    return evaluations


def dev_scores(data: RetrievalSet, metrics: Sequence[str] = ("mAP", "recall@10")) -> Evaluate:
    """A trainer's ``evaluate`` callback: macro means of every setting on ``data``, plain."""
    evaluator = Evaluator(data, metrics=metrics)

    def measured(encoder: Encoder, step: int) -> dict[str, float]:
        evaluation = evaluator.evaluate(*encode_set(encoder, data))
        means = (mean for mean in evaluation.macro_means() if mean.tier == "all")
        return {f"{mean.setting} {mean.metric}": mean.value for mean in means}

    return measured


def write_scores(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Every mean of every evaluation, by language pair and macro, one JSON object a line."""
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for evaluation in evaluations:
            for mean in (*evaluation.macro_means(), *evaluation.pair_means()):
                row = {"data": evaluation.data.name, "centring": evaluation.centring, **asdict(mean)}
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def encode_file(
    encoder: Encoder,
    texts: Path,
    out: Path,
    *,
    kind: TextKind = "passage",
    field: str = "text",
    language: str | None = None,
    batch_size: int | None = None,
) -> tuple[int, int]:
    """Encode the lines of a text file, or one field of a JSONL file, into a .npy file; returns its shape.

    Raises:
        ValueError: a line that is no JSON object with that field; names file, line and field.
    """
    strings = _read_texts(texts, field)
    vectors = encoder.encode(strings, kind, language=language, batch_size=batch_size, progress=True).numpy()
    with write_atomically(out) as temporary, temporary.open("wb") as target:
        np.save(target, vectors)
    return vectors.shape[0], vectors.shape[1]


def _read_texts(path: Path, field: str) -> list[str]:
    with path.open(encoding="utf-8") as stream:  # str.splitlines would split at U+2028 too
        lines = [line.removesuffix("\n") for line in stream]
    if path.suffix != ".jsonl":
        return lines
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            text = json.loads(line)[field]
        except (json.JSONDecodeError, KeyError, TypeError):
            text = None
        if not isinstance(text, str):
            raise ValueError(f"{path}:{number}: {field}: expected a JSON object with this text field")
        texts.append(text)
    return texts


def describe_centrings(evaluations: Sequence[Evaluation]) -> list[str]:
    """What each centring used did, in words."""
    return [
        f"centring {evaluation.centring}: {DESCRIPTION[evaluation.centring]}" for evaluation in evaluations
    ]
