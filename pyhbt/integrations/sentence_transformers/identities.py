"""Which texts of a batch are one, and which answer which of its queries: what a loss needs to know beside vectors.

Columns are those of sentence-transformers: queries, positive passages, hard negatives, n texts each. Cost: O(tokens),
and the token ids are read back from their device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyhbt.data.answers import joined


@dataclass(frozen=True)
class Identities:
    """The candidates of a batch, distinct, and ids of them and of the queries.

    ``candidates`` (m,) are rows of the passages of all columns in a row; ``positives`` (n,) point into them. What
    answers a query has the query's id: ``query_groups`` (n,), ``passage_groups`` (m,). All int64, on one device.
    """

    candidates: Tensor
    positives: Tensor
    query_groups: Tensor
    passage_groups: Tensor


def text_numbers(columns: Sequence[Mapping[str, Any]]) -> NDArray[np.int64] | None:
    """A number of 63 bits for every text, (columns, n), the same for equal token ids, in every process.

    None where features are not those of texts alone (images, sounds).
    """
    rows = [_token_rows(features) for features in columns]
    if any(column is None for column in rows):
        return None
    return np.array([[_number(row) for row in column or ()] for column in rows], dtype=np.int64)


def identities(
    num_queries: int, num_columns: int, texts: NDArray[np.int64] | None, labels: NDArray[np.int64] | None
) -> Identities:
    """What is one, and what answers what.

    Queries that are equal have the same answers, and so have equal positives and pairs of one label; directly or
    through other pairs of the batch.

    Args:
        num_queries: n.
        num_columns: of passages.
        texts: (1 + num_columns, n) from :func:`text_numbers`; None: every text is another.
        labels: (n, num_columns) group ids of the passages, negative where they belong to no group; or (n, 1), those of
            the positives; None: no groups.
    """
    count = num_queries * num_columns
    given = np.full(count, -1, dtype=np.int64)
    if labels is not None:
        given[: labels.size] = labels.T.ravel()
    if texts is None:
        asked, passages = np.arange(num_queries), np.arange(count)
        own = np.where(given >= 0, given, -2 - passages)  # negative ids belong to no group
    else:
        asked, passages = texts[0], texts[1:].ravel()
        own = np.where(given >= 0, given, passages)
    ids = joined((own[:num_queries], asked, passages[:num_queries]))
    now = dict(zip(own[:num_queries].tolist(), ids.tolist(), strict=True))
    passage_ids = np.array([now.get(one, one) for one in own.tolist()], dtype=np.int64)
    passage_ids[:num_queries] = ids
    _, first, place = np.unique(passages, return_index=True, return_inverse=True)
    candidates = np.sort(first)
    return Identities(
        *map(
            torch.from_numpy,
            (
                candidates,
                np.searchsorted(candidates, first[place[:num_queries]]),
                ids,
                passage_ids[candidates],
            ),
        )
    )


def _token_rows(features: Mapping[str, Any]) -> list[NDArray[np.int64]] | None:
    """The token ids of every text."""
    tokens = features.get("input_ids")
    if not isinstance(tokens, Tensor) or features.get("modality", "text") != "text":
        return None
    ids = tokens.cpu().numpy().astype(np.int64)
    for name in ("cu_seq_lens_q", "offsets"):  # texts in a row, without padding
        if isinstance(starts := features.get(name), Tensor):
            inner = starts.cpu().numpy()[1 : -1 if name == "cu_seq_lens_q" else None]
            return list(np.split(ids.ravel(), inner))
    mask = features.get("attention_mask")
    if not isinstance(mask, Tensor):
        return list(ids)
    return [row[keep] for row, keep in zip(ids, mask.cpu().numpy().astype(bool), strict=True)]


def _number(tokens: NDArray[np.int64]) -> int:
    return int.from_bytes(hashlib.blake2b(tokens.tobytes(), digest_size=8).digest(), "little") >> 1
