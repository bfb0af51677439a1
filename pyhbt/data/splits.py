"""Splits by a stable hash, stratified by language; the same on every machine and in every process."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pyhbt.data.tiers import stable_draw


def stratified_split(languages: Mapping[str, Collection[str]], shares: Mapping[str, float]) -> dict[str, str]:
    """The split of each thing, such that every split gets its share of things in every language.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, doi:10.1007/978-3-642-23808-6_10): of the language
    with the fewest things left, the next by the hash goes to the split that lacks most of that language, then most
    things, and so on. Depends on the names and languages alone, not on their order. Every language with at least as
    many things as there are splits gets one in each where that is possible. O(n log n * languages * splits).

    Args:
        languages: of each thing, by name; those of one thing are distinct.
        shares: of each split; they sum to 1.

    Returns:
        Split by name.

    Raises:
        ValueError: shares that do not sum to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise ValueError(f"shares: found {dict(shares)}, expected shares that sum to 1")
    left = {
        name: frozenset(languages[name])
        for name in sorted(languages, key=lambda name: stable_draw("split", name))
    }
    every = sorted({language for found in left.values() for language in found})
    wanted = {
        language: _apportioned(sum(language in part for part in left.values()), shares) for language in every
    }
    room = _apportioned(len(left), shares)
    found: dict[str, str] = {}
    while left:
        counts = {
            language: count
            for language in every
            if (count := sum(language in part for part in left.values()))
        }
        rarest = min(counts, key=lambda language: (counts[language], language)) if counts else None
        name = next(name for name, part in left.items() if rarest is None or rarest in part)
        part = left.pop(name)
        split = max(
            shares,
            key=lambda split: (
                wanted[rarest][split] if rarest is not None else 0,
                sum(wanted[language][split] for language in part),
                room[split],
            ),
        )
        found[name] = split
        room[split] -= 1
        for language in part:
            wanted[language][split] -= 1
    return found


def _apportioned(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of ``total`` each split should get: largest remainders, but one each where there are enough for all."""
    exact = {split: share * total for split, share in shares.items()}
    found = {split: int(count + 1e-9) for split, count in exact.items()}
    by_remainder = sorted(shares, key=lambda split: found[split] - exact[split])
    for split in by_remainder[: total - sum(found.values())]:
        found[split] += 1
    for split, share in shares.items():
        if total >= len(shares) and share > 0 and not found[split]:
            found[max(found, key=found.__getitem__)] -= 1
            found[split] = 1
    return found
