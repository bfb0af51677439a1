"""No text that answers a query is its negative: every batch of random pair sets against a rule by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import NgramEncoder
from pyhbt.training.augmentation import Augmentation
from pyhbt.training.batches import Batch, Draw, DrawnExamples, Examples, PairCollator
from pyhbt.training.code_switching import CodeSwitching
from pyhbt.training.objectives import Objective
from pyhbt.training.sampling import HybridBatchSampler

LANGS = st.sampled_from(["en", "de"])


@st.composite
def pair_sets(draw: Any) -> PairSet:
    """Queries, passages and negatives that repeat, with groups and questions or without."""
    few = draw(st.integers(2, 30))
    number = st.integers(0, few)
    rows = []
    for row in range(draw(st.integers(1, 16))):
        query_lang, passage_lang = draw(LANGS), draw(LANGS)
        passage = f"p{draw(number)} {passage_lang}"
        group = draw(st.sampled_from([f"g{draw(number)}", f"g{row} alone", f"g of {passage}"]))
        question = draw(st.sampled_from(["", "", f"{draw(number)}"]))
        negatives = tuple(
            f"{kind}{draw(number)} {passage_lang}" for kind in draw(st.lists(st.sampled_from("pn")))
        )
        rows.append(Pair(f"q{draw(number)}", passage, query_lang, passage_lang, group, negatives, question))
    return PairSet.from_pairs(rows)


def related(pairs: PairSet) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """For each query and passage all that any chain of pairs joins to it, found by walking."""
    beside: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for pair in pairs:
        nodes = [("query", pair.query, pair.query_lang), ("passage", pair.passage), ("group", pair.group)]
        nodes += [("question", pair.question)] if pair.question else []
        for one, other in itertools.permutations(nodes, 2):
            beside.setdefault(one, set()).add(other)
    found = {}
    for start in beside:
        seen, edge = {start}, [start]
        while edge:
            new = beside[edge.pop()] - seen
            seen |= new
            edge += new
        found[start] = seen
    return found


class Recorder(NgramEncoder):
    """Remembers the texts of the batch that was packed last."""

    def token_ids(self, texts: Any, kind: Any = "passage") -> Any:
        self.seen: dict[str, list[str]] = getattr(self, "seen", {}) | {kind: list(texts)}
        return super().token_ids(texts, kind)


ENCODER = Recorder(dim=2, num_buckets=64)


def drawn(
    sampler: HybridBatchSampler, examples: DrawnExamples
) -> Iterator[list[tuple[Batch, list[Pair], list[str]]]]:
    """For every step each rank's batch, its pairs and the texts of its passages."""
    for step in range(sampler.steps):
        ranks = []
        for rows in sampler.at(step):
            chosen = examples[Draw(step, tuple(rows))]
            batch = PairCollator(ENCODER)(chosen)
            ranks.append((batch, chosen.pairs, ENCODER.seen["passage"]))
        yield ranks


@settings(max_examples=120, deadline=None)
@given(
    pairs=pair_sets(),
    policy=st.sampled_from(["avoided", "masked"]),
    mixed=st.booleans(),
    size=st.integers(1, 6),
    ranks=st.integers(1, 3),
    parallel=st.booleans(),
)
def test_every_batch(
    pairs: PairSet, policy: Literal["avoided", "masked"], mixed: bool, size: int, ranks: int, parallel: bool
) -> None:
    kinds = {pair.query_lang == pair.passage_lang for pair in pairs}
    sampler = HybridBatchSampler(
        pairs,
        size,
        ratio=0.5 if len(kinds) == 2 else float(False in kinds),
        steps=6,
        cross_pairs="mixed" if mixed else "single",
        false_negatives=policy,
        num_ranks=ranks,
    )
    try:
        augmentation = Augmentation(pairs, parallel_queries=parallel, parallel_passages=2 * parallel)
    except ValueError:  # no question is known in two languages
        augmentation = None
    known = related(pairs)
    for step in drawn(sampler, DrawnExamples(pairs, 0, augmentation)):
        candidates = [
            (text, int(id))
            for batch, _, texts in step
            for text, id in zip(texts, batch["passage_groups"], strict=True)
        ]
        queries = [(pair.query, pair.query_lang) for _, chosen, _ in step for pair in chosen]
        if policy == "avoided" and len(queries) > ranks:  # else every rank may have the one pair there is
            assert len(set(queries)) == len(queries)
        for batch, chosen, texts in step:
            assert len(set(texts)) == len(texts)
            wanted = [pair.passage for pair in chosen]
            wanted += [text for pair in chosen for text in pair.parallel_passages]
            assert [texts[place] for place in batch["positives"]] == wanted
            for pair, id in zip(chosen, batch["query_groups"].tolist(), strict=True):
                answers = known["query", pair.query, pair.query_lang]
                for text, other in candidates:
                    assert (other == id >= 0) == (("passage", text) in answers)
            if policy == "avoided" and len(queries) > ranks:
                for row, pair in enumerate(chosen):
                    answers = known["query", pair.query, pair.query_lang]
                    rest = {other.passage for place, other in enumerate(chosen) if place != row}
                    assert not any(("passage", text) in answers for text in rest)


