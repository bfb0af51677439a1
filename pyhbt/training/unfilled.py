"""What is said before a training: a batch size that the data cannot fill."""

from __future__ import annotations

from pyhbt.training.sampling import HybridBatchSampler

_NAMED = 5


def unfilled_in_words(sampler: HybridBatchSampler) -> str | None:
    """Which languages, of the kinds that the ratio draws, have fewer pairs for a batch than it should hold.

    One line for all of them, those with the fewest first; None where every batch can be filled. O(pairs log pairs).
    """
    size = sampler.batch_size * sampler.num_ranks
    short = {label: pairs for label, pairs in sampler.fillable().items() if pairs < size}
    if not short:
        return None
    fewest = sorted(short.items(), key=lambda item: (item[1], item[0]))
    named = ", ".join(f"{label} {pairs}" for label, pairs in fewest[:_NAMED])
    more = f" and {len(fewest) - _NAMED} others" if len(fewest) > _NAMED else ""
    ranks = f" on each of {sampler.num_ranks} ranks ({size})" if sampler.num_ranks > 1 else ""
    return (
        f"batch_size: found {sampler.batch_size}{ranks}, but fewer pairs may share a batch of {named}{more}: these "
        "batches are short, with fewer negatives"
    )
