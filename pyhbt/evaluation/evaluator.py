"""Embeddings -> per-query scores in the monolingual, cross-lingual and multilingual setting, and language bias.

Settings (LAReQA, arXiv 2004.05484; arXiv 2408.10536, section 4):

* monolingual: the corpus of the query's language;
* cross-lingual: the corpus of one other language, for every ordered pair of languages;
* multilingual: all languages in one pool;
* two-language, where a pivot is named: the passages of the query's language and of the pivot (arXiv 2604.05684).

Only queries with a relevant passage in the pool count. Means are macro means: over queries within a language or
language pair, then over languages or pairs. Cost: one exact rank count of every query in every language's corpus
and in the pool, and one search of the pool, O(3 n m d) for n queries and m passages of d dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.data.tiers import Tier, scarcer
from pyhbt.encoders import EncoderLike, as_encoder
from pyhbt.encoders.means import LanguageMeans
from pyhbt.evaluation.bias import max_rank, mean_rank_correlation, peer, peer_depends_on_ranks, rank_distance
from pyhbt.evaluation.centring import centre, centre_by
from pyhbt.evaluation.metrics import measure
from pyhbt.evaluation.names import (
    ALL_LANGUAGES,
    ALL_SETTINGS,
    ALL_TIERS,
    DEFAULT_METRICS,
    FIRST_PLACES,
    FIRST_RELEVANT,
    GRADED_CUTOFF,
    GRADED_NDCG,
    MAX_RANK,
    PEER,
    PEER_CUTOFF,
    RANK_CORRELATION,
    RANK_CORRELATION_CUTOFF,
    RANK_DISTANCE,
    RANK_SHIFT,
    SETTINGS,
    TEXT_CENTRING,
    TOP_1_SAME_LANGUAGE,
    TWO_LANGUAGE,
    Centring,
    Setting,
)
from pyhbt.evaluation.preference import (
    first_places,
    first_relevant_in_own_language,
    language_graded_ndcg,
    rank_shift,
)
from pyhbt.ops import ranks as exact_ranks
from pyhbt.ops import search
from pyhbt.ops.checks import Array

_AND = "+"  # between the two languages of a pool


@dataclass(frozen=True)
class Block:
    """Scores of the queries of one language against one pool.

    ``passage_lang`` is ``"*"`` in the multilingual setting, ``L+PIVOT`` in that of two languages. ``queries`` int64
    (b,) are positions in the retrieval set, ``values[metric]`` float64 (b,) their scores, NaN where a measure is
    undefined for a query; ``means[metric]`` is the mean over the others, NaN if there are none.
    """

    setting: Setting
    query_lang: str
    passage_lang: str
    tier: Tier
    queries: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    means: Mapping[str, float]


@dataclass(frozen=True)
class MeanScore:
    """One mean: of a block, or (``query_lang == passage_lang == "*"``) a macro mean over the blocks of a tier."""

    setting: Setting
    query_lang: str
    passage_lang: str
    tier: str
    metric: str
    value: float


@dataclass(frozen=True)
class Evaluation:
    """Per-query scores of one encoder on one retrieval set, by language pair."""

    data: RetrievalSet
    centring: Centring
    blocks: tuple[Block, ...]

    def macro(self, setting: Setting, metric: str, tier: str = "all") -> float:
        """Macro mean over the languages or language pairs of a tier; NaN if it has none."""
        means = [
            block.means[metric]
            for block in self.blocks
            if block.setting == setting and tier in ("all", block.tier) and metric in block.means
        ]
        return _mean_of_defined(np.array(means))

    def macro_means(self) -> Iterator[MeanScore]:
        """Macro means of every setting, tier and metric that the data has."""
        for setting in ALL_SETTINGS:
            present = [block for block in self.blocks if block.setting == setting]
            tiers = np.array([block.tier for block in present])
            for metric in present[0].means if present else ():
                means = np.array([block.means[metric] for block in present])
                for tier in ALL_TIERS:
                    value = _mean_of_defined(means if tier == "all" else means[tiers == tier])
                    if not np.isnan(value):
                        yield MeanScore(setting, ALL_LANGUAGES, ALL_LANGUAGES, tier, metric, value)

    def pair_means(self, metrics: Sequence[str] | None = None) -> Iterator[MeanScore]:
        """Mean of every language or language pair, for the metrics named or all."""
        for block in self.blocks:
            for metric, value in block.means.items():
                if (metrics is None or metric in metrics) and not np.isnan(value):
                    yield MeanScore(
                        block.setting, block.query_lang, block.passage_lang, block.tier, metric, value
                    )

    def influences(
        self, metrics: Sequence[str] | None = None
    ) -> tuple[tuple[str, ...], dict[str, NDArray[np.float64]]]:
        """How much each cluster of queries moves each macro mean: what intervals and tests over queries are made of.

        With B blocks, of which block b has the mean m_b over its n_b queries that the measure is defined for, a cluster
        c has the influence z_c = sum over b and over its queries q in b of (score_q - m_b) / (B n_b): the macro mean,
        a sum of ratios, linearised (Taylor series under cluster sampling: Wolter 2007, doi:10.1007/978-0-387-35099-8,
        chapter 6). They sum to 0, and those of two encoders on the same data differ by the influences on the
        difference of their macro means.

        Returns:
            The clusters (c,) and, for each ``"setting/tier/metric"`` that has a macro mean, float64 (c,). O(scores).
        """
        names = self.data.cluster_names
        clusters = tuple(dict.fromkeys(names))
        number = {cluster: index for index, cluster in enumerate(clusters)}
        of_query = np.array([number[name] for name in names], dtype=np.int64)
        found: dict[str, NDArray[np.float64]] = {}
        for setting in dict.fromkeys(block.setting for block in self.blocks):
            for tier in ALL_TIERS:
                chosen = [b for b in self.blocks if b.setting == setting and tier in ("all", b.tier)]
                wanted = chosen[0].values if chosen and metrics is None else metrics or ()
                for metric in wanted if chosen else ():
                    defined = [block for block in chosen if not np.isnan(block.means[metric])]
                    if defined:
                        sums = np.zeros(len(clusters))
                        for block in defined:
                            known = ~np.isnan(block.values[metric])
                            moved = (block.values[metric][known] - block.means[metric]) / known.sum()
                            units = of_query[block.queries[known]]
                            sums += np.bincount(units, weights=moved, minlength=len(clusters))
                        found[f"{setting}/{tier}/{metric}"] = sums / len(defined)
        return clusters, found


def encode_set(
    encoder: EncoderLike,
    data: RetrievalSet,
    *,
    language_means: bool = False,
    batch_size: int | None = None,
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """Unit vectors of the set's queries (n, d) and passages (m, d), float32 on the CPU.

    Args:
        encoder: or a live ``SentenceTransformer``.
        data: the set.
        language_means: subtract the means that the encoder carries.

    Raises:
        ValueError: ``language_means``, and the encoder lacks one of them.
    """
    encoder = as_encoder(encoder)
    query_langs = data.query_langs if language_means else None
    passage_langs = data.passage_langs if language_means else None
    options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    queries = encoder.encode(data.query_texts, "query", language=query_langs, **options)
    passages = encoder.encode(data.passage_texts, "passage", language=passage_langs, **options)
    return queries, passages


class Evaluator:
    """Scores embeddings of one retrieval set; what does not depend on the embeddings is prepared once.

    Args:
        data: the retrieval set.
        metrics: names that :func:`pyhbt.evaluation.metrics.measure` knows. The multilingual setting adds those of
            language bias: ``"rank distance"``, ``"Max@R"``, ``"top-1 in query language"``, ``"MRC@10"`` and
            ``"PEER@100"`` (NaN where every order of the relevant passages scores the same).
        settings: those wanted.
        pivot: the second language of pools of two; None: no such pools.

    Raises:
        ValueError: an unknown metric or setting, or a pivot without passages.
    """

    def __init__(
        self,
        data: RetrievalSet,
        *,
        metrics: Sequence[str] = DEFAULT_METRICS,
        settings: Sequence[Setting] = SETTINGS,
        pivot: str | None = None,
    ) -> None:
        for setting in settings:
            if setting not in SETTINGS:
                raise ValueError(f"settings: found {setting!r}, expected one of {', '.join(SETTINGS)}")
        self.data = data
        self._measures = {name: measure(name) for name in metrics}
        self._query_langs = np.asarray(data.query_langs)
        self._passage_langs = np.asarray(data.passage_langs)
        coded, self._lang_codes = np.unique(self._passage_langs, return_inverse=True)
        places = np.minimum(np.searchsorted(coded, self._query_langs), max(len(coded) - 1, 0))
        self._own_codes = np.where(coded[places] == self._query_langs, places, -1)  # -1: no passage has it
        self._query_codes = np.unique(self._query_langs, return_inverse=True)[1]
        self._questions = np.unique(np.asarray(data.questions), return_inverse=True)[1]
        judgements = _judgements(data)
        self._pools = []
        for lang in sorted(set(data.passage_langs)):
            pool = np.flatnonzero(self._passage_langs == lang)
            own = self._query_langs == lang
            wanted = ("monolingual" in settings) & own | ("cross-lingual" in settings) & ~own
            self._pools.append(_Pool.of(lang, pool, judgements, wanted))
        if "multilingual" in settings:
            everything = np.arange(len(data.passage_ids))
            whole = _Pool.of(ALL_LANGUAGES, everything, judgements, np.ones(len(data.query_ids), dtype=bool))
            self._pools.append(whole)
            self._target_langs = self._lang_codes[whole.targets]
            self._peer_tells = peer_depends_on_ranks(whole.gains, self._target_langs)
        if pivot is not None:
            self._pools += self._pools_of_two(pivot, judgements)

    def _pools_of_two(self, pivot: str, judgements: NDArray[np.int64]) -> Iterator[_Pool]:
        """For each query language but the pivot, the passages of both."""
        known = sorted(set(self._passage_langs.tolist()))
        if pivot not in known:
            raise ValueError(f"pivot: found {pivot!r}, expected a language of passages: {', '.join(known)}")
        for lang in known:
            if lang != pivot:
                pool = np.flatnonzero(np.isin(self._passage_langs, (lang, pivot)))
                yield _Pool.of(f"{lang}{_AND}{pivot}", pool, judgements, self._query_langs == lang)

    def evaluate(
        self,
        queries: Array,
        passages: Array,
        *,
        centring: Centring = "none",
        means: LanguageMeans | None = None,
    ) -> Evaluation:
        """Scores of query embeddings (n, d) and passage embeddings (m, d), float32, rows as in the set.

        Tensors on the CPU or arrays. ``means`` are those of other text, for the centring "text".

        Raises:
            ValueError: shapes that do not fit the set, an unknown centring, or "text" without means.
        """
        data = self.data
        for name, array, texts in (
            ("queries", queries, data.query_texts),
            ("passages", passages, data.passage_texts),
        ):
            if array.ndim != 2 or len(array) != len(texts):
                raise ValueError(f"{name}: shape {tuple(array.shape)}, expected ({len(texts)}, dim)")
        if centring == TEXT_CENTRING:
            if means is None:
                raise ValueError("means: found None, expected those of other text with the centring 'text'")
            queries = centre_by(queries, "query", data.query_langs, means)
            passages = centre_by(passages, "passage", data.passage_langs, means)
        else:
            queries, passages = centre(
                queries, passages, data.query_langs, data.questions, data.passage_langs, centring
            )
        blocks = [block for pool in self._pools for block in self._score(pool, queries, passages)]
        order = {setting: place for place, setting in enumerate(ALL_SETTINGS)}
        blocks.sort(key=lambda block: (order[block.setting], block.query_lang, block.passage_lang))
        return Evaluation(data, centring, tuple(blocks))

    def _score(self, pool: _Pool, queries: Tensor, passages: Tensor) -> Iterator[Block]:
        asking = pool.queries
        asked, corpus = queries[torch.from_numpy(asking)], passages[torch.from_numpy(pool.passages)]
        found: NDArray[np.int64] = exact_ranks(asked, corpus, torch.from_numpy(pool.targets)).numpy()
        values = {name: score(found, pool.gains) for name, score in self._measures.items()}
        if pool.lang == ALL_LANGUAGES and len(asking):
            values |= self._bias(pool, found, search(asked, corpus, self._depth)[1].numpy())
        tiers = self.data.tiers
        langs, code, counts = np.unique(self._query_langs[asking], return_inverse=True, return_counts=True)
        means = {name: _means_by(code, value, len(langs)) for name, value in values.items()}
        by_lang = np.argsort(code, kind="stable")  # slices of sorted arrays are views: blocks cost no copies
        asking, values = asking[by_lang], {name: value[by_lang] for name, value in values.items()}
        for number, (query_lang, end) in enumerate(zip(map(str, langs), np.cumsum(counts), strict=True)):
            here = slice(end - counts[number], end)
            setting = _setting_of(pool.lang, query_lang)
            tier = tiers[query_lang]
            for lang in pool.lang.split(_AND) if setting != "multilingual" else ():
                tier = scarcer(tier, tiers[lang])
            yield Block(
                setting=setting,
                query_lang=query_lang,
                passage_lang=pool.lang,
                tier=tier,
                queries=asking[here],
                values={name: value[here] for name, value in values.items()},
                means={name: float(mean[number]) for name, mean in means.items()},
            )

    @property
    def _depth(self) -> int:
        """How many first passages of the multilingual pool the measures of bias need."""
        return min(RANK_CORRELATION_CUTOFF, len(self._passage_langs))

    def _bias(
        self, pool: _Pool, found: NDArray[np.int64], first: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float64]]:
        """Measures of language bias from the ranks ``found`` and the passages ranked ``first`` (queries, depth)."""
        langs, asking = self._target_langs, pool.queries
        same = (self._passage_langs[first[:, 0]] == self._query_langs[asking]).astype(np.float64)
        answerable = np.isin(self._query_langs[asking], self._passage_langs)
        same[~answerable] = np.nan  # no passage could be
        own = self._own_codes[asking]
        places = first_places(found, self._lang_codes[first[:, 0]], own, answerable)
        fairness = np.full(len(found), np.nan)
        tells = self._peer_tells
        fairness[tells] = peer(found[tells], pool.gains[tells], langs[tells], PEER_CUTOFF)
        return {
            RANK_DISTANCE: rank_distance(found, langs),
            MAX_RANK: max_rank(found, langs),
            TOP_1_SAME_LANGUAGE: same,
            RANK_CORRELATION: mean_rank_correlation(
                first, self._questions[asking], self._query_codes[asking]
            ),
            PEER: fairness,
            FIRST_RELEVANT: first_relevant_in_own_language(found, langs, own),
            RANK_SHIFT: rank_shift(found, langs, own),
            GRADED_NDCG: language_graded_ndcg(found, pool.gains, langs, own, GRADED_CUTOFF),
            **dict(zip(FIRST_PLACES, places, strict=True)),
        }


def _setting_of(pool_lang: str, query_lang: str) -> Setting:
    if pool_lang == ALL_LANGUAGES:
        return "multilingual"
    if _AND in pool_lang:
        return TWO_LANGUAGE
    return "monolingual" if pool_lang == query_lang else "cross-lingual"


def _means_by(code: NDArray[np.int64], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Mean of the values of each code that are not NaN, float64 (size,); NaN for a code without any."""
    defined = ~np.isnan(values)
    sums = np.bincount(code[defined], weights=values[defined], minlength=size)
    counts = np.bincount(code[defined], minlength=size)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
    return means


