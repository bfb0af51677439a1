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
from pyhbt.training.batches import Draws
from pyhbt.training.exposure import Count, CountedDraws, Exposure
from pyhbt.training.sampling import HybridBatchSampler


def pairs_of(sizes: dict[tuple[str, str], int]) -> PairSet:
    return PairSet.from_pairs(
        Pair(f"q{query}{passage}{i}", f"p{query}{passage}{i}", query, passage, f"g{query}{passage}{i}")
        for (query, passage), number in sizes.items()
        for i in range(number)
    )


PAIRS = pairs_of({("aa", "aa"): 30, ("bb", "bb"): 5, ("aa", "bb"): 12, ("bb", "aa"): 3})


def by_hand(sampler: HybridBatchSampler, steps: int) -> dict[str, Any]:
    """From the pairs of every step, one by one."""
    size = sampler.batch_size * sampler.num_ranks
    kinds: Counter[tuple[str, str]] = Counter()
    languages: Counter[tuple[str, str, str]] = Counter()
    for step in range(steps):
        drawn = [PAIRS[row] for row in {row for part in sampler.at(step) for row in part}]
        mine = Counter((pair.query_lang, pair.passage_lang) for pair in drawn)
        for name, number in (("batches", 1), ("pairs", len(drawn)), ("short", len(drawn) < size)):
            kinds[sampler.kind(step), name] += number
            for query, passage in mine:
                languages[query, passage, name] += mine[query, passage] if name == "pairs" else number
    names = ("batches", "pairs", "short")
    return {
        "batch_size": size,
        "kinds": {kind: [kinds[kind, n] for n in names] for kind in sorted({kind for kind, _ in kinds})},
        "languages": [
            [query, passage, *(languages[query, passage, n] for n in names)]
            for query, passage in sorted({key[:2] for key in languages})
        ],
    }


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
    counted = CountedDraws(PAIRS, Exposure(size * ranks))
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
    assert counted.exposure.state() == by_hand(sampler, stop)
    state = json.loads(json.dumps(counted.exposure.state()))
    resumed = CountedDraws(PAIRS, Exposure.restore(state))
    assert resumed.exposure.state() == counted.exposure.state()
    list(resumed.watch(Draws(sampler, sampler.steps)))  # those before are drawn again, and passed over
    assert resumed.count_to(stop).state() == counted.exposure.state()
    assert resumed.count_to(steps).state() == by_hand(sampler, steps)


def test_a_repeated_row_counts_once() -> None:
    """Where a language has fewer pairs than there are ranks, ranks share them."""
    pairs = pairs_of({("aa", "aa"): 2})
    sampler = HybridBatchSampler(pairs, 2, ratio=0, steps=1, num_ranks=3)
    counted = CountedDraws(pairs, Exposure(6))
    list(counted.watch(Draws(sampler, sampler.steps)))
    assert counted.count_to(1).total == Count(batches=1, pairs=2, short=1)


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


@pytest.mark.parametrize("state", [{}, {"batch_size": 3}, {"batch_size": 3, "kinds": {"x": [1, 2, 3, 4]}}])
def test_what_is_no_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Exposure.restore(state)


def test_counts_are_numbers_of_python() -> None:
    counted = CountedDraws(PAIRS, Exposure(4))
    list(counted.watch(Draws(HybridBatchSampler(PAIRS, 4, steps=3), 4)))
    json.dumps(counted.count_to(3).state())
    assert not isinstance(counted.exposure.total.pairs, np.generic)
