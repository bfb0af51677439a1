"""Equal budgets on lopsided data: every arm within one batch of the amount."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import NgramEncoder
from pyhbt.training.budget import steps_within
from pyhbt.training.exposure import TextLengths
from pyhbt.training.sampling import HybridBatchSampler

RATIOS = (0.0, 0.25, 0.5, 1.0, "linear:0:1", "cosine:1:0", "adaptive:0.1:0.9", "steps:0@0,1@0.5")


def lopsided() -> PairSet:
    """Large monolingual buckets in two languages, small ones in two more; texts of very different lengths."""
    sizes = {"aa": 200, "bb": 150, "cc": 5, "dd": 3}
    return PairSet.from_pairs(
        Pair(
            f"{query} {'long ' * (len(query) + i % 7)}{i}",
            f"{passage} {i}",
            query,
            passage,
            f"{query}{passage}{i}",
        )
        for query, passage in itertools.product(sizes, sizes)
        for i in range(min(sizes[query], sizes[passage]))
    )


PAIRS = lopsided()
LENGTHS = TextLengths.of(NgramEncoder(dim=2, num_buckets=8), PAIRS)


def sampler_of(ratio: float | str, seed: int = 0) -> Callable[[int], HybridBatchSampler]:
    return lambda steps: HybridBatchSampler(PAIRS, 16, ratio=ratio, steps=steps, seed=seed)


def held(ratio: float | str, steps: int, unit: str) -> list[int]:
    batches = [np.unique(np.concatenate(sampler_of(ratio)(steps).at(step))) for step in range(steps)]
    return [len(rows) if unit == "examples" else int(LENGTHS.of_rows(PAIRS, rows).sum()) for rows in batches]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("unit", "amount"), [("examples", 1600), ("examples", 100), ("tokens", 60_000)])
def test_within_a_batch_of_the_amount(ratio: float | str, unit: str, amount: int) -> None:
    steps = steps_within(sampler_of(ratio), unit, amount, LENGTHS)  # type: ignore[arg-type]
    found = held(ratio, steps, unit)
    assert abs(sum(found) - amount) <= max(found)


def test_arms_take_different_numbers_of_steps() -> None:
    """Half of the buckets of either kind are small; more so of the cross-lingual ones."""
    steps = [steps_within(sampler_of(ratio), "examples", 1600) for ratio in (0.0, 0.5, 1.0)]
    assert 100 < steps[0] < steps[1] < steps[2]


def test_full_batches_take_the_steps_named() -> None:
    pairs = PairSet.from_pairs(Pair(f"q{i}", f"p{i}", "en", "en", f"g{i}") for i in range(160))

    def sampler(steps: int) -> HybridBatchSampler:
        return HybridBatchSampler(pairs, 16, ratio=0, steps=steps)

    assert steps_within(sampler, "examples", 16 * 37) == 37
    assert steps_within(sampler, "steps", 37) == 37


def test_at_least_one_step() -> None:
    assert steps_within(sampler_of(0.5), "examples", 1) == 1


def test_refused() -> None:
    with pytest.raises(ValueError, match="unit: found 'hours'"):
        steps_within(sampler_of(0), "hours", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="amount: found 0"):
        steps_within(sampler_of(0), "examples", 0)
    with pytest.raises(ValueError, match="lengths: found None"):
        steps_within(sampler_of(0), "tokens", 5)
