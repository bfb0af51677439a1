"""What data hold of each language: what an evaluation rests on, and what a ratio of cross-lingual batches means.

Plain data and sentences, so that a study can write them beside its results. O(queries + judgements + pairs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, Final

import numpy as np

from pyhbt.data.pair_set import PairSet
from pyhbt.data.retrieval_set import RetrievalSet

FEW: Final = 20  # queries, under which a mean over them says little
_LISTED = 12


def coverage(data: RetrievalSet, languages: Iterable[str] | None = None) -> dict[str, Any]:
    """Queries with a relevant passage, by language pair, and what is absent or rare.

    Args:
        data: the set.
        languages: that are expected in it; default: its own.

    Returns:
        ``queries`` and ``passages``: how many; ``clusters``: how many of queries; ``pairs``: [query language, passage
        language, queries] of every pair that has any; ``absent_languages``: without a query; ``absent_pairs``: without
        a judged query though both languages are there; ``rare_pairs``: those with fewer than 20.
    """
    language_of = dict(zip(data.passage_ids, data.passage_langs, strict=True))
    counts: Counter[tuple[str, str]] = Counter()
    for query, language in zip(data.query_ids, data.query_langs, strict=True):
        judged = data.qrels.get(query, {})
        answered = {language_of[passage] for passage, gain in judged.items() if gain > 0}
        counts.update((language, other) for other in answered)
    expected = sorted(data.languages if languages is None else languages)
    asked, answering = set(data.query_langs), set(data.passage_langs)
    return {
        "queries": len(data.query_ids),
        "passages": len(data.passage_ids),
        "clusters": len(set(data.cluster_names)),
        "pairs": [[*pair, count] for pair, count in sorted(counts.items())],
        "absent_languages": [language for language in expected if language not in asked],
        "absent_pairs": [
            list(pair) for pair in product(sorted(asked), sorted(answering)) if pair not in counts
        ],
        "rare_pairs": [list(pair) for pair, count in sorted(counts.items()) if count < FEW],
    }


def coverage_in_words(found: dict[str, Any]) -> list[str]:
    """Sentences on what a coverage lacks; none where every language and pair has 20 queries or more."""
    sentences = []
    if found["absent_languages"]:
        sentences.append(f"No query is in {_listed(found['absent_languages'])}.")
    if found["absent_pairs"]:
        pairs = _listed(["-".join(pair) for pair in found["absent_pairs"]])
        sentences.append(f"No query has a relevant passage in these language pairs: {pairs}.")
    if found["rare_pairs"]:
        counts = {(query, passage): count for query, passage, count in found["pairs"]}
        pairs = _listed([f"{'-'.join(pair)} ({counts[tuple(pair)]})" for pair in found["rare_pairs"]])
        sentences.append(
            f"Fewer than {FEW} queries are in these language pairs, which weigh as much in a mean as any other: "
            f"{pairs}."
        )
    return sentences


def meaning_of_ratio(pairs: PairSet) -> list[str]:
    """Sentences on what a higher ratio changes beside the kind of batches; none where it changes nothing else.

    That is so where a language has pairs of one kind alone: an arm of the other kind then never draws it, or never as
    queries or as passages.
    """
    languages = np.array(pairs.languages)
    same = pairs.query_langs == pairs.passage_langs
    monolingual = set(languages[np.unique(pairs.query_langs[same])].tolist())
    queries = set(languages[np.unique(pairs.query_langs[~same])].tolist())
    passages = set(languages[np.unique(pairs.passage_langs[~same])].tolist())
    sentences = []
    cross_only = sorted((queries | passages) - monolingual)
    if cross_only and monolingual:
        sentences.append(
            f"{_listed(cross_only)} {_have(cross_only)} no monolingual pairs: monolingual batches are in "
            f"{_listed(sorted(monolingual))} alone, so a higher ratio also means more of {_listed(cross_only)}, "
            "not only more cross-lingual batches."
        )
    elif cross_only:
        sentences.append("No language has monolingual pairs: every ratio but 1 is impossible.")
    mono_only = sorted(monolingual - queries - passages)
    if mono_only and (queries or passages):
        sentences.append(
            f"{_listed(mono_only)} {_have(mono_only)} no cross-lingual pairs: a higher ratio also means less of "
            f"{_listed(mono_only)}."
        )
    for role, one, other in (("queries", queries, passages), ("passages", passages, queries)):
        lacking = sorted((monolingual & other) - one)
        if lacking:
            sentences.append(
                f"{_listed(lacking)} {_have(lacking)} no cross-lingual pairs as {role}: at ratio 1 none of its "
                f"{role} are drawn."
            )
    return sentences


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return f"{shown} and {len(names) - _LISTED} more" if len(names) > _LISTED else shown
