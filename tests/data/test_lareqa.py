"""XQuAD-R and MLQA-R: candidates, relevant sentences, the split by article, groups of training questions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pyhbt.data import StudyData
from pyhbt.data.lareqa import load_lareqa, load_lareqa_study

# Candidates a language and questions, as published with LAReQA.
XQUAD_R = {"ar": 1222, "de": 1276, "el": 1234, "en": 1180, "es": 1215, "hi": 1244} | {
    "ru": 1219,
    "th": 852,
    "tr": 1167,
    "vi": 1209,
    "zh": 1196,
}


def _paragraph(sentences: list[str], questions: dict[str, int]) -> dict[str, Any]:
    """A paragraph of sentences joined by a space; questions map an id to where the answer starts."""
    breaks, begin = [], 0
    for sentence in sentences:
        breaks.append([begin, begin + len(sentence)])
        begin += len(sentence) + 1
    return {
        "context": " ".join(sentences) + "   ",
        "sentences": sentences,
        "sentence_breaks": breaks,
        "qas": [
            {"id": key, "question": f"  {key} \n what? ", "answers": [{"answer_start": start, "text": "x"}]}
            for key, start in questions.items()
        ],
    }


def _write(folder: Path, language: str, articles: list[list[dict[str, Any]]]) -> None:
    data = [{"title": str(i), "paragraphs": paragraphs} for i, paragraphs in enumerate(articles)]
    (folder / f"{language}.json").write_text(json.dumps({"data": data}), encoding="utf-8")


def test_the_relevant_sentence_is_where_the_answer_starts(tmp_path: Path) -> None:
    # "one two." spans 0-8, the gap is 8, "three." spans 9-15, and 17 lies past the last sentence.
    questions = {"first": 0, "last of first": 7, "gap": 8, "second": 9, "past the end": 17}
    _write(tmp_path, "en", [[_paragraph(["one two.", "three."], questions)]])
    one = load_lareqa(tmp_path)
    assert one.passage_ids == ("en:0:0:0", "en:0:0:1")
    relevant = {query: list(judged) for query, judged in one.qrels.items()}
    assert relevant == {
        "en:first": ["en:0:0:0"],
        "en:last of first": ["en:0:0:0"],
        "en:gap": ["en:0:0:0"],
        "en:second": ["en:0:0:1"],
        "en:past the end": ["en:0:0:1"],
    }
    assert one.query_texts[0] == "first what?"


def test_byte_order_marks_go_and_repeated_sentences_stay(tmp_path: Path) -> None:
    _write(tmp_path, "th", [[_paragraph(["\ufeffa  b ", "a b", ""], {"p": 6, "q": 7})]])
    one = load_lareqa(tmp_path)
    assert one.passage_texts == ("a b", "a b", "")
    # The mark counts in offsets: position 7 is the first letter of the second sentence.
    assert list(one.qrels["th:p"]) == ["th:0:0:0"]
    assert list(one.qrels["th:q"]) == ["th:0:0:1"]


def test_questions_are_matched_over_languages_by_id(tmp_path: Path) -> None:
    _write(tmp_path, "en", [[_paragraph(["a.", "b."], {"q1": 0, "q2": 3})]])
    _write(tmp_path, "de", [[_paragraph(["x."], {})], [_paragraph(["c. d."], {"q2": 0})]])
    one = load_lareqa(tmp_path, languages=["en", "de"])
    assert one.query_ids == ("en:q1", "en:q2", "de:q2")
    assert one.questions == ("q1", "q2", "q2")
    assert one.qrels["en:q2"] == one.qrels["de:q2"] == {"en:0:0:1": 1, "de:1:0:0": 1}
    assert one.qrels["en:q1"] == {"en:0:0:0": 1}
    assert set(one.tiers.values()) == {"seen"}
    assert load_lareqa(tmp_path, languages=["de"]).qrels == {"de:q2": {"de:1:0:0": 1}}


def _small_study(folder: Path) -> None:
    """Six articles; German holds them in another order, lacks one and cuts sentences otherwise."""
    english = [
        [_paragraph([f"s{i}a.", f"s{i}b."], {f"q{i}a": 0, f"q{i}b": 5, f"q{i}c": 6})] for i in range(6)
    ]
    german = [[_paragraph([f"t{i}a t{i}b."], {f"q{i}a": 0, f"q{i}b": 4})] for i in (5, 3, 2, 1, 0)]
    _write(folder, "en", english)
    _write(folder, "de", german)


def _articles(study: StudyData) -> dict[str, set[str]]:
    """The articles of each split, by the first two letters of their questions."""
    train = {pair.query[:2] for pair in study.train}
    dev, test = ({question[:2] for question in one.questions} for one in (study.dev, study.test))
    return {"train": train, "dev": dev, "test": test}


def test_a_study_splits_by_article_wherever_a_language_holds_it(tmp_path: Path) -> None:
    _small_study(tmp_path)
    study = load_lareqa_study(tmp_path, languages=["en", "de"])
    parts = _articles(study)
    assert sorted(article for part in parts.values() for article in part) == [f"q{i}" for i in range(6)]
    assert {split: len(part) for split, part in parts.items()} == {"train": 4, "dev": 1, "test": 1}
    (first, *_) = sorted(parts["test"])
    number = int(first[1])
    assert study.test.qrels[f"en:{first}c"] == {f"en:{number}:0:1": 1}
    german = {"q5": 0, "q3": 1, "q2": 2, "q1": 3, "q0": 4}
    wanted = {f"de:{german[article]}:0:0" for article in parts["test"] if article in german}
    assert {passage for passage in study.test.passage_ids if passage.startswith("de")} == wanted


@pytest.mark.parametrize("languages", [["en", "de"], ["en"], ["de"]])
def test_the_split_does_not_depend_on_the_languages_chosen(tmp_path: Path, languages: list[str]) -> None:
    _small_study(tmp_path)
    every = _articles(load_lareqa_study(tmp_path))
    some = _articles(load_lareqa_study(tmp_path, languages=languages))
    assert all(some[split] <= every[split] for split in every)


MLQA = {  # of each article, its languages; each question is in two to four of them, English among them
    "ar": range(8),
    "de": range(4, 30),
    "hi": range(20, 40),
    "en": range(40),
}


def _mlqa(folder: Path) -> None:
    """Forty articles aligned through English alone; Arabic has the first eight, in another order in every file."""
    for language, having in MLQA.items():
        articles = [
            [
                _paragraph(
                    [f"{language} context {i}."], {f"{i:02} {other}": 0 for other in MLQA if i in MLQA[other]}
                )
            ]
            if language == "en"
            else [_paragraph([f"{language} context {i}."], {f"{i:02} {language}": 0})]
            for i in (having if language != "ar" else reversed(having))
        ]
        _write(folder, language, articles)


def test_every_language_is_in_every_split(tmp_path: Path) -> None:
    _mlqa(tmp_path)
    study = load_lareqa_study(tmp_path)
    train = Counter(pair.query_lang for pair in study.train)
    for one in (study.dev, study.test):
        assert set(one.query_langs) == set(MLQA) == set(train)
    # of Arabic's eight articles about two thirds, a twelfth but at least one, a quarter
    arabic = [len({q[:2] for q, lang in zip(one.questions, one.query_langs, strict=True) if lang == "ar"})
              for one in (study.dev, study.test)]  # fmt: skip
    assert arabic == [1, 2]


@pytest.mark.parametrize("left_out", list(MLQA))
def test_no_article_is_on_both_sides_where_a_language_is_left_out(tmp_path: Path, left_out: str) -> None:
    """English aligns the others; without it their articles stay in the split that they are in with it."""
    _mlqa(tmp_path)
    every = _articles(load_lareqa_study(tmp_path))
    some = _articles(load_lareqa_study(tmp_path, languages=[code for code in MLQA if code != left_out]))
    assert all(some[split] <= every[split] for split in every)
    assert not some["train"] & (some["dev"] | some["test"])
    assert not some["dev"] & some["test"]


def test_one_context_in_two_articles_is_on_one_side(tmp_path: Path) -> None:
    articles = [[_paragraph([f"context {i % 10}."], {f"q{i:02}": 0})] for i in range(20)]
    _write(tmp_path, "en", articles)
    study = load_lareqa_study(tmp_path)
    sides = [{int(pair.query[1:3]) % 10 for pair in study.train}]
    sides += [{int(question[1:]) % 10 for question in one.questions} for one in (study.dev, study.test)]
    assert sum(map(len, sides)) == 10
    assert len(study.test.cluster_names) == 2 * len(set(study.test.cluster_names))


def test_questions_of_a_paragraph_are_a_cluster_in_all_languages(tmp_path: Path) -> None:
    _write(
        tmp_path,
        "en",
        [[_paragraph(["a. b."], {"p1": 0, "p2": 3}), _paragraph(["c."], {"r1": 0})]],
    )
    _write(tmp_path, "de", [[_paragraph(["x. y."], {"p2": 0}), _paragraph(["z."], {"r1": 0, "r2": 0})]])
    one = load_lareqa(tmp_path, languages=["en", "de"])
    assert dict(zip(one.questions, one.cluster_names, strict=True)) == {
        "p1": "p1",
        "p2": "p1",
        "r1": "r1",
        "r2": "r1",
    }


def test_questions_of_one_sentence_in_any_language_share_a_group(tmp_path: Path) -> None:
    _small_study(tmp_path)
    # In English qNa is apart from qNb and qNc; the one German sentence joins them, zero-shot or not.
    with_german = {f"q{i}" for i in (0, 1, 2, 3, 5)}
    for zero_shot in ((), ("de",)):
        study = load_lareqa_study(tmp_path, languages=["en", "de"], zero_shot=zero_shot)
        groups = {pair.query.split()[0]: pair.group for pair in study.train}
        articles = {question[:2] for question in groups} & with_german
        assert articles
        for article in articles:
            assert groups[f"{article}a"] == groups[f"{article}b"] == groups[f"{article}c"]
        assert len(set(groups.values())) == len({q[:2] for q in groups}) + ("q4a" in groups)
    alone = load_lareqa_study(tmp_path, languages=["en"])
    groups = {pair.query.split()[0]: pair.group for pair in alone.train}
    for article in {question[:2] for question in groups}:
        assert groups[f"{article}a"] != groups[f"{article}b"] == groups[f"{article}c"]


def test_scarce_languages_keep_few_questions_or_none(tmp_path: Path) -> None:
    _small_study(tmp_path)
    study = load_lareqa_study(tmp_path, languages=["en", "de"], low_resource=["de"], low_resource_items=2)
    german = [pair for pair in study.train if pair.query_lang == pair.passage_lang == "de"]
    assert len(german) == 2
    assert study.dev.tiers == {"de": "low-resource", "en": "seen"}
    study = load_lareqa_study(tmp_path, languages=["en", "de"], zero_shot=["de"])
    assert set(study.train.languages) == {"en"}
    assert "de" in study.test.query_langs


def test_bad_folders_languages_and_tiers_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing is not a folder"):
        load_lareqa(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"no LANGUAGE\.json"):
        load_lareqa(tmp_path)
    _write(tmp_path, "en", [[_paragraph(["a."], {"q": 0})]])
    with pytest.raises(ValueError, match="found 'fr', expected languages of"):
        load_lareqa(tmp_path, languages=["fr"])
    with pytest.raises(ValueError, match="no tier for language 'en'"):
        load_lareqa(tmp_path, tiers={})
    with pytest.raises(ValueError, match="1 articles"):
        load_lareqa_study(tmp_path)
    with pytest.raises(ValueError, match="no seen language"):
        load_lareqa_study(tmp_path, zero_shot=["en"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("context", None, r"en\.json: data\[0\]\.paragraphs\[0\]\.context: found null, expected str"),
        ("sentences", [], "sentences: expected one or more strings"),
        ("sentence_breaks", [[0, 2], [3, 5]], "sentence_breaks: found 2 entries, expected 1"),
        ("sentence_breaks", [[0]], r"sentence_breaks\[0\]: found \[0\]"),
        ("qas", [{"id": "q", "question": "w"}], r"qas\[0\]\.answers: missing"),
        ("qas", [{"id": "q", "question": "w", "answers": []}], r"qas\[0\]\.answers: found none"),
        (
            "qas",
            [{"id": "q", "question": "w", "answers": [{"answer_start": 99}]}],
            r"answers\[0\]\.answer_start: found 99",
        ),
        (
            "qas",
            [{"id": "q", "question": "w", "answers": [{"answer_start": True}]}],
            "answer_start: found bool, expected int",
        ),
        (
            "qas",
            [{"id": "q", "question": "w", "answers": [{"answer_start": 0}]}] * 2,
            "question id 'q' twice",
        ),
    ],
)
def test_malformed_files_are_named_to_the_field(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    _write(tmp_path, "en", [[_paragraph(["a."], {"q": 0}) | {key: value}]])
    with pytest.raises(ValueError, match=message):
        load_lareqa(tmp_path)


def test_falling_breaks_and_text_that_is_no_json_raise(tmp_path: Path) -> None:
    _write(tmp_path, "en", [[_paragraph(["a.", "b."], {}) | {"sentence_breaks": [[3, 5], [0, 2]]}]])
    with pytest.raises(ValueError, match="begins at 0, before 3"):
        load_lareqa(tmp_path)
    (tmp_path / "en.json").write_text("{")
    with pytest.raises(ValueError, match=r"en\.json: not UTF-8 JSON"):
        load_lareqa(tmp_path)
    (tmp_path / "en.json").write_text("[]")
    with pytest.raises(ValueError, match=r"en\.json: data: missing"):
        load_lareqa(tmp_path)


def test_xquad_r_has_the_published_counts(data_dir: Path) -> None:
    one = load_lareqa(data_dir / "xquad-r", name="xquad-r")
    assert Counter(one.passage_langs) == XQUAD_R
    assert len(one.passage_ids) == 13_014
    assert set(Counter(one.query_langs).values()) == {1190}
    assert all(len(judged) == 11 for judged in one.qrels.values())
    assert all(text == " ".join(text.split()) and text for text in one.passage_texts)
    assert not any("\ufeff" in text for text in one.passage_texts)


def test_xquad_r_study_follows_the_articles(data_dir: Path) -> None:
    study = load_lareqa_study(data_dir / "xquad-r", low_resource=["th"], zero_shot=["el", "vi"])
    articles = [
        {int(passage.split(":")[1]) for passage in one.passage_ids} for one in (study.dev, study.test)
    ]
    assert [len(part) for part in articles] == [4, 12]
    assert not articles[0] & articles[1]
    fewer = load_lareqa_study(data_dir / "xquad-r", languages=["ar", "de"])
    assert set(fewer.test.questions) == set(study.test.questions)
    clusters = set(study.test.cluster_names)
    assert 50 < len(clusters) < len(set(study.test.questions)) / 3  # about five questions a paragraph
    assert {"el", "vi"}.isdisjoint(study.train.languages)
    train = study.train
    thai = train.languages.index("th")
    assert int(((train.query_langs == thai) & (train.passage_langs == thai)).sum()) == 48
    assert not {pair.query for pair in train[::11]} & set(study.test.query_texts)
    # Two questions whose answers are one sentence never meet as negatives, in any language.
    groups: dict[int, int] = {}
    for passage, group in zip(train.passage_index.tolist(), train.groups.tolist(), strict=True):
        assert groups.setdefault(passage, group) == group
