"""Entities of the CLDR: names in every language, relations that everyone knows, ties of names."""

from __future__ import annotations

import pytest
from babel import Locale

from pyhbt.data.cldr_facts import KINDS, Entity, Relations, entity_names, is_region, unambiguous


def test_relations_say_what_everyone_knows() -> None:
    relations = Relations(entity_names(["en"]))
    assert relations.facts(Entity("territory", "DK"))[:2] == (
        Entity("currency", "DKK"),
        Entity("language", "da"),
    )
    assert Entity("territory", "154") in relations.facts(Entity("currency", "DKK"))
    assert relations.facts(Entity("language", "da"))[:2] == (
        Entity("script", "Latn"),
        Entity("territory", "DK"),
    )
    assert Entity("language", "ka") in relations.facts(Entity("script", "Geor"))
    assert relations.facts(Entity("currency", "ZZZ")) == ()


def test_of_two_entities_with_one_name_the_later_kind_gives_way() -> None:
    thai = {Entity("language", "th"): {"en": "Thai"}, Entity("script", "Thai"): {"en": "thai"}}
    assert list(unambiguous(thai)) == [Entity("script", "Thai")]


@pytest.fixture(scope="module")
def names() -> dict[Entity, dict[str, str]]:
    return entity_names(["en", "sw", "ru", "th"])


def test_names_are_those_of_the_cldr(names: dict[Entity, dict[str, str]]) -> None:
    locales = {code: Locale.parse(code) for code in ("en", "sw", "ru", "th")}
    for code, locale in locales.items():
        assert names[Entity("territory", "DK")][code] == locale.territories["DK"]
        assert names[Entity("currency", "DKK")][code] == locale.currencies["DKK"]
        assert names[Entity("language", "da")][code] == locale.languages["da"]
    assert names[Entity("script", "Cyrl")]["en"] == "Cyrillic"
    assert names[Entity("territory", "AO")]["sw"] == names[Entity("territory", "AO")]["en"] == "Angola"
    assert names[Entity("territory", "155")]["en"] == "Western Europe"
    assert {entity.kind for entity in names} == set(KINDS)


def test_what_is_no_name_is_left_out(names: dict[Entity, dict[str, str]]) -> None:
    for entity, by_language in names.items():
        assert list(by_language) == ["en", "sw", "ru", "th"]
        for language, name in by_language.items():
            assert name
            assert name == " ".join(name.split()) != entity.code
            assert not any(character.isdigit() for character in name)
            if language in ("ru", "th"):
                assert sum(character.isascii() and character.isalpha() for character in name) < 3 * 3
    for entity in (("territory", "EU"), ("currency", "XXX"), ("script", "Zyyy"), ("language", "und")):
        assert entity not in names
    assert not any("_" in entity.code for entity in names)


def test_more_languages_never_name_more_entities(names: dict[Entity, dict[str, str]]) -> None:
    alone = entity_names(["en"])
    assert names.keys() < alone.keys()
    assert all(by_language["en"] == alone[entity]["en"] for entity, by_language in names.items())


@pytest.mark.parametrize("language", ["qqq", "", "en_XX_YY_ZZ", "not a language"])
def test_languages_that_babel_does_not_know(language: str) -> None:
    with pytest.raises(ValueError, match=f"languages: found {language!r}, expected a language of Babel's"):
        entity_names(["en", language])


def test_regions_are_numbered_territories(names: dict[Entity, dict[str, str]]) -> None:
    assert is_region(Entity("territory", "155"))
    assert not is_region(Entity("territory", "FR"))
    assert Entity("territory", "FR").key == "territory-FR"
    assert 15 < sum(map(is_region, names)) < 60


def test_names_left_are_unique_in_every_language(names: dict[Entity, dict[str, str]]) -> None:
    kept = unambiguous(names)
    for language in ("en", "sw", "ru", "th"):
        folded = [by_language[language].casefold() for by_language in kept.values()]
        assert len(set(folded)) == len(folded)
    for entity in names.keys() - kept.keys():  # each gave way to one that was kept
        earlier = [
            one for one in kept if (KINDS.index(one.kind), one.code) < (KINDS.index(entity.kind), entity.code)
        ]
        assert any(
            names[one][language].casefold() == name.casefold()
            for one in earlier
            for language, name in names[entity].items()
        )


def test_an_entity_that_gives_way_takes_no_name() -> None:
    clash = {
        Entity("script", "Bbbb"): {"en": "same", "fr": "other"},
        Entity("territory", "AA"): {"en": "Same", "fr": "one"},
        Entity("script", "Cccc"): {"en": "third", "fr": "other"},
    }
    assert list(unambiguous(clash)) == [Entity("territory", "AA"), Entity("script", "Cccc")]
    assert unambiguous({}) == {}


def test_facts_of_every_entity(names: dict[Entity, dict[str, str]]) -> None:
    relations = Relations(names)
    for entity in names:
        facts = relations.facts(entity)
        assert entity not in facts
        assert len(set(facts)) == len(facts) <= 10
        assert all(fact.code and fact.kind in KINDS for fact in facts)
        world = Entity("territory", "001")  # where, say, Esperanto is spoken
        assert not any(is_region(fact) for fact in facts[:-1] if fact != world)  # the region comes last
        assert relations.facts(entity) == facts


def test_money_that_went_out_of_use_and_money_of_many() -> None:
    relations = Relations(entity_names(["en"]))
    mark = relations.facts(Entity("currency", "DEM"))
    assert mark == (Entity("territory", "DE"), Entity("language", "de"), Entity("territory", "155"))
    euro = relations.facts(Entity("currency", "EUR"))
    assert [fact.kind for fact in euro[:4]] == ["territory"] * 4  # of about twenty that use it
    dollar = relations.facts(Entity("currency", "USD"))
    assert dollar[0] == Entity("territory", "US")  # its home first
    assert relations.facts(Entity("territory", "DE"))[:2] == (
        Entity("currency", "EUR"),
        Entity("language", "de"),
    )
