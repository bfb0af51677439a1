"""MultilingualRetrievalEvaluator: figures beside their sources, files, trainer, mistakes."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", minversion="6.0")

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from pyhbt.evaluation.evaluator import evaluate
from pyhbt.integrations.sentence_transformers import (
    FusedInBatchLoss,
    MultilingualRetrievalEvaluator,
    hybrid_dataset,
)
from tests.integrations.sentence_transformers.test_losses import PLAIN, arguments, tiny_model
from tests.toy import retrieval_set, study_data

DATA = retrieval_set(11)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return tiny_model(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("centring", ["none", "both"])
def test_figures_are_those_of_the_evaluation(model: SentenceTransformer, centring: Any) -> None:
    evaluator = MultilingualRetrievalEvaluator(DATA, centring=centring)
    found = evaluator(model)
    expected = evaluate(
        np.asarray(model.encode(list(DATA.query_texts))),
        np.asarray(model.encode(list(DATA.passage_texts))),
        DATA,
        centring=centring,
    )
    for setting in ("monolingual", "cross-lingual", "multilingual"):
        for metric in ("mAP", "recall@10", "nDCG@10"):
            assert found[f"toy_{setting}_{metric}"] == pytest.approx(
                expected.macro(setting, metric), abs=1e-9
            )
    assert found["toy_multilingual_zero-shot_mAP"] == pytest.approx(
        expected.macro("multilingual", "mAP", "zero-shot"), abs=1e-9
    )
    assert found["toy_multilingual_rank_distance"] == pytest.approx(
        expected.macro("multilingual", "rank distance")
    )
    assert 0 <= found["toy_multilingual_top-1_in_query_language"] <= 1
    assert evaluator.primary_metric == "toy_multilingual_mAP"
    assert evaluator.greater_is_better
    assert all(type(value) is float for value in found.values())


def test_multilingual_figures_are_those_of_sentence_transformers(model: SentenceTransformer) -> None:
    ours = MultilingualRetrievalEvaluator(
        DATA,
        "",
        metrics=("nDCG@10", "MRR@10", "recall@5", "mAP@100"),
        query_prompt="ask: ",
        passage_prompt="say: ",
    )(model)
    theirs = InformationRetrievalEvaluator(
        dict(zip(DATA.query_ids, DATA.query_texts, strict=True)),
        dict(zip(DATA.passage_ids, DATA.passage_texts, strict=True)),
        {query: set(passages) for query, passages in DATA.qrels.items()},
        precision_recall_at_k=[5],
        query_prompt="ask: ",
        corpus_prompt="say: ",
    )(model)
    # every language has as many queries, so that their mean is the macro mean
    for our, their in (
        ("nDCG@10", "ndcg@10"),
        ("MRR@10", "mrr@10"),
        ("recall@5", "recall@5"),
        ("mAP@100", "map@100"),
    ):
        assert ours[f"multilingual_{our}"] == pytest.approx(theirs[f"cosine_{their}"], abs=1e-6)


def test_prompts_of_the_model_and_dims_matter(model: SentenceTransformer) -> None:
    plain = MultilingualRetrievalEvaluator(DATA)(model)
    before = dict(model.prompts)
    model.prompts = {"query": "tell me about: ", "document": "this is: "}
    try:
        prompted = MultilingualRetrievalEvaluator(DATA)(model)
    finally:
        model.prompts = before
    assert prompted != plain
    given = MultilingualRetrievalEvaluator(DATA, query_prompt="tell me about: ", passage_prompt="this is: ")(
        model
    )
    assert given == prompted
    assert MultilingualRetrievalEvaluator(DATA, truncate_dim=3)(model) != plain


def test_rows_of_the_file(model: SentenceTransformer, tmp_path: Path) -> None:
    evaluator = MultilingualRetrievalEvaluator(DATA, metrics=("mAP",), settings=("monolingual",))
    first = evaluator(model, str(tmp_path / "new" / "folder"), epoch=0.5, steps=7)
    evaluator(model, str(tmp_path / "new" / "folder"), epoch=1, steps=14)
    path = tmp_path / "new" / "folder" / "Multilingual-Retrieval_evaluation_toy_results.csv"

    def rows() -> list[dict[str, str]]:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    assert [(row["epoch"], row["steps"]) for row in rows()] == [("0.5", "7"), ("1", "14")]
    assert float(rows()[0]["toy_monolingual_mAP"]) == first["toy_monolingual_mAP"]
    other = MultilingualRetrievalEvaluator(DATA, metrics=("MRR",), settings=("monolingual",))
    other(model, str(tmp_path / "new" / "folder"))
    assert rows()[2]["toy_monolingual_mAP"] == rows()[0]["toy_monolingual_MRR"] == ""
    assert rows()[2]["epoch"] == "-1"
    assert rows()[0]["toy_monolingual_mAP"] == rows()[1]["toy_monolingual_mAP"]
    silent = MultilingualRetrievalEvaluator(DATA, write_csv=False)
    silent(model, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_in_the_trainer_and_the_model_card(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    evaluator = MultilingualRetrievalEvaluator(DATA)
    trainer = SentenceTransformerTrainer(
        model,
        arguments(
            tmp_path / "out",
            max_steps=4,
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="steps",
            save_steps=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_toy_multilingual_mAP",
        ),
        train_dataset=hybrid_dataset(PLAIN),
        loss=FusedInBatchLoss(model),
        evaluator=evaluator,
    )
    trainer.train()
    logged = [
        row["eval_toy_multilingual_mAP"]
        for row in trainer.state.log_history
        if "eval_toy_multilingual_mAP" in row
    ]
    assert trainer.state.best_metric == max(logged)
    with (tmp_path / "out" / "eval" / evaluator.csv_file).open(newline="", encoding="utf-8") as file:
        written = [float(row["toy_multilingual_mAP"]) for row in csv.DictReader(file)]
    assert written == logged
    trainer.save_model(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "**multilingual_mAP**" in card
    assert "Multilingual Retrieval" in card


def test_rank_distance_is_better_when_lower(model: SentenceTransformer) -> None:
    evaluator = MultilingualRetrievalEvaluator(DATA, primary_metric="multilingual_rank_distance")
    assert not evaluator.greater_is_better
    assert evaluator.primary_metric in evaluator(model)
    assert not MultilingualRetrievalEvaluator(DATA, primary_metric="multilingual_Max@R").greater_is_better


def test_one_tier_has_no_keys_of_its_own(model: SentenceTransformer) -> None:
    one_tier = dataclasses.replace(DATA, tiers=dict.fromkeys(DATA.tiers, "seen"))
    assert not [key for key in MultilingualRetrievalEvaluator(one_tier)(model) if "seen" in key]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ()}, "metrics: found none, expected at least 1"),
        ({"metrics": ("hits",)}, "metric: found 'hits'"),
        ({"settings": ()}, "settings: found none"),
        ({"settings": ("bilingual",)}, "settings: found 'bilingual'"),
        ({"centring": "all"}, "centring: found 'all'"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultilingualRetrievalEvaluator(DATA, **options)


def test_mistakes_that_show_on_a_call(model: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="primary_metric: found 'toy_mAP', expected one of toy_monolingual_mAP"
    ):
        MultilingualRetrievalEvaluator(DATA, primary_metric="mAP")(model)
    other = tiny_model(tmp_path)
    other.similarity_fn_name = "euclidean"
    with pytest.raises(ValueError, match="model: found similarity 'euclidean', expected cosine or dot"):
        MultilingualRetrievalEvaluator(DATA)(other)
    other.similarity_fn_name = "dot"
    assert MultilingualRetrievalEvaluator(DATA)(other)["toy_multilingual_mAP"] > 0


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "guides" / "sentence-transformers.md").read_text(
        encoding="utf-8"
    )
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for given, smaller in (
        ("intfloat/multilingual-e5-small", str(tmp_path / "bert")),
        ("steps=500", "steps=3"),
        (
            "eval_steps=100",
            'eval_steps=2, report_to="none", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False',
        ),
        ('"out",', f'"{tmp_path / "out"}",'),
        ('load_study("cldr")', "toy_study()"),
    ):
        assert given in example
        example = example.replace(given, smaller)
    names: dict[str, Any] = {"toy_study": study_data}
    exec(example, names)
    trainer = names["trainer"]
    assert trainer.state.global_step == 3
    assert any("eval_toy_multilingual_mAP" in row for row in trainer.state.log_history)
