"""What a training adds to its pairs when they are drawn: parallel texts, code-switched words.

Draws are a function of a random generator that the caller seeds by step, so that a resumed training repeats them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pyhbt.arguments import check_at_least
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.training.code_switching import CodeSwitching


class Augmentation:
    """Turns positions of ``pairs`` into training examples.

    Args:
        pairs: the training pairs.
        parallel_queries: give each pair the query in another language, drawn uniformly, where the question has any.
        parallel_passages: give each pair up to so many of the question's passages in other languages, drawn
            without replacement.
        code_switching: replaces words of queries and passages, also of parallel ones.

    Cost: O(pairs log pairs) once, where parallel texts are wanted; O(text) an example.

    Raises:
        ValueError: ``parallel_passages`` below 0, or parallel texts wanted and no question has any.
    """

    def __init__(
        self,
        pairs: PairSet,
        *,
        parallel_queries: bool = False,
        parallel_passages: int = 0,
        code_switching: CodeSwitching | None = None,
    ) -> None:
        check_at_least("parallel_passages", parallel_passages, 0)
        self.pairs = pairs
        self.parallel_passages = parallel_passages
        self.code_switching = code_switching
        self._queries = self._passages = None
        if parallel_queries:
            self._queries = _TextsOfQuestions(pairs.questions, pairs.query_langs, pairs.query_index)
            self._queries.check("parallel_queries")
        if parallel_passages:
            self._passages = _TextsOfQuestions(pairs.questions, pairs.passage_langs, pairs.passage_index)
            self._passages.check("parallel_passages")

    def example(self, row: int, rng: np.random.Generator) -> Pair:
        """The pair at ``row`` with what this adds to it."""
        pairs, pair = self.pairs, self.pairs[row]
        question = int(pairs.questions[row])
        queries = self._queries.drawn(question, int(pairs.query_langs[row]), 1, rng) if self._queries else []
        passages = []
        if self._passages:
            passages = self._passages.drawn(
                question, int(pairs.passage_langs[row]), self.parallel_passages, rng
            )
        if not queries and not passages and self.code_switching is None:
            return pair

        def switched(text: str, lang: str) -> str:
            return text if self.code_switching is None else self.code_switching(text, lang, rng)

        return replace(
            pair,
            query=switched(pair.query, pair.query_lang),
            passage=switched(pair.passage, pair.passage_lang),
            parallel_query=next(
                (switched(pairs.queries[text], pairs.languages[lang]) for text, lang in queries), None
            ),
            parallel_passages=tuple(
                switched(pairs.passages[text], pairs.languages[lang]) for text, lang in passages
            ),
        )


class _TextsOfQuestions:
    """Distinct (language, text) of every question."""

    def __init__(
        self, questions: NDArray[np.int64], langs: NDArray[np.int64], texts: NDArray[np.int64]
    ) -> None:
        table = np.unique(np.stack([questions, langs, texts], axis=1), axis=0)
        self._questions, self._langs, self._texts = np.ascontiguousarray(table.T)
        self._starts = np.searchsorted(table[:, 0], np.arange(questions.max(initial=-1) + 2))

    def check(self, name: str) -> None:
        """Refuse pairs without parallel texts; ``name`` is the argument that wants them.

        Raises:
            ValueError: no question has texts in two languages.
        """
        neighbours = (self._questions[1:] == self._questions[:-1]) & (self._langs[1:] != self._langs[:-1])
        if not neighbours.any():
            raise ValueError(
                f"{name}: wanted, but no question of the pairs is known in two languages (see Pair.question)"
            )

    def drawn(self, question: int, lang: int, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Up to ``count`` (text, language) of a question in languages other than ``lang``."""
        here = np.arange(self._starts[question], self._starts[question + 1])
        here = here[self._langs[here] != lang]
        chosen = rng.permutation(here)[:count]
        return [(int(self._texts[place]), int(self._langs[place])) for place in chosen]
