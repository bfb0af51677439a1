"""The passages that may become negatives: distinct, with their languages, those of one language side by side.

Cost: O(total text), and O(pairs log pairs).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyhbt.mining.rules import Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyhbt.data import PairSet, Passage


class Candidates:
    """The distinct passages that may be found, those of one language side by side.

    ``texts`` are those of the pairs, then of the corpus. ``positions`` (n,) points into them, ``row_of_text`` back
    (-1: none). ``language_sets`` (n,) numbers the languages that a passage occurs in, as listed in ``sets``.
    ``layout`` is ``positions`` and then the positives that another text stands for: all texts that need a vector.
    """

    def __init__(self, pairs: PairSet, corpus: Sequence[Passage], pool: Pool) -> None:
        self.texts = (*pairs.passages, *(passage.text for passage in corpus))
        self.languages = {name: number for number, name in enumerate(pairs.languages)}
        contents: dict[str, int] = {}
        folded = [contents.setdefault(_folded(text), len(contents)) for text in self.texts]
        first = np.full(len(contents), len(folded))
        np.minimum.at(first, folded, np.arange(len(folded)))
        spoken: list[set[int]] = [set() for _ in contents]
        spoken_texts = np.unique(pairs.passage_index * len(pairs.languages) + pairs.passage_langs)
        for text, language in zip(*np.divmod(spoken_texts, len(pairs.languages)), strict=True):
            spoken[folded[text]].add(int(language))
        for content, passage in zip(folded[len(pairs.passages) :], corpus, strict=True):
            spoken[content].add(self.languages.setdefault(passage.lang, len(self.languages)))
        numbers: dict[frozenset[int], int] = {}
        sets = np.array([numbers.setdefault(frozenset(languages), len(numbers)) for languages in spoken])
        self.sets = list(numbers)
        usable = np.array([content != "" for content in contents])
        if pool == "any":
            sets[:] = 0
        else:
            usable &= np.array([bool(languages) for languages in spoken])
        chosen = np.flatnonzero(usable)
        chosen = chosen[np.lexsort((first[chosen], sets[chosen]))]
        rows = np.full(len(contents), -1)
        rows[chosen] = np.arange(len(chosen))
        self.positions = first[chosen]
        self.row_of_text: NDArray[np.int64] = rows[folded]
        self.language_sets: NDArray[np.int64] = sets[chosen]
        other_positives = np.setdiff1d(pairs.passage_index, self.positions)
        self.layout: NDArray[np.int64] = np.concatenate([self.positions, other_positives])
        self.place_of_text = np.full(len(self.texts), -1)
        self.place_of_text[self.layout] = np.arange(len(self.layout))

    def __len__(self) -> int:
        return len(self.positions)

    def pools(self, pool: Pool) -> NDArray[np.int64]:
        """For each language the sets (num_languages, s) that its pool is made of, -1 where there are fewer."""
        fitting = [
            [
                number
                for number, languages in enumerate(self.sets)
                if (language in languages) != (pool == "other")
            ]
            for language in range(len(self.languages))
        ]
        table = np.full((len(fitting), max(1, *map(len, fitting))), -1)
        for row, numbers in zip(table, fitting, strict=True):
            row[: len(numbers)] = numbers
        return table


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
