"""HybridBatchSampler: kinds, distinct groups, purity of order, coverage, exact length, ranks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.data.pair_set import Pair, PairSet, ParallelItem
from pyhbt.training.sampling import HybridBatchSampler

LANGS = ("de", "en", "hi")


def parallel(num_groups: int, langs: tuple[str, ...] = LANGS) -> PairSet:
    return PairSet.from_parallel(
        ParallelItem(
            f"g{group}",
            {lang: f"{lang} question {group}" for lang in langs},
            {lang: f"{lang} answer {group}" for lang in langs},
        )
        for group in range(num_groups)
    )


def several_per_group(counts: list[int]) -> PairSet:
    return PairSet.from_pairs(
        Pair(f"q{group}.{i}", f"p{group}", "en", "en", f"g{group}")
        for group, count in enumerate(counts)
        for i in range(count)
    )


def kinds_in(sampler: HybridBatchSampler, batch: list[int]) -> set[bool]:
    return {pair.query_lang != pair.passage_lang for pair in map(sampler.pairs.__getitem__, batch)}


@pytest.mark.parametrize("cross_pairs", ["single", "mixed"])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, "linear:0:1", "cosine:1:0", "steps:0@0,1@0.5"])
def test_every_batch_has_one_kind_and_distinct_groups(ratio: float | str, cross_pairs: Any) -> None:
    pairs = parallel(20)
    sampler = HybridBatchSampler(pairs, 7, ratio=ratio, steps=60, cross_pairs=cross_pairs)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 60
    for step, batch in enumerate(batches):
        assert kinds_in(sampler, batch) == {sampler.kind(step) == "cross-lingual"}
        groups = pairs.groups[batch]
        assert len(set(groups)) == len(groups) == 7
        language_pairs = {(pairs.query_langs[i], pairs.passage_langs[i]) for i in batch}
        if cross_pairs == "single" or sampler.kind(step) == "monolingual":
            assert len(language_pairs) == 1
    if ratio in (0.0, 1.0):
        assert {sampler.kind(step) for step in range(60)} == {"cross-lingual" if ratio else "monolingual"}


def test_mixed_batches_mix_language_pairs() -> None:
    pairs = parallel(50)
    sampler = HybridBatchSampler(pairs, 24, ratio=1, steps=20, cross_pairs="mixed")
    seen = [{(pairs.query_langs[i], pairs.passage_langs[i]) for i in batch} for batch in sampler]
    assert min(map(len, seen)) >= 3


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("cross_pairs", ["single", "mixed"])
def test_mixed_negatives_are_in_many_languages(ratio: float, cross_pairs: Any) -> None:
    """In batches of both kinds, which keep their kind: the language of a passage does not tell whether it answers."""
    pairs = parallel(60)
    sampler = HybridBatchSampler(
        pairs, 24, ratio=ratio, steps=40, cross_pairs=cross_pairs, negatives="mixed", seed=3
    )
    drawn: Counter[tuple[str, str]] = Counter()
    for step, batch in enumerate(sampler):
        assert kinds_in(sampler, batch) == {sampler.kind(step) == "cross-lingual"}
        assert len({pairs.passage_langs[i] for i in batch}) > 1
        assert len(set(pairs.groups[batch])) == len(batch) == 24
        drawn.update((str(pairs.query_langs[i]), str(pairs.passage_langs[i])) for i in batch)
    kinds = [query == passage for query, passage in drawn]
    assert (kinds.count(True), kinds.count(False)) == (3 * (ratio < 1), 6 * (ratio > 0))
    for same in (True, False):  # all languages and language pairs alike
        counts = [n for (query, passage), n in drawn.items() if (query == passage) == same]
        if counts:
            assert max(counts) < 1.4 * min(counts)


def test_mixed_negatives_of_one_language_are_a_pass_over_it() -> None:
    """With one language there is nothing to mix."""
    pairs = parallel(30, ("de",))
    for negatives in ("one-language", "mixed"):
        sampler = HybridBatchSampler(pairs, 8, ratio=0, steps=9, negatives=negatives, seed=1)  # type: ignore[arg-type]
        seen = [row for batch in list(sampler)[:3] for row in batch]
        assert len(set(seen)) == len(seen) == 24


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_mixed_negatives_over_ranks(num_ranks: int) -> None:
    pairs = parallel(60)
    sampler = HybridBatchSampler(pairs, 8, ratio=0.5, steps=10, negatives="mixed", num_ranks=num_ranks)
    one = HybridBatchSampler(pairs, 8 * num_ranks, ratio=0.5, steps=10, negatives="mixed")
    for step in range(10):
        assert sorted(i for batch in sampler.at(step) for i in batch) == sorted(one.at(step)[0])


@pytest.mark.parametrize(
    "ratio",
    [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0, "linear:0:1", "cosine:1:0.2", "steps:0@0,0.9@0.3,0.4@0.7"],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_window_has_the_share_asked_for(ratio: float | str, seed: int) -> None:
    """Over the border of epochs too."""
    sampler = HybridBatchSampler(parallel(10), 4, ratio=ratio, steps=300, schedule_steps=600, seed=seed)
    cross, asked = [], []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        cross += [sampler.kind(step) == "cross-lingual" for step in range(300)]
        asked += [sampler.ratio(step) for step in range(300)]
    for width in (1, 20, 137, 600):
        window = np.ones(width)
        difference = np.convolve(cross, window, mode="valid") - np.convolve(asked, window, mode="valid")
        assert np.abs(difference).max() < 1 + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(0, 199), st.floats(0.1, 0.9)), max_size=6))
def test_an_adaptive_ratio_has_its_share_in_every_window(seed: int, changes: list[tuple[int, float]]) -> None:
    sampler = HybridBatchSampler(parallel(10), 4, ratio="adaptive:0.1:0.9", steps=200, seed=seed)
    for step, ratio in sorted(changes):
        before = [sampler.kind(earlier) for earlier in range(step)]
        sampler.set_ratio(ratio, step)
        assert [sampler.kind(earlier) for earlier in range(step)] == before
    cross = np.array([sampler.kind(step) == "cross-lingual" for step in range(200)])
    asked = np.array([sampler.ratio(step) for step in range(200)])
    for width in (1, 20, 200):
        difference = np.convolve(cross - asked, np.ones(width), mode="valid")
        assert np.abs(difference).max() < 1 + 1e-9


def test_languages_get_their_share_of_each_kind() -> None:
    """Three languages and six pairs: each of a kind as often as any other, to within one batch."""
    pairs = parallel(20)
    for seed in range(5):
        sampler = HybridBatchSampler(pairs, 5, ratio=0.5, steps=75, seed=seed)
        drawn: Counter[tuple[int, int]] = Counter()
        for batch in sampler:
            drawn[int(pairs.query_langs[batch[0]]), int(pairs.passage_langs[batch[0]])] += 1
        same = [count for (query, passage), count in drawn.items() if query == passage]
        other = [count for (query, passage), count in drawn.items() if query != passage]
        assert len(same) == 3
        assert len(other) == 6
        assert max(same) - min(same) <= 1
        assert max(other) - min(other) <= 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 5), start=st.integers(0, 25), mixed=st.booleans())
def test_order_is_a_pure_function_of_seed_epoch_step(seed: int, epoch: int, start: int, mixed: bool) -> None:
    pairs = parallel(11)

    def make() -> HybridBatchSampler:
        sampler = HybridBatchSampler(
            pairs, 4, ratio=0.5, steps=25, seed=seed, cross_pairs="mixed" if mixed else "single"
        )
        sampler.set_epoch(epoch)
        return sampler

    whole = list(make())
    assert list(make().batches(start)) == whole[start:]
    fresh = make()
    for step in np.random.default_rng(seed).permutation(25):
        assert fresh.at(int(step)) == [whole[step]]


def test_seeds_and_epochs_differ() -> None:
    pairs = parallel(40)
    first = HybridBatchSampler(pairs, 8, steps=10, seed=0)
    other = HybridBatchSampler(pairs, 8, steps=10, seed=1)
    assert list(first) != list(other)
    before = list(first)
    first.set_epoch(1)
    assert list(first) != before
    first.set_epoch(0)
    assert list(first) == before


def test_more_steps_do_not_change_the_first_ones() -> None:
    pairs = parallel(40)
    short = HybridBatchSampler(pairs, 8, ratio=0.5, steps=10)
    long = HybridBatchSampler(pairs, 8, ratio=0.5, steps=100)
    assert list(short) == list(long)[:10]


def test_a_pass_covers_every_pair_once() -> None:
    pairs = several_per_group([1] * 40 + [3] * 8)
    sampler = HybridBatchSampler(pairs, 8, ratio=0, steps=8)
    rows = [row for batch in sampler for row in batch]
    assert Counter(rows) == Counter(range(64))


def test_large_groups_shorten_batches_rather_than_repeat() -> None:
    pairs = several_per_group([30, 1, 1])
    sampler = HybridBatchSampler(pairs, 8, ratio=0, steps=50)
    for batch in sampler:
        groups = pairs.groups[batch]
        assert 1 <= len(groups) == len(set(groups)) <= 3
    masked = HybridBatchSampler(pairs, 8, ratio=0, steps=50, false_negatives="masked")
    assert {len(batch) for batch in masked} == {8}


def test_no_batch_holds_a_query_twice() -> None:
    """A hundred queries with four passages each, which name no group."""
    pairs = PairSet.from_pairs(Pair(f"q{row // 4}", f"p{row}", "en", "en", f"p{row}") for row in range(400))
    sampler = HybridBatchSampler(pairs, 32, ratio=0, steps=24)
    for batch in sampler:
        assert len(batch) == len({pairs[row].query for row in batch}) == 32
    for first in (0, 12):
        assert len({row for batch in list(sampler)[first : first + 12] for row in batch}) == 384


@settings(max_examples=20, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=20),
    size=st.integers(1, 12),
    ranks=st.integers(1, 3),
    masked=st.booleans(),
)
def test_what_batches_can_hold(counts: list[int], size: int, ranks: int, masked: bool) -> None:
    pairs = several_per_group(counts)
    sampler = HybridBatchSampler(
        pairs,
        size,
        ratio=0,
        steps=120,
        num_ranks=ranks,
        false_negatives="masked" if masked else "avoided",
    )
    held = [len({row for part in sampler.at(step) for row in part}) for step in range(120)]
    found = sampler.fillable()
    assert found.keys() == {"en"}
    assert abs(found["en"] - np.mean(held)) <= 0.5 + 0.1 * size * ranks
    if masked:
        assert set(held) == {min(size * ranks, len(pairs))} == set(found.values())


def test_what_batches_can_hold_by_language() -> None:
    pairs = PairSet.from_pairs(
        [Pair(f"q{row // 4}", f"p{row}", "en", "en", f"p{row}") for row in range(20)]
        + [Pair(f"q{row // 2}", f"s{row}", "de", "en", f"s{row}") for row in range(40)]
        + [Pair(f"r{row}", f"r{row}", "en", "de", f"r{row}") for row in range(3)]
    )
    sampler = HybridBatchSampler(pairs, 8, num_ranks=2)
    assert sampler.fillable() == {"en": 5, "de-en": 16, "en-de": 3}
    mixed = HybridBatchSampler(pairs, 30, cross_pairs="mixed", language_sampling="size")
    assert mixed.fillable() == {"en": 5, "cross-lingual": 22}  # a batch takes 30 of 43 pairs


def test_small_languages_give_short_batches() -> None:
    pairs = PairSet.from_pairs(
        [Pair(f"q{i}", f"p{i}", "en", "en", f"g{i}") for i in range(50)]
        + [Pair(f"r{i}", f"s{i}", "yo", "yo", f"h{i}") for i in range(3)]
    )
    sampler = HybridBatchSampler(pairs, 16, ratio=0, steps=100)
    sizes = {pairs[batch[0]].query_lang: len(batch) for batch in sampler}
    assert sizes == {"en": 16, "yo": 3}


@pytest.mark.parametrize(
    ("sampling", "share"),
    [("uniform", 0.5), ("size", 0.9), (0.5, 0.75)],
)
def test_language_sampling(sampling: Any, share: float) -> None:
    # 450 English pairs, 50 Yoruba ones: n^a gives 9^a to 1.
    pairs = PairSet.from_pairs(
        [Pair(f"q{i}", f"p{i}", "en", "en", f"g{i}") for i in range(450)]
        + [Pair(f"r{i}", f"s{i}", "yo", "yo", f"h{i}") for i in range(50)]
    )
    sampler = HybridBatchSampler(pairs, 4, ratio=0, steps=3000, language_sampling=sampling)
    english = np.mean([pairs[batch[0]].query_lang == "en" for batch in sampler])
    assert abs(english - share) < 0.04


def test_mixed_pairs_follow_language_sampling() -> None:
    pairs = PairSet.from_pairs(
        [Pair(f"q{i}", f"p{i}", "en", "de", f"g{i}") for i in range(450)]
        + [Pair(f"r{i}", f"s{i}", "yo", "en", f"h{i}") for i in range(50)]
    )
    for sampling, share in (("uniform", 0.5), ("size", 0.1)):
        sampler = HybridBatchSampler(
            pairs, 10, ratio=1, steps=400, cross_pairs="mixed", language_sampling=sampling
        )
        rare = np.mean([pairs[i].query_lang == "yo" for batch in sampler for i in batch])
        assert abs(rare - share) < 0.05


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_ranks_share_kind_and_languages_and_split_the_union_batch(num_ranks: int) -> None:
    pairs = parallel(60)
    together = HybridBatchSampler(pairs, 12, ratio=0.5, steps=30)
    split = HybridBatchSampler(pairs, 12 // num_ranks, ratio=0.5, steps=30, num_ranks=num_ranks)
    assert len(split) == 30 * num_ranks
    # accelerate's wrapper, which deals whole batches out to ranks in turn
    shards = [
        list(BatchSamplerShard(split, num_ranks, rank, split_batches=False, even_batches=False))
        for rank in range(num_ranks)
    ]
    assert [len(shard) for shard in shards] == [30] * num_ranks
    for step, union in enumerate(together):
        parts = [shard[step] for shard in shards]
        assert [row for part in parts for row in part] == union
        assert len({(pairs.query_langs[i], pairs.passage_langs[i]) for i in union}) == 1


def test_every_rank_gets_a_batch_even_from_a_tiny_language() -> None:
    pairs = parallel(2, ("en", "de"))
    sampler = HybridBatchSampler(pairs, 4, ratio=0.5, steps=5, num_ranks=3)
    assert all(len(batch) >= 1 for step in range(5) for batch in sampler.at(step))


def test_default_epoch_draws_every_query_once() -> None:
    assert HybridBatchSampler(parallel(20), 8).steps == -(-60 // 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: found 0, expected at least 1"),
        ({"num_ranks": 0}, "num_ranks: found 0"),
        ({"steps": 0}, "steps: found 0"),
        ({"seed": -1}, "seed: found -1"),
        ({"ratio": 2.0}, "ratio: found 2.0"),
        ({"cross_pairs": "both"}, "cross_pairs: found 'both', expected one of single, mixed"),
        ({"false_negatives": "any"}, "false_negatives: found 'any', expected one of avoided, masked"),
        ({"language_sampling": "often"}, "language_sampling: found 'often'"),
        ({"language_sampling": 1.5}, "language_sampling: found 1.5"),
        ({"schedule_steps": 0}, "schedule_steps: found 0"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridBatchSampler(parallel(3), **({"batch_size": 2} | options))


def test_a_ratio_that_the_data_cannot_serve_is_refused() -> None:
    monolingual = PairSet.from_pairs([Pair("q", "p", "en", "en", "g")])
    with pytest.raises(
        ValueError, match=r"ratio: found 0.5, expected 0: no pair joins two of the languages en"
    ):
        HybridBatchSampler(monolingual, 1)
    cross_lingual = PairSet.from_pairs([Pair("q", "p", "sw", "en", "g")])
    with pytest.raises(ValueError, match=r"ratio: found 0.5, expected 1: no pair is within one"):
        HybridBatchSampler(cross_lingual, 1)
    with pytest.raises(ValueError, match="pairs: found 0 pairs"):
        HybridBatchSampler(PairSet.from_pairs([]), 1)
    with pytest.raises(ValueError, match="step: found 9, expected 0 to 8"):
        HybridBatchSampler(parallel(3), 1, steps=9).at(9)


def test_the_policy_under_its_former_name() -> None:
    pairs = PairSet.from_pairs(Pair(f"q{i}", f"p{i}", "en", "en", f"g{i % 3}") for i in range(12))
    for old, new in (("masked", "masked"), ("distinct", "avoided")):
        with pytest.warns(DeprecationWarning, match="groups is called false_negatives now"):
            sampler = HybridBatchSampler(pairs, 6, ratio=0, steps=5, groups=old)  # type: ignore[call-arg]
        assert sampler.false_negatives == new
        assert list(sampler) == list(HybridBatchSampler(pairs, 6, ratio=0, steps=5, false_negatives=new))  # type: ignore[arg-type]


def test_pairs_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="pairs: found list, expected PairSet"):
        HybridBatchSampler([{"query": "a", "passage": "b"}], 4)  # type: ignore[arg-type]


def test_a_sampler_is_shown_in_few_words() -> None:
    shown = repr(HybridBatchSampler(parallel(4), 2, ratio=0.25, steps=3))
    assert shown.startswith("HybridBatchSampler(PairSet(")
    assert "batch_size=2" in shown
    assert len(shown) < 300
