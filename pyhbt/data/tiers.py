"""Which languages of a data set are seen, low-resource or zero-shot in training.

A language's tier says how much of it a study trains on: all of it (seen), a few items (low-resource) or none
(zero-shot). O(number of languages).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, get_args

from pyhbt.arguments import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Tier = Literal["seen", "low-resource", "zero-shot"]
# countries whose codes are taken for those of their languages
_COUNTRIES = {
    "jp": "ja",
    "cn": "zh",
    "kr": "ko",
    "cz": "cs",
    "dk": "da",
    "gr": "el",
    "se": "sv",
    "ua": "uk",
    "vn": "vi",
}
TIERS: tuple[Tier, ...] = get_args(Tier)


def scarcer(first: Tier, second: Tier) -> Tier:
    """The tier of a language pair: that of its scarcer language."""
    return TIERS[max(TIERS.index(first), TIERS.index(second))]


def language_codes(name: str, codes: Iterable[str]) -> tuple[str, ...]:
    """``codes`` as a tuple without repeats, in their order; ``name`` is the argument named in messages.

    Raises:
        TypeError: a single string (``"en"`` would be read as ``"e", "n"``), or entries that are not strings.
        ValueError: an empty collection or an empty code.
    """
    if isinstance(codes, str):
        raise TypeError(f"{name}: found the string {codes!r}, expected a collection of language codes")
    found = tuple(dict.fromkeys(codes))
    for code in found:
        if not isinstance(code, str):
            raise TypeError(f"{name}: found {code!r}, expected language codes (strings)")
        if not code.strip():
            raise ValueError(f"{name}: found {code!r}, expected a language code")
    if not found:
        raise ValueError(f"{name}: found no language, expected at least one")
    return found


def known_languages(
    name: str, codes: Iterable[str] | None, available: Collection[str], where: str
) -> tuple[str, ...]:
    """``codes``, each checked to be among ``available`` (named ``where`` in messages); None means all of them.

    Raises:
        TypeError: as :func:`language_codes` does.
        ValueError: likewise, or a code that is not available.
    """
    if codes is None:
        return tuple(available)
    found = language_codes(name, codes)
    for code in found:
        if code not in available:
            raise ValueError(
                f"{name}: found {code!r}, expected languages of {where}: {' '.join(available)}"
                f"{_meant(code, available)}"
            )
    return found


def _meant(code: str, available: Collection[str]) -> str:
    """A hint at the code that may be meant."""
    own = _COUNTRIES.get(code.lower(), code.lower())
    return f"; did you mean {own!r}?" if own in available else did_you_mean(code, available)


def assign_tiers(
    languages: Collection[str],
    low_resource: Iterable[str] | None = None,
    zero_shot: Iterable[str] | None = None,
    *,
    default_low_resource: Collection[str] = (),
    default_zero_shot: Collection[str] = (),
) -> dict[str, Tier]:
    """Tier of every language: listed ones are low-resource or zero-shot, all others are seen.

    A list left at None falls back to its default, less the languages that are not in use or that the other list claims.

    Raises:
        ValueError: a listed language is not in use or stands in both lists, or none is left as seen.
    """
    given: dict[str, tuple[str, ...] | None] = {}
    for name, codes in (("low_resource", low_resource), ("zero_shot", zero_shot)):
        if isinstance(codes, str):
            raise TypeError(f"{name}: found the string {codes!r}, expected a collection of language codes")
        given[name] = None if codes is None else tuple(dict.fromkeys(codes))
        for code in given[name] or ():
            if code not in languages:
                raise ValueError(
                    f"{name}: found {code!r}, expected languages in use: {' '.join(sorted(languages))}"
                    f"{_meant(code, languages)}"
                )
    low, zero = given["low_resource"], given["zero_shot"]
    if low is None:
        low = tuple(code for code in default_low_resource if code not in (zero or ()))
    if zero is None:
        zero = tuple(code for code in default_zero_shot if code not in low)
    both = set(low) & set(zero)
    if both:
        raise ValueError(
            f"zero_shot: found {min(both)!r}, which low_resource lists too; expected one tier each"
        )
    tiers: dict[str, Tier] = {}
    for code in languages:
        tiers[code] = "low-resource" if code in low else "zero-shot" if code in zero else "seen"
    if "seen" not in tiers.values():
        raise ValueError(f"languages: no seen language among {' '.join(tiers)}, expected at least one")
    return tiers


def kept_languages(
    items: Sequence[str], tiers: Mapping[str, Tier], low_resource_items: int
) -> dict[str, tuple[str, ...]]:
    """Languages that training keeps of each item: every seen one, and low-resource ones in their few items.

    The ``low_resource_items`` items of a low-resource language are drawn by a hash of language and item, so that they
    do not depend on the other languages. O(languages * items log items).

    Raises:
        ValueError: the count is negative.
    """
    if low_resource_items < 0:
        raise ValueError(f"low_resource_items: found {low_resource_items}, expected >= 0")
    kept: dict[str, list[str]] = {item: [] for item in items}
    for language, tier in tiers.items():
        chosen: Sequence[str] = items if tier == "seen" else ()
        if tier == "low-resource":
            draws = {item: stable_draw("keep", language, item) for item in items}
            chosen = sorted(items, key=draws.__getitem__)[:low_resource_items]
        for item in chosen:
            kept[item].append(language)
    return {item: tuple(found) for item, found in kept.items()}


def stable_draw(*parts: str) -> int:
    """A 64-bit number that depends on ``parts`` alone, alike on every machine and in every process."""
    return int.from_bytes(hashlib.sha256("/".join(parts).encode()).digest()[:8], "big")
