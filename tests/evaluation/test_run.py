"""The job of ``pyhbt evaluate``: scores, runs and judgements of an encoder, and scores in a training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval

from pyhbt import NgramEncoder
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.trec import read_qrels, read_run
from pyhbt.encoders import Encoder, LanguageMeans
from pyhbt.evaluation.evaluator import encode_set, evaluate
from pyhbt.evaluation.names import SETTINGS
from pyhbt.evaluation.result import Evaluation
from pyhbt.evaluation.run import describe_centrings, dev_scores, score_encoder, write_scores
from tests.toy import retrieval_set

DATA = retrieval_set(7)


@pytest.fixture
def encoder() -> NgramEncoder:
    return NgramEncoder(dim=8, num_buckets=128)


def same(found: Evaluation, expected: Evaluation) -> None:
    assert (found.data, found.centring) == (expected.data, expected.centring)
    assert list(found.macro_means()) == list(expected.macro_means())
    assert list(found.pair_means()) == list(expected.pair_means())


def test_each_centring_is_scored_from_one_encoding(
    encoder: NgramEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Any] = []
    encode = Encoder.encode

    def counted(self: Encoder, texts: Any, kind: Any = "passage", **options: Any) -> Any:
        encoded.append((kind, len(texts), options["batch_size"]))
        return encode(self, texts, kind, **options)

    monkeypatch.setattr(Encoder, "encode", counted)
    found = score_encoder(
        encoder, DATA, metrics=("mAP",), centrings=("both", "none", "passages"), batch_size=5
    )
    assert encoded == [("query", 21, 5), ("passage", 21, 5)]
    assert [one.centring for one in found] == ["both", "none", "passages"]
    vectors = encode_set(encoder, DATA)
    for one in found:
        same(one, evaluate(*vectors, DATA, metrics=("mAP",), centring=one.centring))
    assert [one.centring for one in score_encoder(encoder, DATA)] == ["none", "both"]
    assert score_encoder(encoder, DATA, centrings=()) == []


def test_a_wrong_metric_is_told_before_anything_is_encoded(
    encoder: NgramEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any, **options: Any) -> None:
        raise AssertionError("encoded")

    monkeypatch.setattr(Encoder, "encode", never)
    with pytest.raises(ValueError, match="metric: found 'P@5'"):
        score_encoder(encoder, DATA, metrics=("P@5",))
    with pytest.raises(ValueError, match="metric: found 'P@5'"):
        dev_scores(DATA, ("P@5",))


def test_means_that_the_encoder_carries_are_subtracted(encoder: NgramEncoder) -> None:
    with pytest.raises(ValueError, match="the encoder has no language means"):
        score_encoder(encoder, DATA, language_means=True)
    sides: dict[Any, Any] = {
        "query": (DATA.query_texts, DATA.query_langs),
        "passage": (DATA.passage_texts, DATA.passage_langs),
    }
    encoder.language_means = LanguageMeans.of(encoder.encode, sides)
    (found,) = score_encoder(encoder, DATA, language_means=True, centrings=("none",))
    same(found, evaluate(*encode_set(encoder, DATA, language_means=True), DATA))
    (plain,) = score_encoder(encoder, DATA, centrings=("none",))
    assert list(plain.macro_means()) != list(found.macro_means())


@pytest.mark.parametrize("depth", [1, 5, 21, 100])
def test_the_run_is_the_plain_ranking(encoder: NgramEncoder, tmp_path: Path, depth: int) -> None:
    run = tmp_path / "run"
    score_encoder(encoder, DATA, centrings=("both",), run=run, run_depth=depth)
    found = read_run(run)
    queries, passages = (vectors.double().numpy() for vectors in encode_set(encoder, DATA))
    scores = queries @ passages.T
    assert list(found) == list(DATA.query_ids)
    for row, ranked in zip(scores, found.values(), strict=True):
        assert len(ranked) == min(depth, 21)
        order = np.sort(row)[::-1]
        for place, passage in enumerate(ranked):
            # float32 products of unit vectors of 8 components
            assert row[DATA.passage_ids.index(passage)] == pytest.approx(order[place], abs=1e-6)


def test_trec_eval_scores_the_files_alike(encoder: NgramEncoder, tmp_path: Path) -> None:
    run, judged = tmp_path / "run", tmp_path / "qrels"
    (found,) = score_encoder(encoder, DATA, metrics=("mAP",), centrings=("none",), run=run, qrels=judged)
    qrels = read_qrels(judged)
    assert qrels == {query: dict(one) for query, one in DATA.qrels.items()}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map"}).evaluate(read_run(run))
    by_lang: dict[str, list[float]] = {}
    for query, lang in zip(DATA.query_ids, DATA.query_langs, strict=True):
        by_lang.setdefault(lang, []).append(theirs[query]["map"])
    macro = np.mean([np.mean(values) for values in by_lang.values()])
    assert found.macro("multilingual", "mAP") == pytest.approx(macro, abs=1e-9)


def test_ids_that_no_file_can_hold_are_refused(encoder: NgramEncoder, tmp_path: Path) -> None:
    odd = replace(
        DATA,
        query_ids=("a b", *DATA.query_ids[1:]),
        qrels={query: one for query, one in DATA.qrels.items() if query != DATA.query_ids[0]},
    )
    with pytest.raises(ValueError, match="query id: found 'a b', expected a string without white space"):
        score_encoder(encoder, odd, run=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_dev_scores_are_plain_macro_means(encoder: NgramEncoder) -> None:
    measured = dev_scores(DATA)
    found = measured(encoder, 3)
    expected = evaluate(*encode_set(encoder, DATA), DATA, metrics=("mAP", "recall@10"))
    for setting in SETTINGS:
        for metric in ("mAP", "recall@10"):
            assert found[f"{setting} {metric}"] == expected.macro(setting, metric)
    assert "multilingual rank distance" in found
    assert not any(math.isnan(value) for value in found.values())
    assert measured(encoder, 4) == found
    assert measured(NgramEncoder(dim=8, num_buckets=128, seed=1), 4) != found
    assert dev_scores(DATA, ("MRR",))(encoder, 0).keys() == {
        name.replace("mAP", "MRR") for name in found if "recall" not in name
    }


def test_settings_that_the_data_lack_have_no_scores(encoder: NgramEncoder) -> None:
    found = dev_scores(retrieval_set(4, ("aa",)), ("mAP",))(encoder, 0)
    assert {"monolingual mAP", "multilingual mAP"} <= found.keys()
    assert not any(name.startswith("cross-lingual") for name in found)


def test_every_mean_is_a_line(encoder: NgramEncoder, tmp_path: Path) -> None:
    data: RetrievalSet = replace(DATA, name="späß")
    found = score_encoder(encoder, data, metrics=("mAP", "recall@1"))
    write_scores(found, tmp_path / "scores.jsonl")
    text = (tmp_path / "scores.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert '"späß"' in text
    expected = [
        {
            "data": "späß",
            "centring": one.centring,
            "setting": mean.setting,
            "query_lang": mean.query_lang,
            "passage_lang": mean.passage_lang,
            "tier": mean.tier,
            "metric": mean.metric,
            "value": mean.value,
        }
        for one in found
        for mean in (*one.macro_means(), *one.pair_means())
    ]
    assert rows == expected
    assert {
        (row["query_lang"], row["passage_lang"]) for row in rows if row["setting"] == "cross-lingual"
    } == {
        ("*", "*"),
        *((a, b) for a in ("aa", "bb", "cc") for b in ("aa", "bb", "cc") if a != b),
    }
    assert "NaN" not in text
    write_scores([], tmp_path / "scores.jsonl")
    assert (tmp_path / "scores.jsonl").read_text() == ""


def test_centrings_are_described(encoder: NgramEncoder) -> None:
    found = score_encoder(encoder, DATA, centrings=("passages", "none"))
    passages, none = describe_centrings(found)
    assert passages.startswith("centring passages: each passage minus the mean")
    assert none == "centring none: embeddings as the encoder gives them"
    assert describe_centrings([]) == []
