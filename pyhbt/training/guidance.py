"""Guidance before a training: a batch size that the data cannot fill."""

from __future__ import annotations

import numpy as np

from pyhbt.training.sampling import HybridBatchSampler

_NAMED = 5


def unfilled_in_words(sampler: HybridBatchSampler) -> str | None:
    """Which languages, of the kinds that the ratio draws, have fewer pairs for a batch than it should hold.

    One line for all of them, those with the fewest first; None where every batch can be filled. O(pairs log pairs).
    """
    size = sampler.batch_size * sampler.num_ranks
    short = {label: pairs for label, pairs in _fillable(sampler).items() if pairs < size}
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


def _fillable(sampler: HybridBatchSampler) -> dict[str, int]:
    """The most pairs that a batch of each bucket which the ratio draws can hold, by language or language pair."""
    lowest, highest = sampler.schedule.bounds
    buckets = [
        *(sampler._monolingual if lowest < 1 else ()),
        *(sampler._cross_lingual if highest > 0 else ()),
    ]
    pairs = sampler.pairs
    found = {}
    for bucket in buckets:
        codes = np.stack([pairs.query_langs[bucket.rows], pairs.passage_langs[bucket.rows]], axis=1)
        query, passage = (pairs.languages[code] for code in codes[0])
        label = query if query == passage else f"{query}-{passage}"
        if (codes != codes[0]).any():
            label = "cross-lingual pairs"
        most = bucket.pass_size
        if sampler.false_negatives == "avoided":
            most = min(most, len(np.unique(pairs.groups[bucket.rows])))
        found[label] = most
    return found
