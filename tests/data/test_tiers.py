"""Tiers of languages and the few items that low-resource languages keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.data.tiers import (
    assign_tiers,
    kept_languages,
    known_languages,
    language_codes,
    scarcer,
    stable_draw,
)


def test_listed_languages_take_their_tier_and_the_rest_is_seen() -> None:
    assert assign_tiers(["en", "sw", "zu"], ["sw"], ["zu"]) == {
        "en": "seen",
        "sw": "low-resource",
        "zu": "zero-shot",
    }


def test_a_list_overrides_its_default_and_claims_from_the_other_default() -> None:
    defaults = {"default_low_resource": ["sw"], "default_zero_shot": ["zu"]}
    assert assign_tiers(["en", "sw", "zu"], **defaults)["zu"] == "zero-shot"
    tiers = assign_tiers(["en", "sw", "zu"], low_resource=["zu"], **defaults)
    assert tiers == {"en": "seen", "sw": "seen", "zu": "low-resource"}
    tiers = assign_tiers(["en", "sw", "zu"], zero_shot=["sw"], **defaults)
    assert tiers == {"en": "seen", "sw": "zero-shot", "zu": "seen"}


@pytest.mark.parametrize(
    ("low", "zero", "message"),
    [
        (["xx"], [], "low_resource: found 'xx'"),
        ([], ["xx"], "zero_shot: found 'xx'"),
        (["sw"], ["sw"], "zero_shot: found 'sw', which low_resource lists too"),
        (["en"], ["sw"], "no seen language"),
    ],
)
def test_contradictory_tiers_raise(low: list[str], zero: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign_tiers(["en", "sw"], low, zero)


def test_a_bare_string_is_no_collection_of_codes() -> None:
    with pytest.raises(TypeError, match="languages: found the string 'en'"):
        language_codes("languages", "en")
    with pytest.raises(TypeError, match="zero_shot: found the string 'en'"):
        assign_tiers(["en", "fr"], zero_shot="en")
    with pytest.raises(TypeError, match="expected language codes"):
        language_codes("languages", [1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="found no language"):
        language_codes("languages", [])
    with pytest.raises(ValueError, match="found ' '"):
        language_codes("languages", [" "])


def test_unknown_languages_are_named_with_the_known_ones() -> None:
    assert known_languages("languages", None, ["en", "fr"], "here") == ("en", "fr")
    assert known_languages("languages", ["fr", "fr"], ["en", "fr"], "here") == ("fr",)
    with pytest.raises(ValueError, match="found 'xx', expected languages of here: en fr"):
        known_languages("languages", ["xx"], ["en", "fr"], "here")


@given(st.integers(0, 30), st.integers(0, 30))
def test_low_resource_languages_keep_their_count_whatever_else_is_there(items: int, count: int) -> None:
    names = [f"item-{i}" for i in range(items)]
    kept = kept_languages(names, {"en": "seen", "sw": "low-resource", "zu": "zero-shot"}, count)
    assert all("en" in found and "zu" not in found for found in kept.values())
    few = {name for name, found in kept.items() if "sw" in found}
    assert len(few) == min(count, items)
    alone = kept_languages(names[::-1], {"sw": "low-resource"}, count)
    assert few == {name for name, found in alone.items() if found}


def test_negative_counts_raise_and_draws_are_fixed() -> None:
    with pytest.raises(ValueError, match="low_resource_items: found -1"):
        kept_languages(["a"], {"en": "seen"}, -1)
    assert stable_draw("a", "b") == stable_draw("a", "b") != stable_draw("b", "a")


def test_the_tier_of_a_pair_is_that_of_its_scarcer_language() -> None:
    assert scarcer("seen", "seen") == "seen"
    assert scarcer("low-resource", "seen") == "low-resource"
    assert scarcer("low-resource", "zero-shot") == "zero-shot"
