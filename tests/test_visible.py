"""What cannot be seen, or moves what is seen, becomes an escape; writing of every script stays."""

from __future__ import annotations

import pytest

from pyhbt.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]8;;http://x\x07", r"\x1b]8;;http://x\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc\0", r"a\r\nb\tc\x00"),
        ("\x7f\x85\u2028\u2029", r"\x7f\x85\u2028\u2029"),
        ("\u202eabc\u202c\u2066x\u2069\u200e\u200f\u061c", r"\u202eabc\u202c\u2066x\u2069\u200e\u200f\u061c"),
        ("\ufeff\xad\u200b\udcff\U000e0041", r"\ufeff\xad\u200b\udcff\U000e0041"),
    ],
)
def test_what_moves_or_hides_text_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "text", ["", "abc [/b] \\n", "é 中 日本 हिन्दी العربية עברית", "می\u200cروم", "👩\u200d🔬"]
)
def test_writing_stays(text: str) -> None:
    assert visible(text) == text


def test_what_is_to_be_kept() -> None:
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
