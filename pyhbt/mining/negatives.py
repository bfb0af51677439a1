"""Hard negatives: for every training pair, passages that score high and do not answer.

Shapes: vectors of queries (num_queries, dim) and passages (num_passages, dim); out come pairs with ``negatives``.
Cost: one exact search for each distinct query and language pool, in blocks of pairs; each distinct text is encoded
once. Memory O(texts dim + pairs num_negatives + block (depth + answers of a query)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from scipy import sparse
from tqdm import tqdm

from pyhbt.data.pairs import check_jsonl_target, write_pairs
from pyhbt.encoders import EncoderLike, as_encoder
from pyhbt.mining.candidates import Candidates
from pyhbt.mining.rules import MiningRules
from pyhbt.ops import checks
from pyhbt.ops.filters import SearchFilter
from pyhbt.ops.search_checks import Similarity, check_vectors
from pyhbt.retrieval.index import ExactIndex

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from pyhbt.data import PairSet, Passage
    from pyhbt.ops.checks import Array

Vectors: TypeAlias = "tuple[Array, Array]"

_BLOCK_PAIRS = 1024
_FOUND_AT_ONCE = 1 << 22  # results of a search, 12 bytes each


@dataclass(frozen=True)
class MiningStatistics:
    """What was found, and what each rule turned away among the ranks looked at."""

    pairs: int
    passages: int
    """Distinct ones that could be found."""
    searches: int
    """Distinct queries and pools."""
    mined: int
    """New negatives, over all pairs."""
    kept: int
    """Negatives that the pairs had."""
    complete: int
    """Pairs with as many as asked for."""
    empty: int
    """Pairs with none."""
    answers: int
    """Passages turned away, and negatives dropped, because they answer: of the pair's group, its query's or its
    question's."""
    too_high: int
    """Passages of the window above share or margin."""
    repeated: int
    """Passages that were a negative of the pair already."""

    def describe(self) -> str:
        """The counts in words, for people."""
        short = self.pairs - self.complete - self.empty
        return (
            f"{self.searches:,} searches of {self.passages:,} passages: {self.mined:,} negatives for {self.pairs:,} "
            f"pairs, {self.kept:,} kept\n"
            f"pairs with all negatives {self.complete:,}, with fewer {short:,}, with none {self.empty:,}\n"
            f"turned away: {self.answers:,} that answer, {self.too_high:,} that score too high, {self.repeated:,} that "
            "are negatives already"
        )


class Mined(NamedTuple):
    """Pairs with their negatives, and how it went."""

    pairs: PairSet
    statistics: MiningStatistics


def mine_negatives(
    source: EncoderLike | Vectors,
    pairs: PairSet,
    rules: MiningRules | None = None,
    *,
    corpus: Sequence[Passage] = (),
    similarity: Similarity = "dot",
    batch_size: int | None = None,
    progress: bool = False,
) -> Mined:
    """Pairs with hard negatives, best first; ties by language, then by position in the pairs and the corpus.

    A passage answers, and is never a negative, if it is in the group of any pair of the same query or question; where a
    pair has such a negative, it goes. What answers by way of other pairs is left out by training
    (:attr:`pyhbt.data.PairSet.answer_groups`). Texts that differ only in case, white space or Unicode compatibility
    forms are one passage, in all languages of its texts.
    Texts known only as negatives have no language: they are found where the pool is "any".

    Args:
        source: an encoder, a live ``SentenceTransformer``, or vectors of ``pairs.queries`` and of ``pairs.passages``
            followed by the corpus: (num_queries, dim) and (num_passages, dim), of dtypes that
            :func:`pyhbt.search` takes.
        pairs: at least one.
        rules: default: 7 negatives of the passage's language from the first 100 ranks, below 95 % of the positive.
        corpus: more passages to be found.
        similarity: "dot" or "cosine"; the same for the unit vectors of encoders.
        batch_size: texts encoded at a time.
        progress: show bars.

    Returns:
        The pairs in their order, with fewer negatives than asked for where there are no more.

    Raises:
        ValueError: no pairs, vectors that do not fit or are not finite.
        TypeError: vectors of another dtype.
    """
    rules = rules or MiningRules()
    if len(pairs) == 0:
        raise ValueError("pairs: found none, expected at least one")
    found = Candidates(pairs, corpus, rules.pool)
    queries, passages = _vectors(source, pairs, found, batch_size, progress)
    miner = _Miner(pairs, found, rules, queries, passages, similarity)
    order = np.argsort(miner.tasks, kind="stable")
    with tqdm(total=len(pairs), desc="mining", unit="pair", disable=not progress) as bar:
        for start in range(0, len(pairs), _BLOCK_PAIRS):
            block = order[start : start + _BLOCK_PAIRS]
            miner.mine(block)
            bar.update(len(block))
    return miner.result()


