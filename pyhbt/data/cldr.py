"""The embedded multilingual retrieval set: entities of the Unicode CLDR, in 46 languages, offline.

An item is a territory, currency, script or language. Its query in a language is its name with one fact about it
("Danish Krone, Northern Europe"); its passage is its name among all its facts, in an order of its own ("Northern
Europe, Danish Krone, Greenland, Denmark"). Facts are names of other entities and of regions in the same language, so
texts of two languages share nothing that is not in their names: no codes, digits or symbols.

Split by entity, about 60 / 10 / 30 % train / dev / test of each kind; the split depends on the entity's key alone.
Entities are related, so the held-out ones are kept out of the training *texts* as well: a fact of a training item is
always a training entity or a region. Passages of dev and test may mention training entities: what was learnt about
Denmark may help to find its currency.

Tiers: 20 seen languages; 13 low-resource ones, of which training keeps a few items; 13 zero-shot ones. Every zero-shot
language is written in the script of a seen one, most are close relatives of one (Catalan, Macedonian, Marathi), and a
few only borrow names (Zulu, Hausa, Irish). 26 of the 46 are lower-resource languages in real life. The data depend on
the CLDR version inside the installed Babel, on nothing else. Loads in about a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pyhbt.data.cldr_facts import Entity, Relations, entity_names, is_region, unambiguous
from pyhbt.data.pair_set import PairSet, ParallelItem
from pyhbt.data.retrieval_set import RetrievalSet, StudyData
from pyhbt.data.tiers import assign_tiers, kept_languages, language_codes, stable_draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyhbt.data.tiers import Tier

SEEN, LOW_RESOURCE, ZERO_SHOT = (
    tuple(codes.split())
    for codes in (
        "ar bn de el en es fa fi fr hi id ja ko nl pl pt ru th tr zh",
        "am az hy ka kk km my ne si sw ur uz yo",
        "af as be ca ga gl ha ky mk mr ms ps zu",
    )
)
LANGUAGES: tuple[str, ...] = SEEN + LOW_RESOURCE + ZERO_SHOT

Split = Literal["train", "dev", "test"]
_SHARES: dict[Split, float] = {"train": 0.6, "dev": 0.1, "test": 0.3}
_MIN_ITEMS = 20


def load_cldr(
    *,
    languages: Iterable[str] | None = None,
    low_resource: Iterable[str] | None = None,
    zero_shot: Iterable[str] | None = None,
    low_resource_items: int = 24,
) -> StudyData:
    """The CLDR set as training pairs (all language pairs of each training item) and two retrieval sets.

    Only entities with a name in every language chosen are used, so a poorly covered language shrinks the whole set.
    Query and passage ids read ``en:currency-DKK``; the question of a query and the group of a training item are the
    entity's key, ``currency-DKK``. Time and memory O(languages * entities).

    Args:
        languages: CLDR codes; default: the 46 of this module.
        low_resource: languages that keep ``low_resource_items`` training items each; default: this module's.
        zero_shot: languages without training items; default: this module's. A language of neither list is seen.
        low_resource_items: how many.

    Raises:
        ValueError: a language that Babel does not know, contradictory tiers, or fewer than 20 items left in a split.
    """
    chosen = LANGUAGES if languages is None else language_codes("languages", languages)
    tiers = assign_tiers(
        chosen,
        low_resource,
        zero_shot,
        default_low_resource=[code for code in LOW_RESOURCE if code in chosen],
        default_zero_shot=[code for code in ZERO_SHOT if code in chosen],
    )
    items = _items(chosen)
    by_split: dict[Split, list[ParallelItem]] = {
        split: [item for item in items if split_of(item.group) == split] for split in get_args(Split)
    }
    for split, found in by_split.items():
        if len(found) < _MIN_ITEMS:
            raise ValueError(
                f"languages: only {len(found)} items of the {split} split have names in all of "
                f"{' '.join(chosen)}, expected at least {_MIN_ITEMS}"
            )
    kept = kept_languages([item.group for item in by_split["train"]], tiers, low_resource_items)
    train = PairSet.from_parallel(
        ParallelItem(
            item.group,
            {language: item.queries[language] for language in kept[item.group]},
            {language: item.passages[language] for language in kept[item.group]},
        )
        for item in by_split["train"]
    )
    return StudyData(
        "cldr",
        train,
        _retrieval_set("cldr dev", by_split["dev"], chosen, tiers),
        _retrieval_set("cldr test", by_split["test"], chosen, tiers),
    )


def split_of(key: str) -> Split:
    """The split of an entity, from its key alone: the same whatever the languages."""
    # The number is the one of 0..39 whose split comes closest to the shares in every kind.
    draw = stable_draw("split 7", key) / 2**64
    for split, share in _SHARES.items():
        if draw < share:
            return split
        draw -= share
    return "test"


def _items(languages: Sequence[str]) -> list[ParallelItem]:
    """One item an entity, its texts distinct from every other item's in every language; sorted by key."""
    names = unambiguous(entity_names(languages))
    relations = Relations(names)
    items: list[ParallelItem] = []
    taken: set[tuple[str, str]] = set()
    for entity in names:
        if is_region(entity):
            continue
        facts = [fact for fact in relations.facts(entity) if fact in names and _may_mention(entity, fact)]
        if not facts:
            continue
        # With a single fact the query is the bare name, lest query and passage be the same words.
        cue = [facts[stable_draw("cue", entity.key) % len(facts)]] if len(facts) > 1 else []
        told = sorted([entity, *facts], key=lambda part: stable_draw("order", entity.key, part.key))
        queries = {code: ", ".join(names[part][code] for part in [entity, *cue]) for code in languages}
        passages = {code: ", ".join(names[part][code] for part in told) for code in languages}
        folded = {(code, text.casefold()) for code, text in [*queries.items(), *passages.items()]}
        if folded & taken:
            continue
        taken |= folded
        items.append(ParallelItem(entity.key, queries, passages))
    return sorted(items, key=lambda item: item.group)


def _may_mention(entity: Entity, fact: Entity) -> bool:
    """Whether a text about ``entity`` may name ``fact``: training texts never name a held-out entity."""
    return is_region(fact) or split_of(fact.key) in ("train", split_of(entity.key))


def _retrieval_set(
    name: str, items: Sequence[ParallelItem], languages: Sequence[str], tiers: Mapping[str, Tier]
) -> RetrievalSet:
    rows = [(f"{code}:{item.group}", item, code) for code in languages for item in items]
    relevant = {item.group: {f"{code}:{item.group}": 1 for code in languages} for item in items}
    ids = tuple(row_id for row_id, _, _ in rows)
    langs = tuple(code for _, _, code in rows)
    return RetrievalSet(
        name=name,
        query_ids=ids,
        query_texts=tuple(item.queries[code] for _, item, code in rows),
        query_langs=langs,
        questions=tuple(item.group for _, item, _ in rows),
        passage_ids=ids,
        passage_texts=tuple(item.passages[code] for _, item, code in rows),
        passage_langs=langs,
        qrels={row_id: relevant[item.group] for row_id, item, _ in rows},
        tiers=dict(tiers),
    )
