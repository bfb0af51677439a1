"""Entities of the Unicode CLDR, their names in every language, and how they hang together.

Four kinds of entity: territories, currencies, scripts, languages. Names and relations (which currency a territory
uses, where a language is spoken, how it is written) are those shipped with the Babel package; which
territories make up which regions is the United Nations' M49 list, whose region names are in the CLDR too. About
10 ms a language for Babel to load its tables; nothing is written to disk. Source: https://cldr.unicode.org (names,
supplemental data); https://unstats.un.org/unsd/methodology/m49.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from babel import Locale
from babel.core import UnknownLocaleError, get_global

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Kind = Literal["territory", "currency", "script", "language"]
# In order of precedence: of two entities with the same name in some language, the later kind gives way.
KINDS: tuple[Kind, ...] = ("territory", "currency", "script", "language")

# Codes that name no thing of their kind: unknown, none, several, for testing, unions of states.
_SPECIAL: dict[Kind, str] = {
    "territory": "EU EZ QO UN XA XB ZZ",
    "currency": "XTS XXX",
    "script": "Zinh Zmth Zsye Zsym Zxxx Zyyy Zzzz",
    "language": "mis mul root und zxx",
}

_M49 = """
005 AR BO BR BV CL CO EC FK GF GS GY PE PY SR UY VE
011 BF BJ CI CV GH GM GN GW LR ML MR NE NG SH SL SN TG
013 BZ CR GT HN MX NI PA SV
014 BI DJ ER ET IO KE KM MG MU MW MZ RE RW SC SO SS TF TZ UG YT ZM ZW
015 DZ EG EH LY MA SD TN
017 AO CD CF CG CM GA GQ ST TD
018 BW LS NA SZ ZA
021 BM CA GL PM US
029 AG AI AW BB BL BQ BS CU CW DM DO GD GP HT JM KN KY LC MF MQ MS PR SX TC TT VC VG VI
030 CN HK JP KP KR MN MO TW
034 AF BD BT IN IR LK MV NP PK
035 BN ID KH LA MM MY PH SG TH TL VN
039 AD AL BA ES GI GR HR IT ME MK MT PT RS SI SM VA XK
053 AU CC CX HM NF NZ
054 FJ NC PG SB VU
057 FM GU KI MH MP NR PW UM
061 AS CK NU PF PN TK TO TV WF WS
143 KG KZ TJ TM UZ
145 AE AM AZ BH CY GE IL IQ JO KW LB OM PS QA SA SY TR YE
151 BG BY CZ HU MD PL RO RU SK UA
154 AX DK EE FI FO GB GG IE IM IS JE LT LV NO SE SJ
155 AT BE CH DE FR LI LU MC NL
"""
_REGION = {
    territory: region
    for region, *territories in map(str.split, _M49.split("\n")[1:-1])
    for territory in territories
}
_MAX_FACTS_OF_A_SORT = 4


class Entity(NamedTuple):
    """One thing that has a name: its kind and its CLDR code (``("territory", "FR")``)."""

    kind: Kind
    code: str

    @property
    def key(self) -> str:
        """Name of the entity in ids and groups: ``territory-FR``."""
        return f"{self.kind}-{self.code}"


def entity_names(languages: Sequence[str]) -> dict[Entity, dict[str, str]]:
    """Entities that have a name in all of ``languages``, with those names; regions ("Western Europe") included.

    Left out: an entity whose name is missing or is its bare code in some language, holds digits, or is still in Latin
    letters in a language that is not written in them (an untranslated English name). In languages written in Latin
    letters a name that equals the English one stays: "Angola" is the Swahili name too.

    Raises:
        ValueError: a language that Babel does not know.
    """
    tables = {language: _names_in(language) for language in languages}
    foreign = [language for language in languages if _subtags(language)[1] not in ("Latn", "")]
    found: dict[Entity, dict[str, str]] = {}
    for kind in KINDS:
        shared = set.intersection(*(set(tables[language][kind]) for language in languages))
        for code in sorted(shared.difference(_SPECIAL[kind].split())):
            names = {language: " ".join(tables[language][kind][code].split()) for language in languages}
            if any(not name or name == code or re.search(r"\d", name) for name in names.values()):
                continue
            if any(re.search(r"[A-Za-z]{3}", names[language]) for language in foreign):
                continue
            found[Entity(kind, code)] = names
    return found


def is_region(entity: Entity) -> bool:
    """Whether an entity holds territories ("Western Europe"): regions are facts, never asked for."""
    return entity.kind == "territory" and entity.code.isdigit()


def unambiguous(names: Mapping[Entity, Mapping[str, str]]) -> dict[Entity, Mapping[str, str]]:
    """The entities left when of two with one name in one language (case folded) the later in order gives way."""
    taken: set[tuple[str, str]] = set()
    kept: dict[Entity, Mapping[str, str]] = {}
    for entity in sorted(names, key=lambda entity: (KINDS.index(entity.kind), entity.code)):
        folded = {(language, name.casefold()) for language, name in names[entity].items()}
        if folded & taken:
            continue
        taken |= folded
        kept[entity] = names[entity]
    return kept


class Relations:
    """What the CLDR says about entities, as other entities. Built once; every look-up is O(facts returned)."""

    def __init__(self, entities: Iterable[Entity]) -> None:
        languages = sorted(entity.code for entity in entities if entity.kind == "language")
        self._written_in: dict[str, list[str]] = {}
        for code in languages:
            self._written_in.setdefault(_subtags(code)[1], []).append(code)
        self._currencies: Mapping[str, Any] = get_global("territory_currencies")
        self._spoken: Mapping[str, Any] = get_global("territory_languages")
        # currency -> (still in use, last day of use, territory)
        self._used_in: dict[str, list[tuple[bool, tuple[int, int, int], str]]] = {}
        for territory in sorted(self._currencies):
            for code, _, end, tender in self._currencies[territory]:
                use = (end is None and bool(tender), tuple(end or (0, 0, 0)), territory)
                self._used_in.setdefault(code, []).append(use)
        self._speakers: dict[str, list[tuple[float, str]]] = {}
        for territory in sorted(self._spoken):
            for code, about in self._spoken[territory].items():
                self._speakers.setdefault(code, []).append((-about["population_percent"], territory))

    def facts(self, entity: Entity) -> tuple[Entity, ...]:
        """Entities that describe ``entity``, most telling first, region last; without ``entity`` itself."""
        home = self._home(entity)
        found = [fact for fact in self._facts(entity, home) if fact.code]
        if home in _REGION:
            found.append(Entity("territory", _REGION[home]))
        return tuple(fact for fact in dict.fromkeys(found) if fact != entity)

    def _facts(self, entity: Entity, home: str) -> list[Entity]:
        code, limit = entity.code, _MAX_FACTS_OF_A_SORT
        if entity.kind == "territory":
            current = [
                name for name, _, end, tender in self._currencies.get(code, ()) if end is None and tender
            ]
            return [Entity("currency", name) for name in current[:1]] + self._languages_of(code)
        if entity.kind == "currency":
            territories = [territory for current, _, territory in self._used_in.get(code, ()) if current]
            territories.sort(key=lambda territory: (territory != home, territory))
            territories = territories or [home]
            return [Entity("territory", name) for name in territories[:limit]] + self._languages_of(home)[:1]
        if entity.kind == "language":
            spoken = [home, *(territory for _, territory in sorted(self._speakers.get(code, ())))]
            script = Entity("script", _subtags(code)[1])
            return [script, *(Entity("territory", name) for name in list(dict.fromkeys(spoken))[:limit])]
        written = [Entity("language", name) for name in self._written_in.get(code, ())[:limit]]
        return [*written, Entity("territory", home)]

    def _languages_of(self, territory: str) -> list[Entity]:
        """Official languages, most speakers first; without any, the language that most people speak."""
        about = self._spoken.get(territory, {})
        codes = sorted(about, key=lambda code: (-about[code]["population_percent"], code))
        official = [code for code in codes if about[code]["official_status"]]
        return [Entity("language", code) for code in (official or codes[:1])[:_MAX_FACTS_OF_A_SORT]]

    def _home(self, entity: Entity) -> str:
        """The territory an entity belongs to first, or ``""``."""
        code = entity.code
        if entity.kind == "territory":
            return code
        if entity.kind == "language":
            return _subtags(code)[2]
        if entity.kind == "script":
            return _subtags(f"und_{code}")[2]
        uses = self._used_in.get(code, [])
        # ISO 4217: a national currency's code begins with its country's.
        if any(territory == code[:2] for _, _, territory in uses):
            return code[:2]
        return max(uses)[2] if uses else ""


def _names_in(language: str) -> dict[Kind, Mapping[str, str]]:
    try:
        locale = Locale.parse(language)
    except (UnknownLocaleError, ValueError) as error:
        raise ValueError(
            f"languages: found {language!r}, expected a language of Babel's CLDR tables"
        ) from error
    return {
        "territory": dict(locale.territories),
        "currency": dict(locale.currencies),
        "script": dict(locale.scripts),
        "language": {code: name for code, name in locale.languages.items() if "_" not in code},
    }


def _subtags(language: str) -> tuple[str, str, str]:
    """Likely (language, script, territory) of a language, ``""`` where unknown."""
    parts = str(get_global("likely_subtags").get(language, "")).split("_")
    if len(parts) != 3:
        return (language, "", "")
    return (parts[0], parts[1], parts[2])