def mine_to_file(
    source: EncoderLike | Vectors,
    pairs: PairSet,
    out: str | os.PathLike[str],
    rules: MiningRules | None = None,
    **options: Any,
) -> MiningStatistics:
    """:func:`mine_negatives`, and :func:`pyhbt.data.write_pairs` of the result to ``out``.

    Args:
        source: as for :func:`mine_negatives`, like ``pairs``, ``rules`` and ``options``.
        out: a file named ``.jsonl``, written whole or not at all.

    Raises:
        ValueError: ``out`` is not named ``.jsonl``; and as :func:`mine_negatives` does.
        OSError: the file cannot be written.
    """
    check_jsonl_target(out)
    mined = mine_negatives(source, pairs, rules, **options)
    write_pairs(out, mined.pairs)
    return mined.statistics


class _Miner:
    """Chooses the negatives of one block of pairs after another, and counts."""

    def __init__(
        self,
        pairs: PairSet,
        candidates: Candidates,
        rules: MiningRules,
        queries: torch.Tensor,
        passages: torch.Tensor,
        similarity: Similarity,
    ) -> None:
        self.pairs, self.candidates, self.rules, self.similarity = pairs, candidates, rules, similarity
        self.queries, self.passages = queries, passages
        num_rows, num_groups = len(candidates), len(pairs.group_names)
        self._index = ExactIndex(passages[:num_rows], similarity=similarity) if num_rows else None
        self._pools = None if rules.pool == "any" else candidates.pools(rules.pool)
        pool_of_pair = pairs.passage_langs if rules.pool == "passage" else pairs.query_langs
        self.tasks: NDArray[np.int64] = pairs.query_index + (
            0 if self._pools is None else pool_of_pair * len(pairs.queries)
        )
        rows = candidates.row_of_text[pairs.passage_index]
        known = rows >= 0
        self._rows_of_group = _relation(pairs.groups[known], rows[known], (num_groups, num_rows))
        self._groups_of_query = _relation(pairs.query_index, pairs.groups, (len(pairs.queries), num_groups))
        num_questions = int(pairs.questions.max()) + 1
        self._groups_of_question = _relation(pairs.questions, pairs.groups, (num_questions, num_groups))
        self._negatives: dict[int, list[int]] = {}
        self._answers = self._too_high = self._repeated = self._mined = self._kept = 0

    def mine(self, block: NDArray[np.int64]) -> None:
        """The negatives of the pairs at positions ``block``."""
        answers = self._answers_of(block)
        k = min(len(self.candidates), self.rules.depth + int(np.diff(answers.indptr).max()))
        if len(block) > 1 and len(block) * k > _FOUND_AT_ONCE:
            for half in np.array_split(block, 2):
                self.mine(half)
            return
        scores, found = self._search(block, k)
        numbers = np.arange(len(block))[:, None] * len(self.candidates)
        owners = np.repeat(numbers, np.diff(answers.indptr))
        answering = np.isin(numbers + found, owners + answers.indices)
        free = (found >= 0) & ~answering
        rank = np.cumsum(free, axis=1)
        window = free & (rank > self.rules.skip_top) & (rank <= self.rules.depth)
        low = scores <= self.rules.limits(self._positive_scores(block))[:, None]
        self._answers += int(((found >= 0) & answering & (rank < self.rules.depth)).sum())
        self._too_high += int((window & ~low).sum())
        of_pair = np.split(answers.indices, answers.indptr[1:-1])
        for pair, rows, fit, own in zip(block.tolist(), found, window & low, of_pair, strict=True):
            self._choose(pair, rows[fit], own)

    def result(self) -> Mined:
        """All pairs with what was chosen; of the corpus only the passages that are negatives are taken over."""
        pairs, wanted = self.pairs, self.rules.num_negatives
        added: dict[int, int] = {}
        base = len(pairs.passages)
        negatives = {
            pair: tuple(
                text if text < base else base + added.setdefault(text, len(added))
                for text in self._negatives[pair]
            )
            for pair in sorted(self._negatives)
        }
        passages = (*pairs.passages, *(self.candidates.texts[text] for text in added))
        statistics = MiningStatistics(
            pairs=len(pairs),
            passages=len(self.candidates),
            searches=len(np.unique(self.tasks)),
            mined=self._mined,
            kept=self._kept,
            complete=sum(len(texts) >= wanted for texts in negatives.values()),
            empty=len(pairs) - len(negatives),
            answers=self._answers,
            too_high=self._too_high,
            repeated=self._repeated,
        )
        return Mined(replace(pairs, passages=passages, negatives=negatives), statistics)

    def _answers_of(self, block: NDArray[np.int64]) -> sparse.csr_array[Any, tuple[int, int]]:
        """Which candidates answer each pair (block, n): those of every group of its query and its question."""
        by_query = self._groups_of_query[self.pairs.query_index[block]]
        by_question = self._groups_of_question[self.pairs.questions[block]]
        return sparse.csr_array((by_query + by_question) @ self._rows_of_group)

    def _search(self, block: NDArray[np.int64], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows (block, k) of the best candidates in each pair's pool; every task is searched once."""
        if self._index is None:
            return np.empty((len(block), 0), np.float32), np.empty((len(block), 0), np.int64)
        tasks, where = np.unique(self.tasks[block], return_inverse=True)
        pool, query = np.divmod(tasks, len(self.pairs.queries))
        filter = None
        if self._pools is not None:
            filter = SearchFilter(
                passage_partitions=self.candidates.language_sets, query_partitions=self._pools[pool]
            )
        scores, found = self._index.search(self.queries[torch.from_numpy(query)], k, filter=filter)
        return scores.numpy()[where], found.numpy()[where]

    def _positive_scores(self, block: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of the pairs' own passages, in float64 and rounded as those of a search are."""
        places = self.candidates.place_of_text[self.pairs.passage_index[block]]
        first = self.queries[torch.from_numpy(self.pairs.query_index[block])].double()
        second = self.passages[torch.from_numpy(places)].double()
        scores = (first * second).sum(dim=1)
        if self.similarity == "cosine":
            norms = first.norm(dim=1) * second.norm(dim=1)
            scores = torch.where(norms > 0, scores / norms, 0.0)
        return scores.float().numpy()

    def _choose(self, pair: int, rows: NDArray[np.int64], answers: NDArray[np.integer[Any]]) -> None:
        """Negatives of one pair: those it has that do not answer, and rows of its window that fit, best first."""
        rules, row_of_text = self.rules, self.candidates.row_of_text
        had = self.pairs.negatives.get(pair, ()) if rules.existing == "keep" else ()
        kept = [text for text in had if row_of_text[text] not in answers]
        self._answers += len(had) - len(kept)
        if kept:
            fresh = ~np.isin(rows, row_of_text[kept])
            self._repeated += int((~fresh).sum())
            rows = rows[fresh]
        wanted = max(0, rules.num_negatives - len(kept))
        if rules.draw == "random" and len(rows) > wanted:
            rng = np.random.default_rng((rules.seed, pair))
            rows = rows[np.sort(rng.choice(len(rows), wanted, replace=False))]
        chosen = self.candidates.positions[rows[:wanted]].tolist()
        self._mined += len(chosen)
        self._kept += len(kept)
        if kept or chosen:
            self._negatives[pair] = kept + chosen


def _vectors(
    source: EncoderLike | Vectors,
    pairs: PairSet,
    candidates: Candidates,
    batch_size: int | None,
    progress: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of the queries, and of the passages in the order of ``candidates.layout``."""
    if not isinstance(source, (tuple, list)):
        encoder = as_encoder(source)
        needed = [candidates.texts[text] for text in candidates.layout]
        return (
            encoder.encode(pairs.queries, "query", batch_size=batch_size, progress=progress),
            encoder.encode(needed, "passage", batch_size=batch_size, progress=progress),
        )
    queries, passages = (
        checks.as_tensor(given, name).detach().cpu()
        for given, name in zip(source, ("queries", "passages"), strict=True)
    )
    counts = {"queries": (queries, len(pairs.queries)), "passages": (passages, len(candidates.texts))}
    for name, (vectors, count) in counts.items():
        check_vectors(vectors, name)
        if len(vectors) != count:
            raise ValueError(f"{name}: found {len(vectors)} vectors, expected {count} (one for each text)")
        checks.check_finite(vectors, name)
    checks.check_same_dim(passages, "passages", queries, "queries")
    return queries, passages[torch.from_numpy(candidates.layout)]


def _relation(
    rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> sparse.csr_array[Any, tuple[int, int]]:
    """Which rows go with which columns, as counts."""
    return sparse.csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape)
