"""The job of ``pyhbt evaluate``: texts in, scores, runs and judgements out; and scores in the course of a training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pyhbt.data import RetrievalSet
from pyhbt.data.trec import write_qrels, write_run
from pyhbt.encoders import Encoder, EncoderLike, as_encoder
from pyhbt.evaluation.centring import DESCRIPTION, text_means
from pyhbt.evaluation.evaluator import Evaluator, encode_set
from pyhbt.evaluation.names import DEFAULT_METRICS, TEXT_CENTRING, Centring
from pyhbt.evaluation.result import Evaluation
from pyhbt.files import check_file_target, write_atomically
from pyhbt.ops import search

Evaluate = Callable[[Encoder, int], Mapping[str, float]]
"""Scores of an encoder in training after so many steps, by name."""


def score_encoder(
    encoder: EncoderLike,
    data: RetrievalSet,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    centrings: Sequence[Centring] = ("none", "both"),
    pivot: str | None = None,
    text: RetrievalSet | None = None,
    language_means: bool = False,
    batch_size: int | None = None,
    run: Path | None = None,
    run_depth: int = 100,
    qrels: Path | None = None,
) -> list[Evaluation]:
    """Encode the set once, with the encoder's language means if wanted, and evaluate it under each centring.

    ``text`` is what the centring "text" takes its means from, ``pivot`` the second language of pools of two.

    ``run`` gets the first ``run_depth`` passages of every query in the multilingual pool, not centred, in TREC
    format; ``qrels`` the judgements.
    """
    for name, path in (("run", run), ("qrels", qrels)):
        if path is not None:
            check_file_target(name, path)
    evaluator = Evaluator(data, metrics=metrics, pivot=pivot)  # what is wrong is told before the long part
    if (TEXT_CENTRING in centrings) != (text is not None):
        raise ValueError(
            f"text: found {text}, expected other text if and only if the centring 'text' is wanted"
        )
    encoder = as_encoder(encoder)
    if language_means and encoder.language_means is None:
        raise ValueError("language_means: found True, expected False: the encoder has no language means")
    queries, passages = encode_set(
        encoder, data, language_means=language_means, batch_size=batch_size, progress=True
    )
    means = None if text is None else text_means(encoder, text)
    evaluations = [
        evaluator.evaluate(queries, passages, centring=centring, means=means) for centring in centrings
    ]
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


def describe_centrings(evaluations: Sequence[Evaluation]) -> list[str]:
    """What each centring used did, in words."""
    return [
        f"centring {evaluation.centring}: {DESCRIPTION[evaluation.centring]}" for evaluation in evaluations
    ]
