"""What is measured of an encoder in a study: points of the learning curve, and final figures on test sets.

Rows carry split, centring, setting, query_lang, passage_lang, tier, metric and value. A test set is measured from one
encoding under each centring, with macro means, means of every language pair (of the headline metrics), and the
influence of every cluster of queries on every macro mean, from which tests are made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pyhbt.data import RetrievalSet
from pyhbt.encoders import Encoder
from pyhbt.evaluation.centring import text_means
from pyhbt.evaluation.evaluator import Evaluator, encode_set
from pyhbt.evaluation.names import (
    BIAS_METRICS,
    STUDY_CENTRINGS,
    TEXT_CENTRING,
    Centring,
    headline_metrics,
)
from pyhbt.evaluation.result import Evaluation, MeanScore
from pyhbt.study.cells import ROWS, Cell
from pyhbt.training.fingerprint import fingerprint_of_retrieval_set

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """A set that encoders are scored on. ``split`` names it in rows: ``dev``, ``test`` or ``test:NAME``."""

    split: str
    data: RetrievalSet
    metrics: tuple[str, ...]
    pivot: str | None = None
    centrings: tuple[Centring, ...] = STUDY_CENTRINGS
    text: RetrievalSet | None = None
    """Whose language means embeddings are centred by, too."""

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.data, metrics=self.metrics, pivot=self.pivot)

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """Plain data: what is measured, on what."""
        return {
            "split": self.split,
            "data": {"name": self.data.name, **fingerprint_of_retrieval_set(self.data)},
            "metrics": list(self.metrics),
            "centrings": list(self.centrings),
            "pivot": self.pivot,
            "centring_text": None if self.text is None else fingerprint_of_retrieval_set(self.text),
        }

    def evaluations(self, encoder: Encoder) -> Iterator[Evaluation]:
        """The set scored under each centring, from one encoding."""
        queries, passages = encode_set(encoder, self.data)
        for centring in self.centrings:
            yield self._evaluator.evaluate(queries, passages, centring=centring)
        if self.text is not None:
            means = text_means(encoder, self.text)
            yield self._evaluator.evaluate(queries, passages, centring=TEXT_CENTRING, means=means)

    def write_part(self, encoder: Encoder, cell: Cell, step: int, folder: Path) -> None:
        """Measure an encoder and write what was found to ``folder``, which is made."""
        rows: Rows = []
        scores: dict[str, Any] = {}
        for evaluation in self.evaluations(encoder):
            by_pair = (*headline_metrics(self.metrics), *BIAS_METRICS)
            means = [*evaluation.macro_means(), *evaluation.pair_means(by_pair)]
            rows.extend(rows_of(cell, step, self.split, evaluation.centring, means))
            clusters, influences = evaluation.influences()
            scores["clusters"] = np.asarray(clusters)
            scores |= {f"{evaluation.centring}/{name}": values for name, values in influences.items()}
        folder.mkdir(parents=True)
        write_rows(folder / ROWS, rows)
        np.savez_compressed(folder / "scores.npz", **scores)
        text = json.dumps(self.description, indent=1, ensure_ascii=False)
        (folder / "measured.json").write_text(text + "\n", encoding="utf-8")

    def serves(self, part: Path) -> bool:
        """Whether a part that is there has all that is wanted here.

        Raises:
            FileExistsError: it is of another data set; names it.
        """
        path = part / "measured.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        wanted = self.description
        if found["data"] != wanted["data"]:
            raise FileExistsError(
                f"{path}: found {self.split} scores on {found['data']}, this study has {wanted['data']}: "
                "choose another folder or overwrite it"
            )
        same = all(wanted[name] in (None, found.get(name)) for name in ("pivot", "centring_text"))
        same = same and set(wanted["centrings"]) <= set(found["centrings"])
        return same and set(wanted["metrics"]) <= set(found["metrics"])


def rows_of(
    cell: Cell, step: int, split: str, centring: str, means: Sequence[MeanScore]
) -> Iterator[dict[str, Any]]:
    """A row for each mean."""
    for mean in means:
        yield {**_head(cell, step, split), "centring": centring, **vars(mean)}


def exposure_rows(
    cell: Cell, step: int, figures: Sequence[tuple[str, str, str, str, float]]
) -> Iterator[dict[str, Any]]:
    """A row for each (kind of batch, query language, passage language, name, value) of what a training saw."""
    for kind, query_lang, passage_lang, name, value in figures:
        yield {
            **_head(cell, step, "train"),
            "centring": "none",
            "setting": kind,
            "query_lang": query_lang,
            "passage_lang": passage_lang,
            "tier": "all",
            "metric": name,
            "value": value,
        }


def _head(cell: Cell, step: int, split: str) -> Mapping[str, Any]:
    return {"arm": cell.arm.label, "seed": cell.seed, "step": step, "split": split}


def write_rows(path: Path, rows: Rows) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
