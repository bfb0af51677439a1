"""Code-switching: which words are replaced, by what, the same again; lexicon files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.training.code_switching import CodeSwitching, load_lexicon


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


LEXICON = {
    ("en", "cat"): {"de": ("Katze", "Kater"), "fr": ("chat",)},
    ("en", "the"): {"de": ("die",)},
    ("de", "katze"): {"en": ("cat",)},
}


def test_words_are_switched_and_the_rest_stays() -> None:
    switch = CodeSwitching(LEXICON, 1.0)
    found = {switch("  The (CAT), the cats!", "en", rng(seed)) for seed in range(50)}
    assert found == {f"  die ({word}), die cats!" for word in ("Katze", "Kater", "chat")}
    assert switch("Katze cat", "de", rng()) == "cat cat"
    assert switch("the cat", "sw", rng()) == "the cat"
    assert switch("", "en", rng()) == ""
    assert CodeSwitching(LEXICON, 0.0)("the cat", "en", rng()) == "the cat"


def test_languages_are_drawn_uniformly_and_words_with_the_probability() -> None:
    words = CodeSwitching(LEXICON, 0.3)("cat " * 20_000, "en", rng()).split()
    share = {word: words.count(word) / len(words) for word in set(words)}
    assert share["cat"] == pytest.approx(0.7, abs=0.02)
    assert share["chat"] == pytest.approx(0.15, abs=0.01)
    assert share["Katze"] == pytest.approx(0.075, abs=0.01)


def test_lexicon_files(tmp_path: Path) -> None:
    (tmp_path / "en-de.txt").write_text("cat Katze\ncat Katze\n\nCat\tKater\n", encoding="utf-8")
    (tmp_path / "more.tsv").write_text("﻿sw\tpaka\ten\thouse cat\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not read")
    assert load_lexicon(tmp_path) == {
        ("en", "cat"): {"de": ("Katze", "Kater")},
        ("sw", "paka"): {"en": ("house cat",)},
    }
    assert load_lexicon(tmp_path / "en-de.txt") == {("en", "cat"): {"de": ("Katze", "Kater")}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("en-de.txt", "cat\n", "en-de.txt:1: found 1 columns, expected 2"),
        ("other.tsv", "en\tcat\tde\tKatze\nen\tcat\n", "other.tsv:2: found 2 columns, expected 4"),
        ("other.tsv", "en\t\tde\tKatze\n", "other.tsv:1: found 4 columns, expected 4"),
        ("en-de.txt", "\n", "found no entries"),
    ],
)
def test_lexicon_mistakes(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_lexicon(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="lexicon"):
        load_lexicon(tmp_path / "absent")


LANGS = st.sampled_from(["en", "de", "sw"])
TEXTS = st.text(st.sampled_from("catheKz _-'é中\n.9"), max_size=30)


@given(TEXTS, LANGS, st.floats(0, 1), st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_text(text: str, lang: str, probability: float, seed: int) -> None:
    switch = CodeSwitching(LEXICON, probability)
    assert switch(text, lang, rng(seed)) == switch(text, lang, rng(seed))


@given(TEXTS, LANGS)
def test_without_probability_or_entries_texts_stay(text: str, lang: str) -> None:
    assert CodeSwitching(LEXICON, 0.0)(text, lang, rng()) == text
    assert CodeSwitching({}, 1.0)(text, lang, rng()) == text


def test_words_are_found_in_any_case_and_whole() -> None:
    switch = CodeSwitching({("de", "strasse"): {"en": ("street",)}, ("de", "é"): {"en": ("e",)}}, 1.0)
    assert switch("Straße STRASSE strassen", "de", rng()) == "street street strassen"
    assert switch("(é)-É/été", "de", rng()) == "(e)-e/été"
    assert switch("strasse_1 strasse-1", "de", rng()) == "strasse_1 street-1"


def test_the_draw_is_by_language_then_by_translation() -> None:
    """Written out with the same generator: a number for the word, one for the language, one for the translation."""
    switch, found, expected = CodeSwitching(LEXICON, 0.6), rng(7), rng(7)
    for _ in range(50):
        word = "cat"
        if expected.random() < 0.6:
            translations = LEXICON["en", "cat"][("de", "fr")[expected.integers(2)]]
            word = translations[expected.integers(len(translations))]
        assert switch("cat", "en", found) == word
    assert switch("no entry of it", "en", found) == "no entry of it"
    assert found.random() == expected.random()  # words without an entry draw nothing


def test_an_entry_serves_in_its_own_direction(tmp_path: Path) -> None:
    (tmp_path / "EN-de.tsv").write_text("cat\tKatze\n")
    (tmp_path / "DE-en.txt").write_text("Katze cat\r\n")
    lexicon = load_lexicon(tmp_path)
    assert lexicon == {("en", "cat"): {"de": ("Katze",)}, ("de", "katze"): {"en": ("cat",)}}
    alone = CodeSwitching(load_lexicon(str(tmp_path / "EN-de.tsv")), 1.0)
    assert alone("cat Katze", "en", rng()) == "Katze Katze"
    assert alone("cat Katze", "de", rng()) == "cat Katze"


def test_files_of_a_folder_are_joined_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.tsv").write_text("en\tcat\tfr\tchat\nen\tCAT\tde\tKater\n")
    (tmp_path / "en-de.txt").write_text("cat Katze\ncat Kater\n")
    (tmp_path / "fil-en.txt").write_text("pusa cat\n")
    assert load_lexicon(tmp_path) == {
        ("en", "cat"): {"fr": ("chat",), "de": ("Kater", "Katze")},
        ("fil", "pusa"): {"en": ("cat",)},
    }


@pytest.mark.parametrize("name", ["english-german.txt", "en_de.txt", "en-de.tsv.txt", "e-de.txt"])
def test_other_names_hold_four_columns(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("en\tcat\tde\tKatze\n")
    assert load_lexicon(tmp_path) == {("en", "cat"): {"de": ("Katze",)}}
    (tmp_path / name).write_text("cat Katze\n")
    with pytest.raises(ValueError, match=f"{name}:1: found 2 columns, expected 4"):
        load_lexicon(tmp_path)


def test_a_folder_without_lexica_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("cat Katze\n")
    with pytest.raises(ValueError, match=f"lexicon: found no entries in {tmp_path}, expected at least one"):
        load_lexicon(tmp_path)


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_probabilities_are_within_0_and_1(probability: float) -> None:
    with pytest.raises(ValueError, match=rf"probability: found {probability}, expected a number in \[0, 1\]"):
        CodeSwitching(LEXICON, probability)


@pytest.mark.parametrize(
    ("lang", "text", "word", "rest"),
    [
        (
            "hi",
            "\u092e\u0947\u0930\u0940 \u092c\u093f\u0932\u094d\u0932\u0940!",
            "\u092c\u093f\u0932\u094d\u0932\u0940",
            "\u092e\u0947\u0930\u0940 cat!",
        ),
        (
            "ta",
            "\u0b8e\u0ba9\u0bcd \u0baa\u0bc2\u0ba9\u0bc8.",
            "\u0baa\u0bc2\u0ba9\u0bc8",
            "\u0b8e\u0ba9\u0bcd cat.",
        ),
        ("th", "\u0e17\u0e35\u0e48 \u0e19\u0e35\u0e49", "\u0e19\u0e35\u0e49", "\u0e17\u0e35\u0e48 cat"),
        ("de", "a\u0308hnlich a", "a", "a\u0308hnlich cat"),
    ],
)
def test_words_keep_their_combining_marks(lang: str, text: str, word: str, rest: str) -> None:
    switch = CodeSwitching({(lang, word): {"en": ("cat",)}}, 1.0)
    assert switch(text, lang, rng()) == rest


def test_a_lexicon_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "en-de.txt").write_bytes(b"\xef\xbb\xbfcat Katze\nsmall gr\xfcn\n")
    with pytest.raises(ValueError, match=r"en-de\.txt:2: not UTF-8"):
        load_lexicon(tmp_path)
