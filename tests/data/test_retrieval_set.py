"""The checks of retrieval sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pyhbt.data.retrieval_set import RetrievalSet


def _fields(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": "tiny",
        "query_ids": ("q1", "q2"),
        "query_texts": ("a", "b"),
        "query_langs": ("en", "fr"),
        "questions": ("g", "g"),
        "passage_ids": ("p1",),
        "passage_texts": ("c",),
        "passage_langs": ("en",),
        "qrels": {"q1": {"p1": 1}},
        "tiers": {"en": "seen", "fr": "zero-shot"},
    }
    return fields | changes


def test_a_consistent_retrieval_set_knows_its_languages() -> None:
    assert RetrievalSet(**_fields()).languages == ("en", "fr")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_ids": ("q1", "q1")}, "query_ids: 2 given, only 1 distinct"),
        ({"passage_texts": ()}, "passage_texts: 0 entries, expected 1"),
        ({"questions": ("g",)}, "questions: 1 entries, expected 2"),
        ({"qrels": {"q9": {}}}, "qrels: query 'q9'"),
        ({"qrels": {"q1": {"p9": 1}}}, "qrels: passage 'p9' of query 'q1'"),
        ({"tiers": {"en": "seen"}}, "tiers: no tier for language 'fr'"),
        ({"tiers": {"en": "seen", "fr": "rare"}}, "tiers: found 'rare' for 'fr'"),
    ],
)
def test_an_inconsistent_retrieval_set_raises(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetrievalSet(**_fields(**changes))


def test_questions_under_their_former_name() -> None:
    fields = _fields()
    fields["query_groups"] = fields.pop("questions")
    with pytest.warns(DeprecationWarning, match="query_groups is called questions now"):
        data = RetrievalSet(**fields)
    with pytest.warns(DeprecationWarning, match="query_groups is called questions now"):
        assert data.query_groups == data.questions == ("g", "g")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("query_ids", "q", "query_ids: found str, expected a tuple of strings"),
        ("passage_texts", [1], r"passage_texts\[0\]: found int, expected a string"),
        ("passage_langs", None, "passage_langs: found NoneType"),
        ("clusters", "c", "clusters: found str"),
        ("qrels", [], "qrels: found list, expected a mapping"),
        ("tiers", ("seen",), "tiers: found tuple, expected a mapping"),
        ("name", 5, "name: found int, expected a string"),
    ],
)
def test_values_of_other_types_are_refused_by_name(name: str, value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        RetrievalSet(**_fields(**{name: value}))


def test_the_former_name_of_questions_replaces_them() -> None:
    with pytest.warns(DeprecationWarning, match="query_groups is called questions now"):
        one = replace(RetrievalSet(**_fields()), query_groups=("a", "b"))
    assert one.questions == ("a", "b")