@settings(max_examples=60, deadline=None)
@given(pairs=pair_sets(), symmetric=st.booleans(), seed=st.integers(0, 99))
def test_the_loss_is_that_over_distinct_texts_that_do_not_answer(
    pairs: PairSet, symmetric: bool, seed: int
) -> None:
    rows = [
        row
        for row, pair in enumerate(pairs)
        if (pair.query_lang == pair.passage_lang) == (pairs[0].query_lang == pairs[0].passage_lang)
    ]
    batch = PairCollator(ENCODER)(Examples.of(pairs, rows))
    torch.manual_seed(seed)
    vectors = F.normalize(torch.randn(2, 400, 4, dtype=torch.float64), dim=2)
    query_vector = {text: vectors[0, place] for place, text in enumerate(pairs.queries)}
    passage_vector = {text: vectors[1, place] for place, text in enumerate(pairs.passages)}
    chosen = [pairs[row] for row in rows]
    given = [query_vector[pair.query] for pair in chosen] + [
        passage_vector[text] for text in ENCODER.seen["passage"]
    ]
    found = Objective(symmetric=symmetric).loss(torch.stack(given), batch, 0.05).value
    known = related(pairs)
    texts = {text for pair in chosen for text in (pair.passage, *pair.negatives)}
    total = 0.0
    for pair in chosen:
        answers = known["query", pair.query, pair.query_lang]
        query, own = query_vector[pair.query], passage_vector[pair.passage]
        against = [passage_vector[text] for text in texts if ("passage", text) not in answers]
        back = [
            query_vector[other.query]
            for other in chosen
            if ("query", other.query, other.query_lang) not in answers
        ]
        scores = torch.stack([own, *against]) @ query / 0.05
        one = torch.logsumexp(scores, 0) - scores[0]
        if symmetric:
            scores = torch.stack([query, *back]) @ own / 0.05
            one = (one + torch.logsumexp(scores, 0) - scores[0]) / 2
        total += float(one) / len(chosen)
    assert float(found) == pytest.approx(total, rel=1e-9, abs=1e-9)


def test_a_hard_negative_that_answers_another_query_of_the_batch() -> None:
    pairs = PairSet.from_pairs(
        Pair(f"who wrote {title}", f"{name} wrote {title}", "en", "en", name, (f"{other} wrote {wrong}",))
        for title, name, wrong, other in (
            ("hamlet", "shakespeare", "faust", "goethe"),
            ("faust", "goethe", "hamlet", "shakespeare"),
        )
    )
    encoder = NgramEncoder()
    batch = PairCollator(encoder)(Examples.of(pairs, [0, 1]))
    vectors = encoder(batch["texts"])[batch["order"]].double()
    queries, passages = vectors[:2], vectors[2:]
    assert len(passages) == 2
    scores = queries @ passages.T / 0.05
    expected = F.cross_entropy(scores, torch.arange(2))
    found = Objective(temperature=0.05).loss(vectors, batch, 0.05).value
    torch.testing.assert_close(found, expected)
    assert abs(float(found.detach()) - 0.116) < 1e-3


@settings(max_examples=40, deadline=None)
@given(pairs=pair_sets(), seed=st.integers(0, 99))
def test_code_switched_texts_are_those_of_their_originals(pairs: PairSet, seed: int) -> None:
    """Switched words make some texts equal; equal ones are one, and whatever was related stays so."""
    words = {f"p{number}": {"de": (f"p{number // 3}",)} for number in range(0, 30, 2)}
    words |= {f"q{number}": {"de": (f"q{number // 3}",)} for number in range(0, 30, 2)}
    lexicon = {(lang, word): found for word, found in words.items() for lang in ("en", "de")}
    augmentation = Augmentation(pairs, code_switching=CodeSwitching(lexicon, 0.5))
    kinds = {pair.query_lang == pair.passage_lang for pair in pairs}
    sampler = HybridBatchSampler(
        pairs, 9, ratio=float(kinds == {False}), steps=3, seed=seed, false_negatives="masked"
    )
    known = related(pairs)
    for ((batch, chosen, texts),), rows in zip(
        drawn(sampler, DrawnExamples(pairs, seed, augmentation)), sampler, strict=True
    ):
        assert len(set(texts)) == len(texts)
        ids = batch["query_groups"].tolist()
        for (row, one), (other_row, other) in itertools.combinations(enumerate(rows), 2):
            before = pairs[one], pairs[other]
            joined = ("passage", before[1].passage) in known["passage", before[0].passage]
            now = chosen[row], chosen[other_row]
            joined |= now[0].passage == now[1].passage
            joined |= (now[0].query, now[0].query_lang) == (now[1].query, now[1].query_lang)
            if joined:
                assert ids[row] == ids[other_row]
        places = batch["positives"]
        assert batch["passage_groups"][places].tolist() == ids
