"""What batches held, against a count over the drawn pairs themselves; drawn ahead, resumed, on several ranks."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import NgramEncoder
from pyhbt.training.batches import Draws
from pyhbt.training.exposure import Count, CountedDraws, Exposure, Figure, TextLengths
from pyhbt.training.sampling import HybridBatchSampler


def pairs_of(sizes: dict[tuple[str, str], int]) -> PairSet:
    return PairSet.from_pairs(
        Pair(f"q{query}{passage}{i}", f"p{query}{passage}{i}", query, passage, f"g{query}{passage}{i}")
        for (query, passage), number in sizes.items()
        for i in range(number)
    )


PAIRS = pairs_of({("aa", "aa"): 30, ("bb", "bb"): 5, ("aa", "bb"): 12, ("bb", "aa"): 3})


LENGTHS = TextLengths(
    np.arange(1, len(PAIRS.queries) + 1, dtype=np.int32),
    np.arange(7, len(PAIRS.passages) + 7, dtype=np.int32),
)


def by_hand(sampler: HybridBatchSampler, steps: int) -> dict[str, Any]:
    """From the pairs of every step, one by one."""
    size = sampler.batch_size * sampler.num_ranks
    kinds: Counter[tuple[str, str]] = Counter()
    languages: Counter[tuple[str, str, str]] = Counter()
    seen: dict[tuple[str, str, str], set[int]] = {}
    for step in range(steps):
        rows = {row for part in sampler.at(step) for row in part}
        kind = sampler.kind(step)
        kinds[kind, "batches"] += 1
        kinds[kind, "short"] += len(rows) < size
        of_pairs = {row: (PAIRS[row].query_lang, PAIRS[row].passage_lang) for row in rows}
        for language in set(of_pairs.values()):
            languages[(*language, "batches")] += 1
            languages[(*language, "short")] += len(rows) < size
        for row in rows:
            tokens = LENGTHS.queries[PAIRS.query_index[row]] + LENGTHS.passages[PAIRS.passage_index[row]]
            figures = {"pairs": 1, "tokens": int(tokens), "negatives": len(rows) - 1}
            for name, number in figures.items():
                kinds[kind, name] += number
                languages[(*of_pairs[row], name)] += number
            query, passage = of_pairs[row]
            for part in (("all", "*", "*"), (kind, "*", "*"), (kind, query, passage)):
                seen.setdefault(part, set()).add(row)
            for part in (("all", query, "*"), ("all", "*", passage)):
                seen.setdefault(part, set()).add(row)
    names = ("batches", "pairs", "short", "tokens", "negatives")
    return {
        "batch_size": size,
        "tokens": True,
        "kinds": {kind: [kinds[kind, n] for n in names] for kind in sorted({kind for kind, _ in kinds})},
        "languages": [
            [query, passage, *(languages[query, passage, n] for n in names)]
            for query, passage in sorted({key[:2] for key in languages})
        ],
        "distinct": {part: [len(rows)] * 3 for part, rows in seen.items()},  # one query and passage a pair
    }


def comparable(exposure: Exposure) -> dict[str, Any]:
    """The state, without what is only for going on."""
    state = {name: value for name, value in exposure.state().items() if name != "seen"}
    distinct = {tuple(key): numbers for *key, a, b, c in state["distinct"] if any(numbers := [a, b, c])}
    return {**state, "distinct": distinct}


def counting(size: int) -> CountedDraws:
    return CountedDraws(Exposure(size, PAIRS, LENGTHS))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([1, 4, 9]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from(["single", "mixed"]),
    st.integers(0, 9),
    st.data(),
)
def test_counts_are_those_of_the_pairs(
    ranks: int, size: int, ratio: float, cross: Any, seed: int, data: st.DataObject
) -> None:
    """However far the loader has drawn ahead, and wherever the training was interrupted."""
    steps = 12
    sampler = HybridBatchSampler(
        PAIRS, size, ratio=ratio, steps=steps, seed=seed, cross_pairs=cross, num_ranks=ranks
    )
    stop = data.draw(st.integers(0, steps))
    counted = counting(size * ranks)
    watched = counted.watch(Draws(sampler, sampler.steps))
    assert len(watched) == len(sampler)
    draws = iter(watched)
    taken = 0
    for done in range(1, stop + 1):
        ahead = data.draw(st.integers(done, steps))
        while taken < ahead * ranks:
            next(draws)
            taken += 1
        counted.count_to(done)
    assert comparable(counted.exposure) == by_hand(sampler, stop)
    state = json.loads(json.dumps(counted.exposure.state()))
    resumed = CountedDraws(Exposure.restore(state, PAIRS, LENGTHS))
    assert Exposure.restore(state).rows() == counted.exposure.rows()  # without the pairs too
    assert resumed.exposure.state() == counted.exposure.state()
    list(resumed.watch(Draws(sampler, sampler.steps)))  # those before are drawn again, and passed over
    assert resumed.count_to(stop).state() == counted.exposure.state()
    assert comparable(resumed.count_to(steps)) == by_hand(sampler, steps)


def test_a_repeated_row_counts_once() -> None:
    """Where a language has fewer pairs than there are ranks, ranks share them."""
    pairs = pairs_of({("aa", "aa"): 2})
    sampler = HybridBatchSampler(pairs, 2, ratio=0, steps=1, num_ranks=3)
    counted = CountedDraws(Exposure(6, pairs))
    list(counted.watch(Draws(sampler, sampler.steps)))
    assert counted.count_to(1).total == Count(batches=1, pairs=2, short=1, negatives=2)


def test_figures() -> None:
    exposure = Exposure(4)
    assert exposure.figures == {"pairs_per_batch": 0.0, "short_batches": 0}
    exposure.add({("aa", "aa"): 4})
    exposure.add({("aa", "bb"): 2, ("bb", "aa"): 1})
    assert exposure.total == Count(2, 7, 1)
    assert exposure.figures == {"pairs_per_batch": 3.5, "short_batches": 1}
    assert exposure.kinds == {"monolingual": Count(1, 4, 0), "cross-lingual": Count(1, 3, 1)}
    assert exposure.languages["bb", "aa"] == Count(1, 1, 1)
    assert Count().pairs_per_batch == 0.0


@pytest.mark.parametrize(
    "state", [{}, {"batch_size": 3}, {"batch_size": 3, "kinds": {"x": [1, 2, 3, 4, 5, 6]}}]
)
def test_what_is_no_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Exposure.restore(state)


def test_counts_are_numbers_of_python() -> None:
    counted = counting(4)
    list(counted.watch(Draws(HybridBatchSampler(PAIRS, 4, steps=3), 4)))
    json.dumps(counted.count_to(3).state())
    assert not isinstance(counted.exposure.total.pairs, np.generic)


def figures(exposure: Exposure, kind: str = "all", query: str = "*", passage: str = "*") -> dict[str, float]:
    return {
        figure.name.removeprefix("exposure "): figure.value
        for figure in exposure.rows()
        if figure[:3] == (kind, query, passage)
    }


def test_rows() -> None:
    exposure = Exposure(4, PAIRS, LENGTHS)
    mono = [row for row in range(len(PAIRS)) if PAIRS[row].query_lang == PAIRS[row].passage_lang == "aa"]
    cross = [row for row in range(len(PAIRS)) if PAIRS[row].query_lang != PAIRS[row].passage_lang]
    exposure.add_rows(np.array(mono[:4]))
    exposure.add_rows(np.array(mono[:3]))
    exposure.add_rows(np.array(cross[-4:]))  # one of aa-bb, three of bb-aa
    total = figures(exposure)
    assert total == {
        "batches": 3,
        "examples": 11,
        "tokens": LENGTHS.of_rows(PAIRS, [*mono[:4], *mono[:3], *cross[-4:]]).sum(),
        "short batches": 1,
        "negatives per query": pytest.approx((4 * 3 + 3 * 2 + 4 * 3) / 11),
        "distinct pairs": 8,
        "distinct queries": 8,
        "distinct passages": 8,
        "ratio": pytest.approx(1 / 3),
    }
    assert figures(exposure, "cross-lingual")["examples"] == 4
    assert figures(exposure, "cross-lingual", "bb", "aa") == {}  # of language pairs, the state tells
    assert exposure.languages["bb", "aa"].pairs == 3
    assert figures(exposure, query="aa")["examples"] == 8
    assert figures(exposure, passage="bb")["distinct pairs"] == 1
    assert "ratio" not in figures(exposure, "cross-lingual")
    assert exposure.languages_as_queries == exposure.languages_as_passages == {"aa", "bb"}
    assert [figure.name for figure in exposure.totals()] == [
        "exposure batches",
        "exposure examples",
        "exposure tokens",
    ]
    assert len({figure[:4] for figure in exposure.rows()}) == len(exposure.rows())


def test_nothing_is_said_of_what_is_not_counted() -> None:
    exposure = Exposure(4)
    exposure.add({("aa", "aa"): 4})
    assert exposure.totals() == [
        Figure("all", "*", "*", "exposure batches", 1),
        Figure("all", "*", "*", "exposure examples", 4),
    ]
    assert not [figure for figure in exposure.rows() if "tokens" in figure.name or "distinct" in figure.name]
    assert Exposure(4).rows()[0].value == 0
    with pytest.raises(ValueError, match="pairs: found None"):
        exposure.add_rows(np.array([0]))


def test_negatives_do_not_answer_the_query() -> None:
    """Two pairs of one group, a third, and hard negatives, one of which answers."""
    pairs = PairSet.from_pairs(
        [
            Pair("q0", "p0", "en", "en", "g0", negatives=("n0", "p1")),
            Pair("q1", "p1", "en", "en", "g0"),
            Pair("q2", "p2", "en", "en", "g2"),
        ]
    )
    exposure = Exposure(3, pairs)
    exposure.add_rows(np.array([0, 1, 2]))
    # passages p0 p1 p2 n0: q0 and q1 meet p2 and n0; q2 meets p0, p1 and n0
    assert exposure.total.negatives == 2 + 2 + 3


def test_two_trainings_together() -> None:
    first, second = Exposure(4, PAIRS, LENGTHS), Exposure(4, PAIRS, LENGTHS)
    first.add_rows(np.arange(4))
    second.add_rows(np.arange(2, 6))
    both = Exposure.merged(first, second)
    assert both.total == first.total | second.total
    assert both.total.pairs == 8
    assert figures(both)["distinct pairs"] == 6


def test_lengths_are_those_of_the_encoder() -> None:
    encoder = NgramEncoder(dim=4, num_buckets=64, max_length=12)
    lengths = TextLengths.of(encoder, PAIRS)
    for place, text in enumerate(PAIRS.queries):
        assert lengths.queries[place] == len(encoder.token_ids([text], "query")[0]) <= 12
    assert lengths.of_rows(PAIRS).sum() == (
        lengths.queries[PAIRS.query_index].sum() + lengths.passages[PAIRS.passage_index].sum()
    )
