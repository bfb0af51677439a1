"""Evaluation against a plain one: full sorts in float64 and averages over lists."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kruskal, spearmanr

from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import scarcer
from pyhbt.encoders import NgramEncoder
from pyhbt.encoders.means import LanguageMeans
from pyhbt.evaluation.centring import centre
from pyhbt.evaluation.evaluator import Evaluator, encode_set, evaluate
from pyhbt.evaluation.metrics import measure
from pyhbt.evaluation.names import (
    FIRST_PLACES,
    FIRST_RELEVANT,
    GRADED_CUTOFF,
    GRADED_NDCG,
    MAX_RANK,
    PEER,
    PEER_CUTOFF,
    RANK_CORRELATION,
    RANK_CORRELATION_CUTOFF,
    RANK_DISTANCE,
    RANK_SHIFT,
    SETTINGS,
    TOP_1_SAME_LANGUAGE,
)
from tests.toy import retrieval_set

METRICS = ("mAP", "recall@1", "recall@3", "nDCG@3", "MRR@3")


def random_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 6))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def embedded(data: RetrievalSet, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return random_vectors(len(data.query_ids), seed), random_vectors(len(data.passage_ids), seed + 1)


def plain(data: RetrievalSet, queries: np.ndarray, passages: np.ndarray) -> dict[tuple[str, str, str], Any]:
    """{(setting, query_lang, passage_lang): {metric: [values]}} by sorting every pool for every query."""
    scores = queries.astype(np.float64) @ passages.T.astype(np.float64)
    found: dict[tuple[str, str, str], Any] = {}
    firsts: dict[int, list[int]] = {}
    for q, query_id in enumerate(data.query_ids):
        for pool_lang in ["*", *sorted(set(data.passage_langs))]:
            pool = [p for p, lang in enumerate(data.passage_langs) if pool_lang in ("*", lang)]
            order = sorted(pool, key=lambda p, q=q: (-scores[q, p], p))
            judged = {p: g for p, g in data.qrels.get(query_id, {}).items() if g > 0}
            hits = [
                (rank, judged[data.passage_ids[p]], p)
                for rank, p in enumerate(order, 1)
                if data.passage_ids[p] in judged
            ]
            if not hits:
                continue
            lang = data.query_langs[q]
            setting = (
                "multilingual"
                if pool_lang == "*"
                else "monolingual"
                if pool_lang == lang
                else "cross-lingual"
            )
            values = found.setdefault((setting, lang, pool_lang), {})
            ranks = np.array([[rank for rank, _, _ in hits]])
            gains = np.array([[gain for _, gain, _ in hits]], dtype=np.float64)
            for metric in METRICS:
                values.setdefault(metric, []).append(measure(metric)(ranks, gains)[0])
            if pool_lang == "*":
                best: dict[str, int] = {}
                for rank, _, p in hits:
                    best.setdefault(data.passage_langs[p], rank)
                if len(best) > 1:
                    values.setdefault(RANK_DISTANCE, []).append(max(best.values()) - min(best.values()))
                    values.setdefault(MAX_RANK, []).append(max(rank for rank, _, _ in hits))
                values.setdefault(TOP_1_SAME_LANGUAGE, []).append(data.passage_langs[order[0]] == lang)
                values.setdefault(PEER, []).extend(
                    plain_peer([(rank, gain, data.passage_langs[p]) for rank, gain, p in hits])
                )
                for name, value in plain_preference(hits, data.passage_langs, lang, order[0]).items():
                    values.setdefault(name, []).append(value)
                firsts[q] = order[:RANK_CORRELATION_CUTOFF]
    for q, mine in firsts.items():
        others = [
            theirs
            for other, theirs in firsts.items()
            if data.questions[other] == data.questions[q] and data.query_langs[other] != data.query_langs[q]
        ]
        if others and len(mine) > 1:
            rho = np.mean([plain_spearman(mine, theirs) for theirs in others])
            found["multilingual", data.query_langs[q], "*"].setdefault(RANK_CORRELATION, []).append(rho)
    return found


def plain_preference(
    hits: list[tuple[int, int, str]], langs: Sequence[str], lang: str, first: int
) -> dict[str, float]:
    """Preference of one query for its language, where there is something to prefer."""
    found = {}
    if lang in langs:
        right, same = any(rank == 1 for rank, _, _ in hits), langs[first] == lang
        cases = (right and same, right and not same, not right and same, not right and not same)
        found |= dict(zip(FIRST_PLACES, map(float, cases), strict=True))
    mine = [rank for rank, _, p in hits if langs[p] == lang]
    others = [rank for rank, _, p in hits if langs[p] != lang]
    if mine and others:
        found[FIRST_RELEVANT] = float(min(mine) < min(others))
        graded = [(rank, gain if langs[p] == lang else gain / 2) for rank, gain, p in hits]
        ideal = sorted((gain for _, gain in graded), reverse=True)[:GRADED_CUTOFF]
        best = sum(gain / math.log2(place + 2) for place, gain in enumerate(ideal))
        gained = sum(gain / math.log2(rank + 1) for rank, gain in graded if rank <= GRADED_CUTOFF)
        found[GRADED_NDCG] = gained / best
        if possible := sum(rank - 1 for rank in others):
            found[RANK_SHIFT] = sum(max(rank - min(mine), 0) for rank in others) / possible
    return found


def plain_peer(hits: list[tuple[int, int, str]]) -> list[float]:
    """PEER of one query as a list of one, or none where one passage a language makes it a constant."""
    levels: dict[int, dict[str, list[float]]] = {}
    for rank, gain, lang in hits:
        tail = 10.0**9  # any rank behind the others
        levels.setdefault(gain, {}).setdefault(lang, []).append(rank if rank <= PEER_CUTOFF else tail)
    if not any(len(samples) > 1 and max(map(len, samples.values())) > 1 for samples in levels.values()):
        return []
    return [float(np.mean([plain_p(list(samples.values())) for samples in levels.values()]))]


def plain_p(samples: list[list[float]]) -> float:
    if len(samples) < 2 or len({rank for sample in samples for rank in sample}) < 2:
        return 1.0
    return float(kruskal(*samples).pvalue)


def plain_spearman(mine: list[int], theirs: list[int]) -> float:
    union = sorted({*mine, *theirs})
    ranks = [[ranked.index(p) if p in ranked else len(ranked) for p in union] for ranked in (mine, theirs)]
    return float(spearmanr(*ranks).statistic)


def uneven(data: RetrievalSet) -> RetrievalSet:
    """Graded and missing judgements: some queries without any, some without their own language's."""
    qrels = {}
    for number, (query, judged) in enumerate(data.qrels.items()):
        kept = {p: 1 + i % 3 for i, p in enumerate(judged) if (number + i) % 4}
        if number % 5:
            qrels[query] = kept
        elif number % 2:
            qrels[query] = dict.fromkeys(judged, 0)
    return replace(data, qrels=qrels)


