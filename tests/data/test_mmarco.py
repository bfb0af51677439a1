"""mMARCO, read from a small local folder of the published layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pyhbt.data import mmarco as module
from pyhbt.data.mmarco import HUB_ID, LANGUAGE_NAMES, load_mmarco
from pyhbt.data.pair_set import Pair
from tests.data.written import write


@pytest.fixture
def mmarco(tmp_path: Path) -> Path:
    data = tmp_path / "mmarco" / "data"
    # Query 1 has two positives; queries 1 and 2 share positive 10.
    write(
        data / "triples.train.ids.small.tsv",
        "1\t10\t20\n1\t11\t21\n1\t10\t21\n2\t10\t20\n3\t12\t20\n",
    )
    for name, mark in (("english", "e"), ("german", "g")):
        queries = "".join(f"{i}\t{mark} query {i}\n" for i in (3, 2, 1))
        passages = "".join(f'{i}\t{mark} "passage {i}\n' for i in (10, 11, 12, 20, 21, 22))
        if mark == "g":
            queries = queries.replace("g query 3", " ... ")
            passages = passages.replace('20\tg "passage 20\n', "")
        write(data / f"google/queries/train/{name}_queries.train.tsv", queries)
        write(data / f"google/collections/{name}_collection.tsv", passages)
    return tmp_path / "mmarco"


def test_mmarco_pairs_all_languages_of_an_id(mmarco: Path) -> None:
    pairs = load_mmarco(str(mmarco), languages=["en", "de"])
    found = {(pair.query, pair.passage, pair.group) for pair in pairs}
    assert len(pairs) == 4 * 3 + 2
    # Query 3 is only dots in German: English asks for it alone, of both passages.
    assert {pair.query_lang for pair in pairs if pair.group == "3"} == {"en"}
    assert ("e query 1", 'g "passage 10', "1") in found
    assert ("g query 2", 'e "passage 10', "1") in found
    assert {group for _, _, group in found} == {"1", "3"}


def test_mmarco_takes_a_slice_with_negatives(mmarco: Path) -> None:
    pairs = load_mmarco(str(mmarco), languages=["en", "de"], limit=3, negatives=2)
    by_text = {(pair.query, pair.passage): pair for pair in pairs}
    assert len(pairs) == len(by_text) == 8
    assert by_text["g query 1", 'e "passage 10'] == Pair(
        "g query 1", 'e "passage 10', "de", "en", "1", ('e "passage 20', 'e "passage 21'), "0"
    )
    # Passage 20 is missing from the German collection.
    assert by_text["e query 1", 'g "passage 10'].negatives == ('g "passage 21',)
    assert not any(pair.negatives for pair in load_mmarco(str(mmarco), languages=["en"], limit=1))


def test_malformed_mmarco_sources_are_named(mmarco: Path) -> None:
    with pytest.raises(ValueError, match="languages: found 'sw', expected languages of mMARCO: ar"):
        load_mmarco(str(mmarco), languages=["sw"])
    with pytest.raises(ValueError, match="negatives: found -1"):
        load_mmarco(str(mmarco), languages=["en"], negatives=-1)
    with pytest.raises(FileNotFoundError, match="french_queries.train.tsv: no such file"):
        load_mmarco(str(mmarco), languages=["fr"])
    write(mmarco / "data/triples.train.ids.small.tsv", "1\t10\n")
    with pytest.raises(ValueError, match="small.tsv:1: found 2 columns, expected 3: query id"):
        load_mmarco(str(mmarco), languages=["en"])
    write(mmarco / "data/triples.train.ids.small.tsv", "1\t10\t20\n")
    write(mmarco / "data/google/queries/train/english_queries.train.tsv", "1 no tab\n")
    with pytest.raises(ValueError, match="train.tsv:1: text: missing, expected id, tab, text"):
        load_mmarco(str(mmarco), languages=["en"])


def test_queries_are_joined_through_shared_positives(mmarco: Path) -> None:
    """1 and 2 through passage 10, 2 and 4 through passage 12: one group, though 1 and 4 share nothing."""
    write(mmarco / "data/triples.train.ids.small.tsv", "1\t10\t20\n3\t11\t20\n2\t12\t20\n2\t10\t20\n")
    groups = {pair.query: pair.group for pair in load_mmarco(str(mmarco), languages=["en"])}
    assert groups == {"e query 1": "1", "e query 2": "1", "e query 3": "3"}


def test_nothing_is_read_behind_the_last_wanted_line(mmarco: Path) -> None:
    """A collection is 2 to 5 GB: a passage at its start costs no more than the lines before it."""
    collection = mmarco / "data/google/collections/english_collection.tsv"
    whole = collection.read_text(encoding="utf-8")
    write(collection, f"{whole}malformed, and never read\n")
    assert len(load_mmarco(str(mmarco), languages=["en"], limit=1)) == 1
    write(collection, f"malformed\n{whole}")
    with pytest.raises(ValueError, match=r"english_collection\.tsv:1: text: missing"):
        load_mmarco(str(mmarco), languages=["en"], limit=1)


def test_a_query_may_stand_only_in_some_languages(mmarco: Path) -> None:
    """Query 3 is only dots in German, query 9 stands in no file."""
    write(mmarco / "data/triples.train.ids.small.tsv", "3\t22\t20\n9\t10\t20\n")
    pairs = load_mmarco(str(mmarco), languages=["en", "de"])
    assert {(pair.query, pair.passage) for pair in pairs} == {
        ("e query 3", 'e "passage 22'),
        ("e query 3", 'g "passage 22'),
    }


def test_the_published_repository_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def nothing(files: Sequence[str]) -> Iterator[tuple[str, str]]:
        asked.extend(files)
        return iter(())

    monkeypatch.setattr(module, "stream_lines", nothing)
    assert len(load_mmarco()) == 0
    root = f"hf://datasets/{HUB_ID}/data"
    assert asked[0] == f"{root}/triples.train.ids.small.tsv"
    assert asked[1:3] == [
        f"{root}/google/queries/train/arabic_queries.train.tsv",
        f"{root}/google/collections/arabic_collection.tsv",
    ]
    assert len(asked) == 1 + 2 * len(LANGUAGE_NAMES) == 29
