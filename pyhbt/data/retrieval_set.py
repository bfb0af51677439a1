"""Queries, a corpus and judgements to evaluate on, and what a study holds of both kinds of data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pyhbt.arguments import check_names, renamed_fields
from pyhbt.data.pair_set import PairSet
from pyhbt.data.tiers import TIERS, Tier

_NAMES = (
    "query_ids",
    "query_texts",
    "query_langs",
    "questions",
    "passage_ids",
    "passage_texts",
    "passage_langs",
    "clusters",
)


@renamed_fields(query_groups="questions")
@dataclass(frozen=True)
class RetrievalSet:
    """Queries, a corpus, relevance judgements, and the resource tier of every language.

    All ``query_*`` tuples and ``questions`` have one entry a query, all ``passage_*`` tuples one a passage.
    ``questions`` names what a query asks: its translations share it. ``clusters`` names what questions have in common
    that makes their scores depend on each other, such as their paragraph, for tests and intervals; empty: nothing. A
    question lies in one cluster. ``qrels`` maps query id -> passage id -> relevance (> 0 is relevant) over *all*
    languages of the corpus; the evaluation restricts it to the pool of each setting.
    """

    name: str
    query_ids: tuple[str, ...]
    query_texts: tuple[str, ...]
    query_langs: tuple[str, ...]
    questions: tuple[str, ...]
    passage_ids: tuple[str, ...]
    passage_texts: tuple[str, ...]
    passage_langs: tuple[str, ...]
    qrels: Mapping[str, Mapping[str, int]]
    tiers: Mapping[str, Tier]
    clusters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name: found {type(self.name).__name__}, expected a string")
        for column in _NAMES:
            check_names(column, getattr(self, column))
        for name in ("qrels", "tiers"):
            if not isinstance(getattr(self, name), Mapping):
                raise TypeError(f"{name}: found {type(getattr(self, name)).__name__}, expected a mapping")
        for side in ("query", "passage"):
            ids: tuple[str, ...] = getattr(self, f"{side}_ids")
            if len(set(ids)) != len(ids):
                raise ValueError(f"{side}_ids: {len(ids)} given, only {len(set(ids))} distinct")
            columns = [f"{side}_texts", f"{side}_langs", *(["questions"] if side == "query" else [])]
            for column in columns:
                found = len(getattr(self, column))
                if found != len(ids):
                    raise ValueError(f"{column}: {found} entries, expected {len(ids)}")
        if self.clusters:
            if len(self.clusters) != len(self.query_ids):
                raise ValueError(f"clusters: {len(self.clusters)} entries, expected {len(self.query_ids)}")
            cluster_of: dict[str, str] = {}
            for question, cluster in zip(self.questions, self.clusters, strict=True):
                if cluster_of.setdefault(question, cluster) != cluster:
                    raise ValueError(
                        f"clusters: found {cluster_of[question]!r} and {cluster!r} for question {question!r}, "
                        "expected one"
                    )
        unknown = self.qrels.keys() - set(self.query_ids)
        if unknown:
            raise ValueError(f"qrels: query {min(unknown)!r} is not among query_ids")
        known = set(self.passage_ids)
        for query, judged in self.qrels.items():
            if not isinstance(judged, Mapping):
                raise TypeError(
                    f"qrels: found {type(judged).__name__} for query {query!r}, expected a mapping"
                )
            for passage in judged:
                if passage not in known:
                    raise ValueError(
                        f"qrels: passage {passage!r} of query {query!r} is not among passage_ids"
                    )
        untiered = (set(self.query_langs) | set(self.passage_langs)) - self.tiers.keys()
        if untiered:
            raise ValueError(f"tiers: no tier for language {min(untiered)!r}")
        for language, tier in self.tiers.items():
            if tier not in TIERS:
                raise ValueError(
                    f"tiers: found {tier!r} for {language!r}, expected one of {', '.join(TIERS)}"
                )

    @property
    def cluster_names(self) -> tuple[str, ...]:
        """The cluster of each query: its question where none is given."""
        return self.clusters or self.questions

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of queries or passages, sorted."""
        return tuple(sorted(set(self.query_langs) | set(self.passage_langs)))

    def __repr__(self) -> str:
        return (
            f"RetrievalSet({self.name!r}, {len(self.query_ids):,} queries, "
            f"{len(self.passage_ids):,} passages, {len(self.languages)} languages: {' '.join(self.languages)})"
        )


def in_languages(data: RetrievalSet, languages: Collection[str], tiers: Mapping[str, Tier]) -> RetrievalSet:
    """The queries and passages in some languages, with ``tiers``; O(size of the set)."""
    asked = [place for place, lang in enumerate(data.query_langs) if lang in languages]
    kept = [place for place, lang in enumerate(data.passage_langs) if lang in languages]
    passages = {data.passage_ids[place] for place in kept}
    queries = [data.query_ids[place] for place in asked]
    return replace(
        data,
        query_ids=tuple(queries),
        query_texts=tuple(data.query_texts[place] for place in asked),
        query_langs=tuple(data.query_langs[place] for place in asked),
        questions=tuple(data.questions[place] for place in asked),
        clusters=tuple(data.clusters[place] for place in asked) if data.clusters else (),
        passage_ids=tuple(data.passage_ids[place] for place in kept),
        passage_texts=tuple(data.passage_texts[place] for place in kept),
        passage_langs=tuple(data.passage_langs[place] for place in kept),
        qrels={
            query: {passage: gain for passage, gain in data.qrels[query].items() if passage in passages}
            for query in queries
            if query in data.qrels
        },
        tiers=dict(tiers),
    )


def with_tiers(data: RetrievalSet, tiers: Mapping[str, Tier]) -> RetrievalSet:
    """The set with the tiers that its languages have in other data; a language that these lack is zero-shot."""
    return replace(data, tiers={language: tiers.get(language, "zero-shot") for language in data.languages})


@dataclass(frozen=True)
class StudyData:
    """What a ratio study needs: pairs to train on, a set for learning curves, a set for final figures."""

    name: str
    train: PairSet
    dev: RetrievalSet
    test: RetrievalSet