def several_relevant(data: RetrievalSet) -> RetrievalSet:
    """Two relevant passages a language, so that PEER says something; the second of the next item."""
    half = {query: list(judged) for query, judged in data.qrels.items()}
    shifted = dict(zip(half, [*list(half.values())[1:], *list(half.values())[:1]], strict=True))
    qrels = {q: {**dict.fromkeys(shifted[q], 1), **dict.fromkeys(half[q], 2)} for q in half}
    return replace(
        data, qrels={q: {p: min(g, 1 + i % 2) for p, g in qrels[q].items()} for i, q in enumerate(qrels)}
    )


def one_language(data: RetrievalSet) -> RetrievalSet:
    """Queries of one language: no query has a translation."""
    return replace(data, questions=tuple(f"{question} {lang}" for question, lang in zip(
        data.questions, data.query_langs, strict=True)))  # fmt: skip


@pytest.mark.parametrize("centring", ["none", "passages", "both"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: retrieval_set(7),
        lambda: uneven(retrieval_set(9)),
        lambda: retrieval_set(1),
        lambda: several_relevant(retrieval_set(50)),
        lambda: retrieval_set(2, ("aa",)),
        lambda: one_language(retrieval_set(4)),
    ],
)
def test_equal_to_a_plain_evaluation(make: Any, centring: Any) -> None:
    data = make()
    queries, passages = embedded(data)
    evaluation = evaluate(queries, passages, data, metrics=METRICS, centring=centring)
    moved = centre(queries, passages, data.query_langs, data.questions, data.passage_langs, centring)
    truth = plain(data, *(side.numpy() for side in moved))
    assert {(b.setting, b.query_lang, b.passage_lang) for b in evaluation.blocks} == truth.keys()
    for block in evaluation.blocks:
        expected = truth[block.setting, block.query_lang, block.passage_lang]
        for metric, values in block.values.items():
            defined = values[~np.isnan(values)]
            np.testing.assert_allclose(defined, expected.get(metric, []), atol=1e-12)
            mean = np.mean(defined) if len(defined) else np.nan
            assert block.means[metric] == pytest.approx(mean, abs=1e-12, nan_ok=True)
    for setting in ("monolingual", "cross-lingual", "multilingual"):
        means = [np.mean(values["mAP"]) for key, values in truth.items() if key[0] == setting]
        if means:
            assert evaluation.macro(setting, "mAP") == pytest.approx(np.mean(means))


