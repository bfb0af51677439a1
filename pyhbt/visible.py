"""Text from data, names and errors made harmless to look at, in a terminal and on a page."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # which scripts such as Persian's and emoji are written with
_ESCAPED = ("Cc", "Cs", "Zl", "Zp", "Cf")


def visible(text: str, *, keep: str = "") -> str:
    r"""``text`` with control characters, marks of direction, line breaks and lone surrogates as escapes: ``\x1b``.

    Characters of ``keep`` stay as they are. Equal text comes back where there is none of them; O(length).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _ESCAPED and character not in _JOINERS and character not in keep
        else character
        for character in text
    )
