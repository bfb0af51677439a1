"""The embedded CLDR set: tiers, splits, distinct texts, no held-out name in training texts, determinism."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from pyhbt.data.cldr import LANGUAGES, LOW_RESOURCE, SEEN, ZERO_SHOT, load_cldr, split_of
from pyhbt.data.cldr_facts import entity_names, is_region, unambiguous
from pyhbt.data.retrieval_set import StudyData
from tests.interpreter import run_python


@pytest.fixture(scope="module")
def study() -> StudyData:
    return load_cldr()


def test_tiers_cover_many_languages_a_third_of_them_lower_resource() -> None:
    assert len(set(LANGUAGES)) == len(LANGUAGES) >= 40
    assert len(LOW_RESOURCE) + len(ZERO_SHOT) >= len(LANGUAGES) / 3
    assert set(SEEN).isdisjoint(LOW_RESOURCE + ZERO_SHOT)
    assert set(LOW_RESOURCE).isdisjoint(ZERO_SHOT)


def test_tiers_of_the_sets_and_of_the_training_pairs(study: StudyData) -> None:
    for one in (study.dev, study.test):
        assert one.languages == tuple(sorted(LANGUAGES))
        assert {code for code, tier in one.tiers.items() if tier == "low-resource"} == set(LOW_RESOURCE)
        assert {code for code, tier in one.tiers.items() if tier == "zero-shot"} == set(ZERO_SHOT)
    train = study.train
    items = Counter(
        train.languages[code]
        for code, passage_code in zip(train.query_langs, train.passage_langs, strict=True)
        if code == passage_code
    )
    assert set(items) == set(SEEN + LOW_RESOURCE)
    assert {items[code] for code in SEEN} == {len(train.group_names)}
    assert {items[code] for code in LOW_RESOURCE} == {24}


def test_splits_are_disjoint_and_about_sixty_ten_thirty(study: StudyData) -> None:
    train, dev, test = set(study.train.group_names), set(study.dev.questions), set(study.test.questions)
    assert not train & dev
    assert not train & test
    assert not dev & test
    total = len(train) + len(dev) + len(test)
    # 750 with the CLDR 47 of Babel 2.18; other versions name a few entities more or fewer.
    assert total > 600
    for kind, floor in (("territory", 150), ("language", 200), ("currency", 100), ("script", 15)):
        counts = [sum(group.startswith(f"{kind}-") for group in split) for split in (train, dev, test)]
        assert sum(counts) >= floor
        # Three standard deviations of a binomial draw.
        for count, share in zip(counts, (0.6, 0.1, 0.3), strict=True):
            assert abs(count - share * sum(counts)) <= 3 * (sum(counts) * share * (1 - share)) ** 0.5


def test_every_language_asks_every_held_out_item_once(study: StudyData) -> None:
    for one in (study.dev, study.test):
        groups = set(one.questions)
        asked = Counter(zip(one.query_langs, one.questions, strict=True))
        assert set(asked.values()) == {1}
        assert len(asked) == len(LANGUAGES) * len(groups) == len(one.passage_ids)
        query = f"sw:{min(groups)}"
        assert one.qrels[query] == {f"{code}:{min(groups)}": 1 for code in LANGUAGES}


def test_no_text_stands_for_two_items_of_a_language_and_no_pair_is_trivial(study: StudyData) -> None:
    taken: dict[tuple[str, str], str] = {}
    pairs = [(pair.query_lang, pair.query, pair.passage, pair.group) for pair in study.train[::97]]
    for one in (study.dev, study.test):
        pairs += zip(one.query_langs, one.query_texts, one.passage_texts, one.questions, strict=True)
    for code, query, passage, group in pairs:
        assert query != passage
        assert query.strip()
        assert taken.setdefault((code, query.casefold()), group) == group
    for one in (study.dev, study.test):
        for code, passage, group in zip(one.passage_langs, one.passage_texts, one.questions, strict=True):
            assert taken.setdefault((code, passage.casefold()), group) == group


def test_texts_hold_no_digits_and_no_latin_leftovers(study: StudyData) -> None:
    for code, text in zip(study.test.passage_langs, study.test.passage_texts, strict=True):
        assert not any(character.isdigit() for character in text)
        if code in ("ru", "am", "th", "ja", "ar"):
            assert sum(character.isascii() and character.isalpha() for character in text) < 3


def test_training_texts_name_no_held_out_entity(study: StudyData) -> None:
    names = unambiguous(entity_names(LANGUAGES))
    held_out = {
        (code, name)
        for entity, by_language in names.items()
        if not is_region(entity) and split_of(entity.key) != "train"
        for code, name in by_language.items()
    }
    train = study.train
    for texts, index, langs in (
        (train.queries, train.query_index, train.query_langs),
        (train.passages, train.passage_index, train.passage_langs),
    ):
        for position, code in {(int(p), int(c)) for p, c in zip(index, langs, strict=True)}:
            parts = {(train.languages[code], part) for part in texts[position].split(", ")}
            assert not parts & held_out


def test_the_split_of_an_entity_does_not_depend_on_the_languages(study: StudyData) -> None:
    small = load_cldr(languages=["en", "fr", "sw", "ga"])
    assert small.test.tiers == {"en": "seen", "fr": "seen", "sw": "low-resource", "ga": "zero-shot"}
    assert set(small.train.group_names).isdisjoint(study.test.questions)
    assert set(small.test.questions).isdisjoint(study.train.group_names)


def test_given_tiers_and_counts_are_obeyed() -> None:
    study = load_cldr(languages=["en", "fr", "sw"], low_resource=["fr"], zero_shot=[], low_resource_items=3)
    assert study.test.tiers == {"en": "seen", "fr": "low-resource", "sw": "seen"}
    french = study.train.languages.index("fr")
    assert int(((study.train.query_langs == french) & (study.train.passage_langs == french)).sum()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"languages": ["en", "qqq"]}, "languages: found 'qqq'"),
        ({"languages": ["en", "aa"]}, "expected at least 20"),
        ({"languages": ["en"], "zero_shot": ["fr"]}, "zero_shot: found 'fr'"),
        ({"languages": ["sw"]}, "no seen language"),
        ({"languages": ["en", "fr"], "low_resource_items": -1}, "low_resource_items: found -1"),
    ],
)
def test_impossible_requests_raise(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_cldr(**arguments)  # type: ignore[arg-type]


_DIGEST = """
import hashlib
from pyhbt.data.cldr import load_cldr
study = load_cldr()
digest = hashlib.sha256()
digest.update(repr((study.train.queries, study.train.passages, study.train.groups.tolist())).encode())
digest.update(repr((study.test.query_ids, study.test.query_texts, study.test.passage_texts)).encode())
print(digest.hexdigest())
"""


def test_the_set_does_not_depend_on_the_hash_seed(study: StudyData) -> None:
    digests = {run_python(_DIGEST, PYTHONHASHSEED=seed).stdout.strip() for seed in ("1", "2")}
    here = hashlib.sha256()
    here.update(repr((study.train.queries, study.train.passages, study.train.groups.tolist())).encode())
    here.update(repr((study.test.query_ids, study.test.query_texts, study.test.passage_texts)).encode())
    assert digests == {here.hexdigest()}