def _mean_of_defined(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def evaluate(
    queries: Array,
    passages: Array,
    data: RetrievalSet,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    centring: Centring = "none",
    settings: Sequence[Setting] = SETTINGS,
) -> Evaluation:
    """Score embeddings of a retrieval set in every setting; see :class:`Evaluator`, which this uses once."""
    return Evaluator(data, metrics=metrics, settings=settings).evaluate(queries, passages, centring=centring)


@dataclass(frozen=True)
class _Pool:
    """A corpus and the queries that have relevant passages in it.

    ``passages`` and ``queries`` are positions in the set; ``targets`` int64 (queries, t) are the relevant
    passages as positions in the pool, padded by -1; ``gains`` are their relevances.
    """

    lang: str
    passages: NDArray[np.int64]
    queries: NDArray[np.int64]
    targets: NDArray[np.int64]
    gains: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        lang: str,
        passages: NDArray[np.int64],
        judgements: NDArray[np.int64],
        wanted: NDArray[np.bool_],
    ) -> _Pool:
        """The pool ``passages`` for the queries ``wanted`` (one flag a query), from :func:`_judgements`."""
        query, passage, gain = judgements
        place = np.full(passage.max(initial=-1) + 1, -1, dtype=np.int64)
        inside = passages[passages < len(place)]
        place[inside] = np.flatnonzero(passages < len(place))
        chosen = (place[passage] >= 0) & wanted[query]
        queries, row, counts = np.unique(query[chosen], return_inverse=True, return_counts=True)
        column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(queries), int(counts.max(initial=0)))
        targets, gains = np.full(shape, -1, dtype=np.int64), np.zeros(shape)
        targets[row, column] = place[passage[chosen]]
        gains[row, column] = gain[chosen]
        return cls(lang, passages, queries, targets, gains)


def _judgements(data: RetrievalSet) -> NDArray[np.int64]:
    """Relevant (query, passage, relevance) by position, int64 (3, r), sorted by query."""
    query_place = {name: place for place, name in enumerate(data.query_ids)}
    passage_place = {name: place for place, name in enumerate(data.passage_ids)}
    rows = [
        (query_place[query], passage_place[passage], relevance)
        for query, passages in data.qrels.items()
        for passage, relevance in passages.items()
        if relevance > 0
    ]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return np.ascontiguousarray(table[np.lexsort((table[:, 1], table[:, 0]))].T)
