"""Stratified splits: shares by language, stability, every language everywhere."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.data.splits import stratified_split

SHARES = {"train": 2 / 3, "dev": 1 / 12, "test": 1 / 4}
LANGUAGES = ("ar", "de", "en", "hi")
THINGS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.sets(st.sampled_from(LANGUAGES), min_size=1),
    min_size=1,
    max_size=80,
)


@settings(deadline=None)
@given(THINGS, st.integers(0, 100))
def test_depends_on_names_and_languages_alone(things: dict[str, set[str]], seed: int) -> None:
    names = list(things)
    random.Random(seed).shuffle(names)
    shuffled = {name: sorted(things[name], reverse=True) for name in names}
    assert stratified_split(shuffled, SHARES) == stratified_split(things, SHARES)


@settings(deadline=None)
@given(THINGS)
def test_every_split_gets_its_share_of_every_language(things: dict[str, set[str]]) -> None:
    found = stratified_split(things, SHARES)
    assert found.keys() == things.keys()
    for language in LANGUAGES:
        having = [name for name in things if language in things[name]]
        for split, share in SHARES.items():
            got = sum(found[name] == split for name in having)
            assert abs(got - share * len(having)) <= 3 + 0.1 * len(having)


def test_of_things_in_every_language_the_shares_are_exact() -> None:
    found = stratified_split({str(i): LANGUAGES for i in range(48)}, SHARES)
    counts = [list(found.values()).count(split) for split in SHARES]
    assert counts == [32, 4, 12]


@pytest.mark.parametrize("number", [3, 4, 5, 8])
def test_a_rare_language_is_in_every_split(number: int) -> None:
    things = {str(i): {"en", "ar"} if i < number else {"en"} for i in range(60)}
    found = stratified_split(things, SHARES)
    assert {found[str(i)] for i in range(number)} == set(SHARES)


def test_names_are_drawn_by_a_hash() -> None:
    found = stratified_split({str(i): ("en",) for i in range(48)}, SHARES)
    assert {found[str(i)] for i in range(16)} == {"train", "dev", "test"} or len(
        {found[str(i)] for i in range(32)}
    ) == 3  # not the first ones in order


@pytest.mark.parametrize("shares", [{"a": 0.5, "b": 0.4}, {"a": 1.5, "b": -0.5}])
def test_shares_that_are_none(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares: found .* expected shares that sum to 1"):
        stratified_split({"a": ("en",)}, shares)
