"""Hard negatives against a plain search in float64, and training on what comes out."""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import HybridBatchSampler, NgramEncoder
from pyhbt.data import Pair, PairSet, Passage, load_afriqa, load_afriqa_study, load_pairs
from pyhbt.encoders import Encoder
from pyhbt.mining import negatives as mining
from pyhbt.mining.negatives import MiningRules, mine_negatives, mine_to_file, write_pairs
from pyhbt.training.batches import Examples, PairCollator
from tests.toy import parallel_items

LANGS = ("aa", "bb", "cc")
ANY_SCORE: dict[str, Any] = {"share": None}
SIZES = (1, 2, 7, 9, 33, 129)


def fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def random_pairs(count: int, seed: int = 0) -> tuple[PairSet, list[Passage]]:
    """Pairs with every complication: texts in two languages, written in two ways, of several groups and questions."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        text = f"passage {rng.integers(count)}"
        text = text.upper() if rng.random() < 0.1 else f"{text} " if rng.random() < 0.1 else text
        negatives = tuple(f"{kind} {rng.integers(count)}" for kind in ("passage", "only a negative"))
        pairs.append(
            Pair(
                query=f"query {rng.integers(max(1, count // 2))}",
                passage=text,
                query_lang=LANGS[rng.integers(3)],
                passage_lang=LANGS[rng.integers(3)],
                group=f"group {number // 2}",
                negatives=negatives if rng.random() < 0.3 else (),
                question=f"question {rng.integers(count)}",
            )
        )
    corpus = [
        Passage(f"{kind} {number}", LANGS[number % 3] if number % 5 else "dd")
        for kind in ("corpus", "passage")
        for number in range(count)
    ]
    return PairSet.from_pairs(pairs), [*corpus, *corpus[:3], Passage(" \n", "aa")]


def integers(count: int, seed: int) -> Any:
    """Vectors whose products are exact, with many ties."""
    return np.random.default_rng(seed).integers(-2, 3, (count, 6)).astype(np.float32)


def vectors(pairs: PairSet, corpus: Sequence[Passage]) -> tuple[Any, Any]:
    return integers(len(pairs.queries), 1), integers(len(pairs.passages) + len(corpus), 2)


def oracle(
    source: tuple[Any, Any],
    pairs: PairSet,
    rules: MiningRules,
    corpus: Sequence[Passage] = (),
    similarity: str = "dot",
) -> tuple[list[list[str]], dict[str, int]]:
    """Negatives of every pair and counts, passage by passage."""
    queries, passages = (np.asarray(part, np.float64) for part in source)
    if similarity == "cosine":
        queries, passages = (
            part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-300)
            for part in (queries, passages)
        )
    rows = list(pairs)
    texts = [*pairs.passages, *(passage.text for passage in corpus)]
    languages: dict[str, set[str]] = {fold(text): set() for text in texts}
    for pair in rows:
        languages[fold(pair.passage)].add(pair.passage_lang)
    for passage in corpus:
        languages[fold(passage.text)].add(passage.lang)
    sets = list(dict.fromkeys(frozenset(one) for one in languages.values()))
    place = {fold(text): row for row, text in reversed(list(enumerate(texts)))}
    candidates = {
        name: row for name, row in place.items() if name and (rules.pool == "any" or languages[name])
    }

    def in_pool(pair: Pair, name: str) -> bool:
        if rules.pool == "any":
            return True
        if rules.pool == "other":
            return pair.query_lang not in languages[name]
        wanted = pair.passage_lang if rules.pool == "passage" else pair.query_lang
        return wanted in languages[name]

    def order(name: str) -> tuple[int, int]:
        return (0 if rules.pool == "any" else sets.index(frozenset(languages[name])), candidates[name])

    result, counts = [], dict.fromkeys(("answers", "too_high", "repeated", "mined", "kept"), 0)
    for number, pair in enumerate(rows):
        groups = {one.group for one in rows if one.query == pair.query or one.question == pair.question}
        answers = {fold(one.passage) for one in rows if one.group in groups}
        query = queries[pairs.queries.index(pair.query)]

        def score(row: int, query: Any = query) -> Any:
            return np.float32(query @ passages[row])

        pool = [name for name in candidates if in_pool(pair, name)]
        pool.sort(key=lambda name: (-score(candidates[name]), *order(name)))
        free = 0
        window = []
        for name in pool:
            if free == rules.depth:
                break
            if name in answers:
                counts["answers"] += 1
                continue
            free += 1
            if free > rules.skip_top:
                window.append(name)
        positive = float(score(pairs.passages.index(pair.passage)))
        limit = np.inf
        if rules.share is not None:
            limit = min(limit, positive - (1 - rules.share) * abs(positive))
        if rules.margin is not None:
            limit = min(limit, positive - rules.margin)
        low = [name for name in window if score(candidates[name]) <= limit]
        counts["too_high"] += len(window) - len(low)
        had = list(pair.negatives) if rules.existing == "keep" else []
        kept = [text for text in had if fold(text) not in answers]
        counts["answers"] += len(had) - len(kept)
        fresh = [name for name in low if name not in map(fold, kept)]
        counts["repeated"] += len(low) - len(fresh)
        wanted = max(0, rules.num_negatives - len(kept))
        if rules.draw == "random" and len(fresh) > wanted:
            rng = np.random.default_rng((rules.seed, number))
            fresh = [fresh[choice] for choice in sorted(rng.choice(len(fresh), wanted, replace=False))]
        chosen = [texts[candidates[name]] for name in fresh[:wanted]]
        counts["mined"] += len(chosen)
        counts["kept"] += len(kept)
        result.append(kept + chosen)
    return result, counts


def compare(
    pairs: PairSet, corpus: Sequence[Passage], rules: MiningRules, source: Any = None, similarity: Any = "dot"
) -> PairSet:
    source = source or vectors(pairs, corpus)
    mined, statistics = mine_negatives(source, pairs, rules, corpus=corpus, similarity=similarity)
    expected, counts = oracle(source, pairs, rules, corpus, similarity)
    assert [list(pair.negatives) for pair in mined] == expected
    assert {name: getattr(statistics, name) for name in counts} == counts
    assert statistics.complete == sum(len(row) >= rules.num_negatives for row in expected)
    assert statistics.empty == expected.count([])
    assert statistics.pairs == len(pairs) == len(mined)
    assert [replace(pair, negatives=()) for pair in mined] == [replace(pair, negatives=()) for pair in pairs]
    assert len(set(mined.passages)) == len(mined.passages)
    return mined


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("pool", ["passage", "query", "other", "any"])
def test_plain_search(count: int, pool: Any) -> None:
    pairs, corpus = random_pairs(count, seed=count)
    for options in (ANY_SCORE, {"share": 0.5, "existing": "replace"}, {"margin": 1.0, "skip_top": 2}):
        compare(pairs, corpus, MiningRules(pool=pool, num_negatives=3, depth=10, **options))
    compare(pairs, (), MiningRules(pool=pool, num_negatives=3, depth=300, draw="random", seed=5))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_real_numbers(similarity: Any) -> None:
    pairs, corpus = random_pairs(150, seed=3)
    rng = np.random.default_rng(4)
    source = (
        rng.normal(size=(len(pairs.queries), 24)).astype(np.float32),
        rng.normal(size=(len(pairs.passages) + len(corpus), 24)).astype(np.float32),
    )
    source[1][5] = 0
    for pool in ("passage", "any"):
        rules = MiningRules(pool=pool, depth=20, share=0.8, margin=0.05)
        compare(pairs, corpus, rules, source, similarity)


@pytest.mark.parametrize("limit", [1, 40, 1 << 22])
@pytest.mark.parametrize("block", [1, 7, 1024])
def test_results_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch, block: int, limit: int) -> None:
    monkeypatch.setattr(mining, "_BLOCK_PAIRS", block)
    monkeypatch.setattr(mining, "_FOUND_AT_ONCE", limit)
    pairs, corpus = random_pairs(65, seed=8)
    compare(pairs, corpus, MiningRules(num_negatives=2, depth=9, draw="random", share=1.0))


def test_kinds_of_vectors() -> None:
    pairs, corpus = random_pairs(40)
    queries, passages = vectors(pairs, corpus)
    expected = mine_negatives((queries, passages), pairs, corpus=corpus)
    kinds: list[Any] = [
        (torch.from_numpy(queries).half(), torch.from_numpy(passages).half()),
        (torch.from_numpy(queries).bfloat16().requires_grad_(), torch.from_numpy(passages).bfloat16()),
        (queries.astype(np.float16), np.asfortranarray(passages.astype(np.float16))),
    ]
    for source in kinds:
        found = mine_negatives(source, pairs, corpus=corpus)
        assert found.statistics == expected.statistics
        assert found.pairs.negatives == expected.pairs.negatives


def test_a_score_at_the_limit_is_kept() -> None:
    pairs = PairSet.from_pairs([Pair("q", f"p{i}", "aa", "aa", f"g{i}") for i in range(1)])
    corpus = [Passage(f"c{i}", "aa") for i in range(4)]
    source = np.ones((1, 1), np.float32), np.array([[8], [9], [8], [4], [2]], np.float32)
    limits: list[tuple[Any, list[str]]] = [
        ({"share": 1.0}, ["c1", "c2", "c3"]),
        ({"share": 0.5}, ["c2", "c3"]),
        ({"share": None, "margin": 6.0}, ["c3"]),
        ({"share": None, "margin": 6.1}, []),
        ({"share": None, "margin": -1.0}, ["c0", "c1", "c2", "c3"]),
        ({"share": 1.125}, ["c0", "c1", "c2", "c3"]),
    ]
    for options, expected in limits:
        mined, statistics = mine_negatives(source, pairs, MiningRules(**options), corpus=corpus)
        assert list(mined[0].negatives) == expected
        assert statistics.too_high == 4 - len(expected)
        assert (statistics.complete, statistics.empty) == (0, not expected)


def test_answers_are_never_negatives() -> None:
    """Of the own group, of another pair of the query, of a translation of the question, and written otherwise."""
    pairs = PairSet.from_pairs(
        [
            Pair("q", "p", "aa", "aa", "one", question="1"),
            Pair("x", "same group", "aa", "aa", "one", question="2"),
            Pair("q", "same query", "aa", "aa", "two", question="3"),
            Pair("y", "group of the same query", "aa", "aa", "two", question="4"),
            Pair("translated", "same question", "bb", "aa", "three", question="1"),
            Pair("z", "wrong", "aa", "aa", "four", question="5"),
        ]
    )
    corpus = [Passage(text, "aa") for text in ("P", " p ", "Ｐ", "SAME  GROUP", "right")]
    encoder = NgramEncoder(dim=8, num_buckets=64)
    mined, statistics = mine_negatives(encoder, pairs, MiningRules(**ANY_SCORE), corpus=corpus)
    assert set(mined[0].negatives) == {"wrong", "right"}
    assert set(mined[5].negatives) == {*pairs.passages, "right"} - {"wrong"}
    assert statistics.passages == 7


@pytest.mark.parametrize(("pool", "wanted"), [("passage", "bb"), ("query", "aa"), ("other", "bb cc")])
def test_languages(pool: Any, wanted: str) -> None:
    items = parallel_items(30, LANGS)
    pairs = PairSet.from_parallel(items)
    lang_of = {text: lang for item in items for lang, text in item.passages.items()}
    rules = MiningRules(pool=pool, **ANY_SCORE)
    mined, statistics = mine_negatives(NgramEncoder(dim=16, num_buckets=512), pairs, rules)
    found = {
        lang_of[text]
        for pair in mined
        for text in pair.negatives
        if (pair.query_lang, pair.passage_lang) == ("aa", "bb")
    }
    assert found == set(wanted.split())
    assert statistics.complete == len(pairs)
    assert statistics.searches == (3 if pool == "passage" else 1) * len(pairs.queries)


def test_texts_known_only_as_negatives_have_no_language() -> None:
    pairs = PairSet.from_pairs(
        [Pair("q", "p", "aa", "aa", "1", ("n",)), Pair("r", "s", "aa", "aa", "2", ("m", "p"))]
    )
    encoder = NgramEncoder(dim=8, num_buckets=64)
    rules = MiningRules(existing="replace", **ANY_SCORE)
    mined, statistics = mine_negatives(encoder, pairs, rules)
    assert [pair.negatives for pair in mined] == [("s",), ("p",)]
    assert statistics.passages == 2
    mined, _ = mine_negatives(encoder, pairs, replace(rules, pool="any"))
    assert [set(pair.negatives) for pair in mined] == [{"n", "m", "s"}, {"n", "m", "p"}]
    mined, _ = mine_negatives(encoder, pairs, replace(rules, pool="other"))
    assert [pair.negatives for pair in mined] == [(), ()]


def test_existing_negatives() -> None:
    pairs = PairSet.from_pairs(
        [Pair("q", "p", "aa", "aa", "1", ("x", "P3", "y")), Pair("r", "p2", "aa", "aa", "2")]
    )
    corpus = [Passage(f"p{number}", "aa") for number in range(3, 9)]
    encoder = NgramEncoder(dim=8, num_buckets=64)
    rules = MiningRules(num_negatives=5, **ANY_SCORE)
    mined, statistics = mine_negatives(encoder, pairs, rules, corpus=corpus)
    assert mined[0].negatives[:3] == ("x", "P3", "y")
    assert len(set(mined[0].negatives)) == 5
    assert "p3" not in mined[0].negatives
    assert (statistics.kept, statistics.mined, statistics.repeated) == (3, 7, 1)
    kept = mine_negatives(encoder, pairs, replace(rules, num_negatives=2), corpus=corpus).pairs
    assert kept[0].negatives == ("x", "P3", "y")  # more than asked for are not cut
    fresh = mine_negatives(encoder, pairs, replace(rules, existing="replace"), corpus=corpus).pairs
    assert len(fresh[0].negatives) == 5
    assert not {"x", "y"} & set(fresh[0].negatives)
    assert pairs[0].negatives == ("x", "P3", "y")  # the argument stays as it was


def test_random_draws_are_of_the_window_and_by_the_seed() -> None:
    pairs = PairSet.from_parallel(parallel_items(40, ("aa",)))
    encoder = NgramEncoder(dim=16, num_buckets=512)
    window = mine_negatives(encoder, pairs, MiningRules(num_negatives=15, depth=20, skip_top=5, share=None))
    rules = MiningRules(num_negatives=5, depth=20, skip_top=5, share=None, draw="random")
    draws = [mine_negatives(encoder, pairs, replace(rules, seed=seed)).pairs for seed in (0, 0, 1)]
    assert draws[0].negatives == draws[1].negatives != draws[2].negatives
    for pair, whole in zip(draws[0], window.pairs, strict=True):
        rest = iter(whole.negatives)
        assert all(text in rest for text in pair.negatives)  # a subsequence: best first
    drawn = {
        whole.negatives.index(pair.negatives[0]) for pair, whole in zip(draws[0], window.pairs, strict=True)
    }
    assert len(drawn) > 3


def test_every_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, corpus = random_pairs(40)
    seen: list[tuple[str, str]] = []
    encode = Encoder.encode

    def counted(self: Encoder, texts: Sequence[str], kind: Any = "passage", **options: Any) -> Any:
        seen.extend((kind, text) for text in texts)
        return encode(self, texts, kind, **options)

    monkeypatch.setattr(Encoder, "encode", counted)
    mine_negatives(NgramEncoder(dim=8, num_buckets=64), pairs, corpus=corpus)
    assert len(set(seen)) == len(seen)
    texts = {text for kind, text in seen if kind == "passage"}
    assert {pair.passage for pair in pairs} <= texts
    assert not any(text.startswith("only") for text in texts)


def test_nothing_to_find() -> None:
    pairs = PairSet.from_pairs([Pair("q", "p", "aa", "aa", "1"), Pair("q", "o", "aa", "aa", "2")])
    encoder = NgramEncoder(dim=8, num_buckets=64)
    for pool in ("passage", "query", "other", "any"):
        mined, statistics = mine_negatives(encoder, pairs, MiningRules(pool=pool))
        assert [pair.negatives for pair in mined] == [(), ()]
        assert (statistics.empty, statistics.mined, statistics.complete) == (2, 0, 0)
    blank = replace(pairs, passages=(" ", "\n"))
    assert mine_negatives(encoder, blank).statistics.passages == 0


def test_wrong_vectors(tmp_path: Path) -> None:
    pairs, corpus = random_pairs(9)
    queries, passages = vectors(pairs, corpus)
    bad = passages.copy()
    bad[4, 2] = np.nan
    cases: list[tuple[Any, type[Exception], str]] = [
        ((queries[1:], passages), ValueError, f"queries: found {len(queries) - 1} vectors, expected"),
        ((queries, passages[1:]), ValueError, f"passages: found {len(passages) - 1} vectors, expected"),
        ((queries, passages[:, 1:]), ValueError, "passages: found dim 5, expected 6"),
        ((queries, bad), ValueError, "passages: row 4 holds a NaN"),
        ((queries.astype(np.float64), passages), TypeError, "queries: found dtype torch.float64"),
        ((queries, "text"), TypeError, "passages: found str"),
    ]
    for source, error, match in cases:
        with pytest.raises(error, match=match):
            mine_negatives(source, pairs, corpus=corpus)
    with pytest.raises(ValueError, match="pairs: found none, expected at least one"):
        mine_negatives((queries, passages), PairSet.from_pairs([]))
    with pytest.raises(ValueError, match="similarity: found 'l2'"):
        mine_negatives((queries, passages), pairs, corpus=corpus, similarity="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"out: found '.*x.csv', expected a name that ends in .jsonl"):
        mine_to_file((queries, passages), pairs, tmp_path / "x.csv")
    (tmp_path / "x.jsonl").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_pairs(tmp_path / "x.jsonl", pairs)
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_the_file_trains(tmp_path: Path) -> None:
    """What is written is read back equal, and its negatives reach the batches."""
    items = parallel_items(30, LANGS)
    pairs = PairSet.from_parallel(items)
    corpus = [Passage(f'"odd"\ttext\u2028 {number}', "aa") for number in range(5)]
    encoder = NgramEncoder(dim=16, num_buckets=512)
    out = tmp_path / "new folder/mined.jsonl"
    rules = MiningRules(num_negatives=4, **ANY_SCORE)
    statistics = mine_to_file(encoder, pairs, out, rules, corpus=corpus)
    mined = mine_negatives(encoder, pairs, rules, corpus=corpus).pairs
    assert list(out.parent.iterdir()) == [out]
    read = load_pairs(out)
    names = ("query", "passage", "query_lang", "passage_lang", "group", "negatives")
    for found, expected in zip(read, mined, strict=True):
        assert [getattr(found, name) for name in names] == [getattr(expected, name) for name in names]
    shared = [[np.array_equal(one.questions[i], one.questions[j]) for one in (pairs, read)]
              for i, j in itertools.combinations(range(0, len(pairs), 5), 2)]  # fmt: skip
    assert all(before == after for before, after in shared)
    assert statistics.complete == len(pairs)
    sampler = HybridBatchSampler(read, 8, ratio=0.5, seed=0)
    rows = next(iter(sampler))
    batch = PairCollator(encoder)(Examples.of(read, rows))
    hard = dict.fromkeys(text for row in rows for text in read[row].negatives)
    fresh = [text for text in hard if text not in {read[row].passage for row in rows}]
    assert len(batch["passage_groups"]) == 8 + len(fresh) > 8
    answers = dict(zip(read.passages, read.answer_groups.tolist(), strict=True))
    ids = [-1 if answers[text] < 0 else int(read.group_ids[answers[text]]) for text in fresh]
    assert batch["passage_groups"][8:].tolist() == ids
    assert len(set(ids)) > 1
    again = tmp_path / "again.jsonl"
    mine_to_file(encoder, read, again, rules, corpus=corpus)
    assert [json.loads(line)["negatives"] for line in again.read_text("utf-8").split("\n")[:-1]] == [
        list(pair.negatives) for pair in mined
    ]  # complete already: nothing new


def test_afriqa(data_dir: Path) -> None:
    """African questions, English and French passages; the whole corpora are searched."""
    folder = data_dir / "afriqa"
    pairs = load_afriqa_study(folder).train
    tested = load_afriqa(folder)
    corpus = list(map(Passage, tested.passage_texts, tested.passage_langs))
    encoder = NgramEncoder()
    rules = MiningRules(num_negatives=5, depth=50, **ANY_SCORE)
    mined, statistics = mine_negatives(encoder, pairs, rules, corpus=corpus)
    assert statistics.passages > 4000
    assert statistics.complete == len(pairs) > 1000
    lang_of = {fold(passage.text): passage.lang for passage in corpus}
    lang_of |= {fold(pair.passage): pair.passage_lang for pair in pairs}
    texts = sorted({text for pair in mined for text in (pair.passage, *pair.negatives)})
    rows = {text: row for row, text in enumerate(texts)}
    embedded = encoder.encode(texts, "passage").double()
    asked = encoder.encode([pair.query for pair in mined], "query").double()
    for pair, query in zip(mined, asked, strict=True):
        assert len({fold(text) for text in (pair.passage, *pair.negatives)}) == 6
        assert {lang_of[fold(text)] for text in pair.negatives} == {pair.passage_lang}
        scores = embedded[[rows[text] for text in pair.negatives]] @ query
        assert (scores.diff() <= 1e-7).all()
    strict = mine_negatives(encoder, pairs, replace(rules, share=0.95), corpus=corpus).statistics
    assert 0 < strict.mined < statistics.mined
    assert strict.too_high > 0
    assert asdict(strict)["searches"] == statistics.searches
