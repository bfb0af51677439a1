"""Embeddings -> per-query scores in the monolingual, cross-lingual and multilingual setting, and language bias.

Settings (LAReQA, arXiv 2004.05484; arXiv 2408.10536, section 4):

* monolingual: the corpus of the query's language;
* cross-lingual: the corpus of one other language, for every ordered pair of languages;
* multilingual: all languages in one pool;
* two-language, where a pivot is named: the passages of the query's language and of the pivot (arXiv 2604.05684).

Only queries with a relevant passage in the pool count. Means are macro means: over queries within a language or
language pair, then over languages or pairs. Cost: one pass counts ranks in the pool and in every language's corpus
(two where the passages of a language do not lie side by side), and one search of the pool: O(2 n m d) for n queries and
m passages of d dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyhbt.arguments import check_names, check_type
from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.encoders import EncoderLike, as_encoder
from pyhbt.encoders.means import LanguageMeans
from pyhbt.evaluation.centring import centre, centre_by
from pyhbt.evaluation.metrics import measure
from pyhbt.evaluation.multilingual import LanguageMeasures
from pyhbt.evaluation.names import (
    ALL_LANGUAGES,
    ALL_SETTINGS,
    DEFAULT_METRICS,
    SETTINGS,
    TEXT_CENTRING,
    Centring,
    Setting,
)
from pyhbt.evaluation.pools import AND, OnePass, Pool, PoolGroup, judgements_of, language_ends
from pyhbt.evaluation.result import Block, Evaluation
from pyhbt.ops.checks import Array


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
        TypeError: ``data`` is no retrieval set; names given as one string.
    """

    def __init__(
        self,
        data: RetrievalSet,
        *,
        metrics: Sequence[str] = DEFAULT_METRICS,
        settings: Sequence[Setting] = SETTINGS,
        pivot: str | None = None,
    ) -> None:
        check_type("data", data, RetrievalSet)
        check_names("metrics", metrics)
        check_names("settings", settings)
        for setting in settings:
            if setting not in SETTINGS:
                raise ValueError(f"settings: found {setting!r}, expected one of {', '.join(SETTINGS)}")
        self.data = data
        self._measures = {name: measure(name) for name in metrics}
        self._query_langs = np.asarray(data.query_langs)
        self._passage_langs = np.asarray(data.passage_langs)
        single, whole, double = self._pools(settings, pivot)
        self._single, self._whole, self._double = (
            PoolGroup(pools, data) if pools else None for pools in (single, whole, double)
        )
        self._by_language = LanguageMeasures(data, whole[0]) if whole else None
        ends = language_ends(self._passage_langs)
        self._one_pass = None
        if self._single is not None and whole and ends is not None:
            self._one_pass = OnePass(self._single, whole[0], ends)

    def _pools(
        self, settings: Sequence[Setting], pivot: str | None
    ) -> tuple[list[Pool], list[Pool], list[Pool]]:
        """The pools of one language, of all, and of two, that have queries."""
        known = sorted(set(self._passage_langs.tolist()))
        if pivot is not None and pivot not in known:
            raise ValueError(f"pivot: found {pivot!r}, expected a language of passages: {', '.join(known)}")
        judgements = judgements_of(self.data)
        single, whole, double = [], [], []
        for lang in known:
            passages, own = np.flatnonzero(self._passage_langs == lang), self._query_langs == lang
            wanted = ("monolingual" in settings) & own | ("cross-lingual" in settings) & ~own
            single.append(Pool.of(lang, passages, judgements, wanted))
            if pivot not in (None, lang):
                both = np.flatnonzero(np.isin(self._passage_langs, (lang, pivot)))
                double.append(Pool.of(f"{lang}{AND}{pivot}", both, judgements, own))
        if "multilingual" in settings:
            everything = np.arange(len(self.data.passage_ids))
            asking = np.ones(len(self.data.query_ids), dtype=bool)
            whole.append(Pool.of(ALL_LANGUAGES, everything, judgements, asking))
        single, whole, double = ([p for p in pools if len(p.queries)] for pools in (single, whole, double))
        return single, whole, double

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
            TypeError: neither tensors nor arrays.
        """
        data = self.data
        for name, array, texts in (
            ("queries", queries, data.query_texts),
            ("passages", passages, data.passage_texts),
        ):
            if not isinstance(array, (np.ndarray, Tensor)):
                raise TypeError(f"{name}: found {type(array).__name__}, expected a tensor or an array")
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
        blocks = list(self._score(queries, passages))
        order = {setting: place for place, setting in enumerate(ALL_SETTINGS)}
        blocks.sort(key=lambda block: (order[block.setting], block.query_lang, block.passage_lang))
        return Evaluation(data, centring, tuple(blocks))

    def _score(self, queries: Tensor, passages: Tensor) -> Iterator[Block]:
        """The blocks of every group of pools."""
        single: NDArray[np.int64] | None = None
        whole: NDArray[np.int64] | None = None
        if self._one_pass is not None:
            single, whole = self._one_pass.ranks(queries, passages)
        for group, found in ((self._single, single), (self._whole, whole), (self._double, None)):
            if group is not None:
                found = group.ranks(queries, passages) if found is None else found
                values = {name: score(found, group.gains) for name, score in self._measures.items()}
                if group is self._whole and self._by_language is not None:
                    values |= self._by_language.of(found, queries, passages)
                yield from group.blocks(values)


@overload
def evaluate(
    encoder: EncoderLike | tuple[Array, Array],
    data: RetrievalSet,
    /,
    *,
    metrics: Sequence[str] = ...,
    centring: Centring = ...,
    settings: Sequence[Setting] = ...,
) -> Evaluation: ...


@overload
def evaluate(
    queries: Array,
    passages: Array,
    data: RetrievalSet,
    *,
    metrics: Sequence[str] = ...,
    centring: Centring = ...,
    settings: Sequence[Setting] = ...,
) -> Evaluation: ...


def evaluate(
    *given: Any,
    metrics: Sequence[str] = DEFAULT_METRICS,
    centring: Centring = "none",
    settings: Sequence[Setting] = SETTINGS,
    **named: Any,
) -> Evaluation:
    """Score an encoder, or embeddings, on a retrieval set in every setting; see :class:`Evaluator`, used once.

    ``evaluate(encoder, data)`` encodes the set's texts; ``encoder`` may be a live ``SentenceTransformer``, or the pair
    of query (n, d) and passage (m, d) embeddings. ``evaluate(queries, passages, data)`` takes these one by one.
    Embeddings are float32 tensors or arrays, rows as in the set.

    Raises:
        ValueError: shapes that do not fit the set, an unknown metric, setting or centring.
        TypeError: something else in the place of encoder, embeddings or set; an argument missing.
    """
    values = dict(zip(("queries", "passages", "data"), given, strict=False))
    if len(given) == 2 and "passages" not in named and "data" not in named:
        values = {"encoder": given[0], "data": given[1]}
    twice = [name for name in named if name in values]
    if len(given) > 3 or twice:
        raise TypeError(
            f"evaluate: found {', '.join(twice) or f'{len(given)} arguments'}, expected each argument once"
        )
    values |= named
    if len(given) == 1 and values.keys() == {"queries", "data"}:
        values["encoder"] = values.pop("queries")
    if values.keys() not in ({"encoder", "data"}, {"queries", "passages", "data"}):
        raise TypeError(
            f"evaluate: found {', '.join(values) or 'no arguments'}, "
            "expected encoder and data, or queries, passages and data"
        )
    evaluator = Evaluator(values["data"], metrics=metrics, settings=settings)
    if "encoder" not in values:
        queries, passages = values["queries"], values["passages"]
    elif isinstance(values["encoder"], (tuple, list)) and len(values["encoder"]) == 2:
        queries, passages = values["encoder"]
    else:
        queries, passages = encode_set(values["encoder"], evaluator.data)
    return evaluator.evaluate(queries, passages, centring=centring)
