"""AfriQA: cross-lingual sets, training pairs without held-out passages, tiers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pyhbt.data.afriqa import load_afriqa, load_afriqa_study


def _lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _questions(folder: Path, lang: str, pivot: str, split: str, positives: list[str]) -> None:
    rows: list[dict[str, object]] = [
        {
            "id": f"{lang}-{split}-{i}",
            "question": f"{lang} {split} {i}?",
            "question_pivot": f"{pivot} of {lang} {split} {i}?",
            "positive": positive,
        }
        for i, positive in enumerate(positives)
    ]
    _lines(folder / f"queries.{lang}.{pivot}.{split}.jsonl", rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for pivot in ("en", "fr"):
        rows: list[dict[str, object]] = [
            {"id": f"{pivot}-{i}", "title": "T" if i else None, "text": f"text {i}"} for i in range(6)
        ]
        _lines(tmp_path / f"passages.{pivot}.jsonl", rows)
    _questions(tmp_path, "hau", "en", "train", ["en-0", "en-1", "en-1", "en-4"])
    _questions(tmp_path, "hau", "en", "dev", ["en-3"])
    _questions(tmp_path, "hau", "en", "test", ["en-4", "en-5"])
    _questions(tmp_path, "swa", "en", "test", ["en-2"])
    _questions(tmp_path, "fon", "fr", "train", ["fr-0"])
    _questions(tmp_path, "fon", "fr", "dev", ["fr-1"])
    _questions(tmp_path, "fon", "fr", "test", ["fr-2"])
    return tmp_path


def test_questions_meet_all_passages_of_their_pivots(folder: Path) -> None:
    one = load_afriqa(folder)
    assert one.query_ids == ("fon:fon-test-0", "hau:hau-test-0", "hau:hau-test-1", "swa:swa-test-0")
    assert len(one.passage_ids) == 12
    assert one.passage_texts[:2] == ("text 0", "T text 1")
    assert one.qrels["hau:hau-test-0"] == {"en:en-4": 1}
    assert one.tiers == {
        "en": "seen",
        "fr": "seen",
        "fon": "low-resource",
        "hau": "low-resource",
        "swa": "zero-shot",
    }


def test_languages_may_name_question_languages_or_pivots(folder: Path) -> None:
    assert set(load_afriqa(folder, languages=["swa"]).query_langs) == {"swa"}
    one = load_afriqa(folder, languages=["en"])
    assert set(one.query_langs) == {"hau", "swa"}
    assert set(one.passage_langs) == {"en"}
    assert set(load_afriqa(folder, languages=["en", "hau"]).query_langs) == {"hau"}
    with pytest.raises(ValueError, match="found 'yor', expected languages of"):
        load_afriqa(folder, languages=["yor"])
    with pytest.raises(ValueError, match="no questions in"):
        load_afriqa(folder, languages=["fr", "hau"])


def test_pivot_queries_share_the_group_of_their_question(folder: Path) -> None:
    one = load_afriqa(folder, languages=["swa"], pivot_queries=True)
    assert one.query_ids == ("swa:swa-test-0", "en:swa-test-0")
    assert one.questions == ("swa-test-0", "swa-test-0")
    assert one.query_texts[1] == "en of swa test 0?"
    assert one.qrels["swa:swa-test-0"] == one.qrels["en:swa-test-0"]


def test_every_copy_of_the_answer_is_relevant_and_held_out(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "passages.en.jsonl").read_text().splitlines()]
    rows[1] = {**rows[5], "id": "en-1", "text": " text  5"}
    _lines(folder / "passages.en.jsonl", rows)
    assert load_afriqa(folder).qrels["hau:hau-test-1"] == {"en:en-1": 1, "en:en-5": 1}
    study = load_afriqa_study(folder, languages=["hau"])
    assert {pair.group for pair in study.train} == {"en-0"}


def test_training_leaves_out_held_out_passages_and_groups_by_passage(folder: Path) -> None:
    study = load_afriqa_study(folder, languages=["en"])
    found = [(pair.query, pair.query_lang, pair.passage_lang, pair.group) for pair in study.train]
    assert found == [
        ("hau train 0?", "hau", "en", "en-0"),
        ("en of hau train 0?", "en", "en", "en-0"),
        ("hau train 1?", "hau", "en", "en-1"),
        ("en of hau train 1?", "en", "en", "en-1"),
        ("hau train 2?", "hau", "en", "en-1"),
        ("en of hau train 2?", "en", "en", "en-1"),
    ]
    assert study.dev.query_langs == ("hau", "en")
    assert study.test.tiers["swa"] == "zero-shot"
    zero = load_afriqa_study(folder, zero_shot=["hau", "swa"])
    assert {pair.query_lang for pair in zero.train} == {"fon", "fr"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zero_shot": []}, "zero_shot: found no 'swa'"),
        ({"zero_shot": ["swa", "en"]}, "zero_shot: found 'en', expected no pivot"),
        ({"languages": ["swa"]}, "no train questions for swa"),
    ],
)
def test_impossible_studies_raise(folder: Path, arguments: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_afriqa_study(folder, **arguments)


def test_malformed_folders_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="split: found 'validation'"):
        load_afriqa(folder, split="validation")
    with pytest.raises(ValueError, match="no dev questions"):
        load_afriqa(folder, languages=["swa"], split="dev")
    _questions(folder, "swa", "en", "test", ["en-9"])
    with pytest.raises(ValueError, match="positive 'en-9' of 'swa-test-0' is not in passages.en.jsonl"):
        load_afriqa(folder)
    _lines(folder / "queries.swa.en.test.jsonl", [{"id": "a", "question": " "}])
    with pytest.raises(ValueError, match=r"queries\.swa\.en\.test\.jsonl:1: question: found an empty text"):
        load_afriqa(folder)
    (folder / "queries.swa.test.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"expected queries\.LANG\.PIVOT\.SPLIT\.jsonl"):
        load_afriqa(folder)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load_afriqa(folder / "missing")
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no queries"):
        load_afriqa(folder / "empty")


def test_afriqa_has_its_published_counts(data_dir: Path) -> None:
    one = load_afriqa(data_dir / "afriqa")
    assert Counter(one.query_langs) == {
        "bem": 308,
        "fon": 386,
        "hau": 300,
        "ibo": 409,
        "swa": 295,
        "twi": 486,
        "zul": 325,
    }
    assert Counter(one.passage_langs) == {"en": 4237, "fr": 790}
    study = load_afriqa_study(data_dir / "afriqa")
    held_out = {passage for judged in study.test.qrels.values() for passage in judged}
    texts = dict(zip(study.test.passage_ids, study.test.passage_texts, strict=True))
    assert not {pair.passage for pair in study.train} & {texts[passage] for passage in held_out}
    assert len(study.train) > 2000