def test_settings_can_be_chosen() -> None:
    data = retrieval_set(3)
    for setting in ("monolingual", "cross-lingual", "multilingual"):
        evaluation = evaluate(*embedded(data), data, metrics=["mAP"], settings=[setting])  # type: ignore[list-item]
        assert {block.setting for block in evaluation.blocks} == {setting}


def test_errors() -> None:
    data = retrieval_set(3)
    queries, passages = embedded(data)
    with pytest.raises(ValueError, match=r"queries: shape \(8, 6\), expected \(9, dim\)"):
        evaluate(queries[:8], passages, data)
    with pytest.raises(ValueError, match="metric: found 'P'"):
        evaluate(queries, passages, data, metrics=["P"])
    with pytest.raises(ValueError, match="settings: found 'bilingual'"):
        evaluate(queries, passages, data, settings=["bilingual"])  # type: ignore[list-item]


def test_reference_figures_of_real_vectors(data_dir: Path) -> None:
    """XQuAD-R under a 12-layer E5-small, from its stored vectors: figures of an independent implementation."""
    from pyhbt.data import load_retrieval

    vectors = np.load(data_dir / "vectors/xquad-r-e5-small-12L.npz")
    data = load_retrieval(f"xquad-r:{data_dir / 'xquad-r'}")
    langs = list(dict.fromkeys(data.query_langs))
    queries = np.concatenate([vectors[f"{lang}.q"] for lang in langs]).astype(np.float32)
    passages = np.concatenate([vectors[f"{lang}.c"] for lang in dict.fromkeys(data.passage_langs)]).astype(
        np.float32
    )
    evaluation = evaluate(queries, passages, data, metrics=["mAP"])
    for setting, reference in (("monolingual", 79.97), ("cross-lingual", 63.99), ("multilingual", 29.85)):
        assert 100 * evaluation.macro(setting, "mAP") == pytest.approx(reference, abs=0.02)
    assert evaluation.macro("multilingual", RANK_DISTANCE) == pytest.approx(1214.6, abs=1)
    assert evaluation.macro("multilingual", TOP_1_SAME_LANGUAGE) == pytest.approx(0.989, abs=0.001)
    assert evaluation.macro("multilingual", MAX_RANK) == pytest.approx(1220.4, abs=1)
    assert evaluation.macro("multilingual", RANK_CORRELATION) == pytest.approx(-0.640, abs=0.001)
    assert np.isnan(evaluation.macro("multilingual", PEER))  # one passage a language
    centred = evaluate(queries, passages, data, metrics=["mAP"], centring="both")
    for setting, reference in (("monolingual", 79.16), ("cross-lingual", 68.0), ("multilingual", 53.84)):
        # the reference centres queries by means that include them; ours are cross-fitted
        assert 100 * centred.macro(setting, "mAP") == pytest.approx(reference, abs=0.5)
    assert centred.macro("multilingual", RANK_DISTANCE) == pytest.approx(443.4, abs=15)
    assert centred.macro("multilingual", MAX_RANK) == pytest.approx(454.6, abs=1)
    assert centred.macro("multilingual", RANK_CORRELATION) == pytest.approx(-0.138, abs=0.001)
    multilingual = [block for block in centred.blocks if block.setting == "multilingual"]
    block = next(block for block in multilingual if block.query_lang == "th")
    both = centre(queries, passages, data.query_langs, data.questions, data.passage_langs, "both")
    moved = [side.numpy() for side in both]
    for place in (0, 500, 1189):
        query = block.queries[place]
        question = [q for q, name in enumerate(data.questions) if name == data.questions[query]]
        lists = {q: np.argsort(-moved[1] @ moved[0][q], kind="stable")[:10].tolist() for q in question}
        rho = np.mean([plain_spearman(lists[query], lists[q]) for q in question if q != query])
        assert block.values[RANK_CORRELATION][place] == pytest.approx(rho, abs=1e-9)


