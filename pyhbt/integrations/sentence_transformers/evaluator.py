"""The three retrieval settings and language bias as a sentence-transformers evaluator.

Cost of a call: encoding the set, and what :mod:`pyhbt.evaluation.evaluator` says of exact ranks.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import BaseEvaluator

from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.evaluation.centring import parse_centring
from pyhbt.evaluation.evaluator import Evaluator
from pyhbt.evaluation.names import DEFAULT_METRICS, RANK_METRICS, SETTINGS, Centring, Setting
from pyhbt.evaluation.result import Evaluation
from pyhbt.files import write_atomically

logger = logging.getLogger(__name__)


class MultilingualRetrievalEvaluator(BaseEvaluator):
    """Macro means of the monolingual, cross-lingual and multilingual setting, exact and uncut.

    Args:
        data: the retrieval set.
        name: prefix of the metrics, and part of the file's name; by default that of the set.
        metrics: names that :func:`pyhbt.evaluation.metrics.measure` knows.
        settings: those wanted.
        centring: of the languages' embeddings, see :mod:`pyhbt.evaluation.centring`.
        primary_metric: the key, without ``name``, by which models are chosen; by default the first metric in the
            multilingual setting, or in the first of ``settings``.
        query_prompt, passage_prompt: texts put before; by default the model's own prompts for queries and documents.
        batch_size, show_progress_bar, truncate_dim: as in the model's ``encode``.
        write_csv: add a row to ``Multilingual-Retrieval_evaluation_NAME_results.csv`` in the output path.

    Keys are ``{name}_{setting}_{metric}`` over all languages and, where the set has several tiers,
    ``{name}_{setting}_{tier}_{metric}``; the multilingual setting adds the measures of language
    bias, such as ``rank_distance`` (spaces become underscores). A mean that is undefined has no key.

    Raises:
        ValueError: an unknown metric, setting or centring; on a call, a model whose similarity is neither the cosine
            nor the dot product, or a ``primary_metric`` that is not among the keys.
    """

    def __init__(
        self,
        data: RetrievalSet,
        name: str | None = None,
        *,
        metrics: Sequence[str] = DEFAULT_METRICS,
        settings: Sequence[Setting] = SETTINGS,
        centring: Centring = "none",
        primary_metric: str | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        truncate_dim: int | None = None,
        write_csv: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not metrics:
            raise ValueError("metrics: found none, expected at least 1")
        if not settings:
            raise ValueError("settings: found none, expected at least 1")
        self._evaluator = Evaluator(data, metrics=metrics, settings=settings)
        self.data = data
        self.name = data.name if name is None else name
        self.metrics = tuple(metrics)
        self.settings = tuple(settings)
        self.centring = parse_centring(centring)
        first: Setting = "multilingual" if "multilingual" in settings else settings[0]
        key = _key(first, "all", metrics[0]) if primary_metric is None else primary_metric
        self.primary_metric: str = f"{self.name}_{key}" if self.name else key
        self.greater_is_better = not key.endswith(tuple(map(_spelled, RANK_METRICS)))
        self.query_prompt = query_prompt
        self.passage_prompt = passage_prompt
        self.batch_size = batch_size
        self.show_progress_bar = show_progress_bar
        self.truncate_dim = truncate_dim
        self.write_csv = write_csv
        self._several_tiers = len(set(data.tiers.values())) > 1

    def __call__(  # type: ignore[override]  # models that embed sentences
        self,
        model: SentenceTransformer,
        output_path: str | None = None,
        epoch: float = -1,
        steps: int = -1,
    ) -> dict[str, float]:
        """Metrics of ``model``; written to ``output_path`` and to the model card's data."""
        queries, passages = self._encode(model)
        metrics = self._means(self._evaluator.evaluate(queries, passages, centring=self.centring))
        if self.primary_metric not in metrics:
            raise ValueError(
                f"primary_metric: found {self.primary_metric!r}, expected one of {', '.join(metrics)}"
            )
        logger.info("%s: %s %.4f", self.name, self.primary_metric, metrics[self.primary_metric])
        if output_path is not None and self.write_csv:
            self._append(Path(output_path), {"epoch": epoch, "steps": steps, **metrics})
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)  # type: ignore[arg-type]
        return metrics

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the evaluator."""
        return {
            "metrics": list(self.metrics),
            "settings": list(self.settings),
            "centring": self.centring,
            "truncate_dim": self.truncate_dim,
        }

    @property
    def csv_file(self) -> str:
        """Name of the file of results."""
        return "_".join(filter(None, ("Multilingual-Retrieval_evaluation", self.name, "results.csv")))

    def _encode(self, model: SentenceTransformer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        similarity = model.similarity_fn_name
        if similarity not in ("cosine", "dot"):
            raise ValueError(f"model: found similarity {similarity!r}, expected cosine or dot")
        options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "show_progress_bar": self.show_progress_bar,
            "truncate_dim": self.truncate_dim,
            "normalize_embeddings": similarity == "cosine",
        }
        queries = model.encode_query(list(self.data.query_texts), prompt=self.query_prompt, **options)
        passages = model.encode_document(list(self.data.passage_texts), prompt=self.passage_prompt, **options)
        return np.asarray(queries, dtype=np.float32), np.asarray(passages, dtype=np.float32)

    def _means(self, evaluation: Evaluation) -> dict[str, float]:
        means = {
            _key(mean.setting, mean.tier, mean.metric): mean.value
            for mean in evaluation.macro_means()
            if mean.tier == "all" or self._several_tiers
        }
        return {f"{self.name}_{key}" if self.name else key: value for key, value in means.items()}

    def _append(self, folder: Path, row: dict[str, float]) -> None:
        """Add a row to the file; where its columns are others, it gets those that it lacks."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.csv_file
        rows: list[dict[str, Any]] = []
        columns = list(row)
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = list(reader)
                columns = list(dict.fromkeys([*(reader.fieldnames or ()), *row]))
        with write_atomically(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows([*rows, row])


def _key(setting: Setting, tier: str, metric: str) -> str:
    return "_".join([setting, *([] if tier == "all" else [tier]), _spelled(metric)])


def _spelled(metric: str) -> str:
    return metric.replace(" ", "_")
