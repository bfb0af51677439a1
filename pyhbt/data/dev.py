"""Parts of a dev set: a fixed sample for learning curves, and questions set apart for steering. By a stable hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pyhbt.arguments import check_at_least
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import stable_draw


def sampled(data: RetrievalSet, questions: int, passages_per_language: int) -> RetrievalSet:
    """A smaller set that is cheap to score often, the same in every process.

    Whole clusters of questions in the order of a hash, as long as they are no more than ``questions`` together, but at
    least one; all passages relevant to them; and of the other passages of each language those first by the hash, up to
    ``passages_per_language`` with the relevant ones. ``data`` itself where that is all of it. O(n log n).

    Raises:
        ValueError: a number below 1.
    """
    check_at_least("questions", questions, 1)
    check_at_least("passages_per_language", passages_per_language, 1)
    members: dict[str, set[str]] = {}
    for question, cluster in zip(data.questions, data.cluster_names, strict=True):
        members.setdefault(cluster, set()).add(question)
    kept: set[str] = set()
    count = 0
    for cluster in sorted(members, key=lambda name: (stable_draw("sample", name), name)):
        if not kept or count + len(members[cluster]) <= questions:
            kept.add(cluster)
            count += len(members[cluster])
    part = _with_queries(data, kept.__contains__)
    relevant = {passage for judged in part.qrels.values() for passage, gain in judged.items() if gain > 0}
    order = sorted(
        range(len(data.passage_ids)),
        key=lambda place: (
            data.passage_ids[place] not in relevant,
            stable_draw("sample", data.passage_ids[place]),
        ),
    )
    taken: dict[str, int] = {}
    places = []
    for place in order:
        language = data.passage_langs[place]
        if data.passage_ids[place] in relevant or taken.get(language, 0) < passages_per_language:
            taken[language] = taken.get(language, 0) + 1
            places.append(place)
    if len(places) == len(data.passage_ids) and len(part.query_ids) == len(data.query_ids):
        return data
    places.sort()
    passages = {data.passage_ids[place] for place in places}
    return replace(
        part,
        passage_ids=tuple(data.passage_ids[place] for place in places),
        passage_texts=tuple(data.passage_texts[place] for place in places),
        passage_langs=tuple(data.passage_langs[place] for place in places),
        qrels={
            query: {passage: gain for passage, gain in judged.items() if passage in passages}
            for query, judged in part.qrels.items()
        },
    )


def split_questions(data: RetrievalSet, share: float, salt: str) -> tuple[RetrievalSet, RetrievalSet]:
    """Two sets over the same corpus: ``share`` of the clusters of questions, by a hash with ``salt``, and the others.

    At least one cluster is in each; data with a single one are both sets. O(n log n).

    Raises:
        ValueError: a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share: found {share}, expected a number between 0 and 1")
    clusters = sorted(set(data.cluster_names), key=lambda name: (stable_draw(salt, name), name))
    if len(clusters) < 2:
        return data, data
    number = min(max(1, round(share * len(clusters))), len(clusters) - 1)
    first = set(clusters[:number])
    return (
        _with_queries(data, first.__contains__),
        _with_queries(data, lambda cluster: cluster not in first),
    )


def _with_queries(data: RetrievalSet, wanted: Callable[[str], bool]) -> RetrievalSet:
    """The set with the queries of some clusters alone."""
    places = [place for place, cluster in enumerate(data.cluster_names) if wanted(cluster)]
    ids = tuple(data.query_ids[place] for place in places)
    return replace(
        data,
        query_ids=ids,
        query_texts=tuple(data.query_texts[place] for place in places),
        query_langs=tuple(data.query_langs[place] for place in places),
        questions=tuple(data.questions[place] for place in places),
        clusters=tuple(data.clusters[place] for place in places) if data.clusters else (),
        qrels={query: data.qrels[query] for query in ids if query in data.qrels},
    )
