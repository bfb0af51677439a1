"""Pairs -> tensors of a training batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from pyhbt.data.types import Pair
from pyhbt.encoders.base import Encoder, Features


class Batch(TypedDict):
    """One training batch of n queries and m >= n passages.

    ``queries`` and ``passages`` are what the encoder's ``tokenize`` gives; passage i < n is the positive of
    query i, the others are hard negatives. ``query_groups`` (n,) and ``passage_groups`` (m,) are int64 group ids,
    -1 for hard negatives. ``cross_lingual`` is a bool scalar.
    """

    queries: Features
    passages: Features
    query_groups: Tensor
    passage_groups: Tensor
    cross_lingual: Tensor


class PairCollator:
    """Turns a list of pairs into a :class:`Batch`; equal hard negatives are encoded once."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def __call__(self, pairs: Sequence[Pair]) -> Batch:
        """Tokenise and number the groups of ``pairs``; O(text).

        Raises:
            ValueError: no pairs, or pairs of both kinds (monolingual and cross-lingual) in one batch.
        """
        kinds = {pair.query_lang != pair.passage_lang for pair in pairs}
        if len(kinds) != 1:
            raise ValueError(
                "pairs: found "
                + ("none" if not kinds else "monolingual and cross-lingual pairs in one batch")
                + ", expected pairs of one kind"
            )
        ids: dict[str, int] = {}
        groups = [ids.setdefault(pair.group, len(ids)) for pair in pairs]
        negatives = list(dict.fromkeys(text for pair in pairs for text in pair.negatives))
        query_groups = torch.tensor(groups, dtype=torch.int64)
        return Batch(
            queries=self.encoder.tokenize([pair.query for pair in pairs], "query"),
            passages=self.encoder.tokenize([pair.passage for pair in pairs] + negatives, "passage"),
            query_groups=query_groups,
            passage_groups=torch.cat([query_groups, torch.full((len(negatives),), -1, dtype=torch.int64)]),
            cross_lingual=torch.tensor(kinds.pop()),
        )
