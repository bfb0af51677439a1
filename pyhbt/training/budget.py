"""Equal budgets: how many steps an arm takes for as many examples or tokens as another.

Batches are short where a language has fewer pairs than a batch, so that arms of equally many steps may see unequally
much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from pyhbt.arguments import check_at_least, check_choice
from pyhbt.training.exposure import TextLengths
from pyhbt.training.sampling import HybridBatchSampler

Budget = Literal["steps", "examples", "tokens"]
_ROUNDS = 8


def steps_within(
    make_sampler: Callable[[int], HybridBatchSampler],
    unit: Budget,
    amount: int,
    lengths: TextLengths | None = None,
) -> int:
    """The number of steps whose batches together come nearest to ``amount`` of ``unit``; at least 1.

    The sampler's own batches are walked through, those of an adaptive ratio at the middle of its range. A schedule
    depends on the number of steps that it spans, so the walk is repeated with the number found until it stays; where
    two numbers take turns, the smaller one is taken. O(steps * batch), a few times.

    Args:
        make_sampler: the sampler of a training of so many steps.
        unit: of the budget; distinct pairs a batch, as :class:`pyhbt.training.exposure.Exposure` counts them.
        amount: of it.
        lengths: tokens of the pairs' texts; for tokens alone.

    Raises:
        ValueError: an unknown unit, an amount below 1, or tokens without ``lengths``.
    """
    check_choice("unit", unit, get_args(Budget))
    check_at_least("amount", amount, 1)
    if unit == "steps":
        return amount
    if unit == "tokens" and lengths is None:
        raise ValueError("lengths: found None, expected those that tokens are counted by")
    steps = _first_guess(make_sampler, unit, amount, lengths)
    tried = []
    for _ in range(_ROUNDS):
        found = _walked(make_sampler(steps), unit, amount, lengths)
        if found == steps:
            return steps
        if found in tried:
            return min(found, steps)
        tried.append(steps)
        steps = found
    return steps


def _first_guess(
    make_sampler: Callable[[int], HybridBatchSampler], unit: Budget, amount: int, lengths: TextLengths | None
) -> int:
    """The amount over what the first hundred steps hold a step."""
    sampler = make_sampler(100)
    held = float(np.mean([_held(sampler, step, unit, lengths) for step in range(100)]))
    return max(1, round(amount / held))


def _walked(sampler: HybridBatchSampler, unit: Budget, amount: int, lengths: TextLengths | None) -> int:
    """Steps nearest to the amount; past the sampler's end at its mean."""
    total = 0
    for step in range(sampler.steps):
        held = _held(sampler, step, unit, lengths)
        if total + held >= amount:
            return max(1, step + (total + held - amount <= amount - total))
        total += held
    return sampler.steps + max(0, round((amount - total) / (total / sampler.steps)))


def _held(sampler: HybridBatchSampler, step: int, unit: Budget, lengths: TextLengths | None) -> int:
    """What the batch of a step holds, over all ranks."""
    rows = np.unique(np.concatenate(sampler.at(step)))
    if unit == "examples" or lengths is None:
        return len(rows)
    return int(lengths.of_rows(sampler.pairs, rows).sum())