def test_pools_of_two_languages() -> None:
    """The query's language and the pivot, as a retrieval set of these passages alone in the multilingual setting."""
    data = uneven(retrieval_set(6))
    queries, passages = embedded(data)
    found = Evaluator(data, metrics=METRICS, pivot="aa").evaluate(queries, passages)
    blocks = {block.query_lang: block for block in found.blocks if block.setting == "two-language"}
    languages = set(data.passage_langs) - {"aa"}
    assert blocks.keys() == languages
    for lang, block in blocks.items():
        assert block.passage_lang == f"{lang}+aa"
        kept = [place for place, other in enumerate(data.passage_langs) if other in (lang, "aa")]
        part = replace(
            data,
            passage_ids=tuple(data.passage_ids[place] for place in kept),
            passage_texts=tuple(data.passage_texts[place] for place in kept),
            passage_langs=tuple(data.passage_langs[place] for place in kept),
            qrels={
                query: {p: g for p, g in judged.items() if p in {data.passage_ids[place] for place in kept}}
                for query, judged in data.qrels.items()
            },
        )
        whole = Evaluator(part, metrics=METRICS).evaluate(queries, passages[kept])
        (expected,) = [b for b in whole.blocks if b.setting == "multilingual" and b.query_lang == lang]
        for metric in METRICS:
            np.testing.assert_array_equal(block.values[metric], expected.values[metric])
        assert block.tier == scarcer(data.tiers[lang], data.tiers["aa"])
    assert not math.isnan(found.macro("two-language", METRICS[0]))
    without = Evaluator(data, metrics=METRICS).evaluate(queries, passages)
    assert {block.setting for block in without.blocks} == set(SETTINGS)
    with pytest.raises(ValueError, match="pivot: found 'xx', expected a language of passages"):
        Evaluator(data, metrics=METRICS, pivot="xx")


def test_centring_by_other_text() -> None:
    data = retrieval_set(5)
    queries, passages = embedded(data)
    lang = data.query_langs[0]
    mean = torch.full((queries.shape[1],), 0.1)
    evaluator = Evaluator(data, metrics=METRICS)
    found = evaluator.evaluate(
        queries,
        passages,
        centring="text",
        means=LanguageMeans({("query", lang): mean, ("passage", lang): mean}),
    )

    def moved(vectors: torch.Tensor, langs: Sequence[str]) -> torch.Tensor:
        rows = torch.as_tensor(vectors).clone()
        for place, one in enumerate(langs):
            if one == lang:
                rows[place] = torch.nn.functional.normalize(
                    rows[place].double() - mean.double(), dim=0
                ).float()
        return rows

    expected = evaluator.evaluate(moved(queries, data.query_langs), moved(passages, data.passage_langs))
    assert found.centring == "text"
    for one, other in zip(found.blocks, expected.blocks, strict=True):
        for metric in METRICS:
            np.testing.assert_array_equal(one.values[metric], other.values[metric])
    with pytest.raises(ValueError, match="means: found None"):
        evaluator.evaluate(queries, passages, centring="text")


def test_an_encoder_and_its_embeddings_are_scored_alike() -> None:
    data = retrieval_set(4)
    encoder = NgramEncoder(seed=0)
    queries, passages = encode_set(encoder, data)
    expected = list(evaluate(queries, passages, data).macro_means())
    for given in (encoder, (queries, passages), (queries.numpy(), passages.numpy())):
        assert list(evaluate(given, data).macro_means()) == expected
    assert list(evaluate(queries=queries, passages=passages, data=data).macro_means()) == expected
    assert list(evaluate(encoder, data=data).macro_means()) == expected
    assert list(evaluate(queries, passages=passages, data=data).macro_means()) == expected


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        ((), {}, "evaluate: found no arguments, expected encoder and data"),
        ((object(),), {}, "evaluate: found queries, expected"),
        (("e5", retrieval_set(2)), {}, "encoder: found str"),
        (([[1.0]], [[1.0]], retrieval_set(2)), {}, "queries: found list, expected a tensor or an array"),
        ((NgramEncoder(seed=0), {}), {}, "data: found dict, expected RetrievalSet"),
        ((NgramEncoder(seed=0), retrieval_set(2)), {"metrics": "mAP"}, "metrics: found str"),
        ((NgramEncoder(seed=0), retrieval_set(2)), {"settings": "multilingual"}, "settings: found str"),
        ((1, 2, 3), {"data": 4}, "evaluate: found data, expected each argument once"),
        ((1, 2), {"metric": "mAP"}, "evaluate: found encoder, data, metric"),
    ],
)
def test_arguments_of_wrong_types_are_named(given: Any, named: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        evaluate(*given, **named)
