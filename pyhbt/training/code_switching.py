"""Code-switching augmentation: words replaced by translations from a bilingual lexicon.

Source: Litschko et al. 2023, arXiv 2305.05295, section 3: each word is replaced with a fixed probability by a
translation; here into a language drawn uniformly among those that the lexicon has for the word (their multilingual
setting), which also covers a lexicon of two languages.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyhbt.data.records import read_lines

# Letters and digits with the marks, joiners (ZWNJ, ZWJ) and signs that stand on them: \w alone ends a word of an
# Indic script at its vowel signs.
_MARKS = "".join(
    chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")
)
_WORD = re.compile(rf"\w[\w\u200c\u200d{re.escape(_MARKS)}]*")
_NAMED = re.compile(r"([A-Za-z]{2,3})-([A-Za-z]{2,3})\.(?:txt|tsv)")

Lexicon = Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]]
"""(language, word in lower case) -> language -> its translations."""


@dataclass(frozen=True)
class CodeSwitching:
    """Replaces each word of a text with ``probability`` where ``lexicon`` has it; spaces and punctuation stay.

    Raises:
        ValueError: ``probability`` outside [0, 1].
    """

    lexicon: Lexicon
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability: found {self.probability}, expected a number in [0, 1]")

    def __call__(self, text: str, lang: str, rng: np.random.Generator) -> str:
        """The text with words switched; O(text)."""

        def switched(match: re.Match[str]) -> str:
            word = match.group()
            found = self.lexicon.get((lang, word.casefold()))
            if found is None or rng.random() >= self.probability:
                return word
            langs = sorted(found)
            translations = found[langs[rng.integers(len(langs))]]
            return translations[rng.integers(len(translations))]

        return _WORD.sub(switched, text)


def load_lexicon(path: str | os.PathLike[str]) -> Lexicon:
    """A lexicon from a file, or from all ``.txt`` and ``.tsv`` files of a folder.

    A file named ``en-de.txt`` (or ``.tsv``) holds one word and its translation a line, parted by white space or a
    tab, as MUSE's dictionaries do. Any other file holds four columns parted by tabs: language, word, language,
    translation. An entry serves in its own direction alone. O(file size).

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: a malformed line or one that is not UTF-8 (names file and line), or no entry at all.
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(file for file in source.iterdir() if file.suffix in (".txt", ".tsv"))
    elif source.is_file():
        files = [source]
    else:
        raise FileNotFoundError(f"lexicon: {path} is neither a file nor a folder")
    entries: dict[tuple[str, str], dict[str, list[str]]] = {}
    for file in files:
        for lang, word, other_lang, translation in _entries(file):
            found = entries.setdefault((lang, word.casefold()), {}).setdefault(other_lang, [])
            if translation not in found:
                found.append(translation)
    if not entries:
        raise ValueError(f"lexicon: found no entries in {path}, expected at least one")
    return {key: {lang: tuple(words) for lang, words in found.items()} for key, found in entries.items()}


def _entries(file: Path) -> Iterator[tuple[str, str, str, str]]:
    named = _NAMED.fullmatch(file.name)
    expected = 2 if named else 4
    for where, text in read_lines(file):
        parts = text.split("\t") if "\t" in text else text.split()
        columns = [part.strip() for part in parts]
        if len(columns) != expected or not all(columns):
            raise ValueError(f"{where}found {len(columns)} columns, expected {expected}")
        if named:
            yield named[1].lower(), columns[0], named[2].lower(), columns[1]
        else:
            yield columns[0], columns[1], columns[2], columns[3]
