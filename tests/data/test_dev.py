"""Samples of a dev set and questions set apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.data.dev import sampled, split_questions
from pyhbt.data.retrieval_set import RetrievalSet
from tests.toy import retrieval_set


def clustered(items: int, size: int) -> RetrievalSet:
    """A set whose questions lie in clusters of ``size``."""
    data = retrieval_set(items)
    return replace(data, clusters=tuple(f"c{int(question[4:]) // size}" for question in data.questions))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 25), st.integers(1, 25))
def test_a_sample(items: int, size: int, questions: int, passages: int) -> None:
    data = clustered(items, size)
    part = sampled(data, questions, passages)
    kept = set(part.questions)
    assert 1 <= len(kept) <= max(questions, size)
    for cluster in set(part.cluster_names):  # whole ones
        members = {q for q, c in zip(data.questions, data.cluster_names, strict=True) if c == cluster}
        assert members <= kept
    for query in part.query_ids:  # all that is relevant
        assert set(part.qrels[query]) == set(data.qrels[query])
    counts = Counter(part.passage_langs)
    assert all(counts[language] == min(items, max(passages, len(kept))) for language in ("aa", "bb", "cc"))
    assert part.tiers == data.tiers
    assert sampled(data, questions, passages) == part


def test_all_of_a_small_set_is_itself() -> None:
    data = retrieval_set(5)
    assert sampled(data, 5, 5) is data


def test_samples_grow() -> None:
    data = retrieval_set(30)
    small, large = sampled(data, 5, 10), sampled(data, 12, 20)
    assert set(small.questions) < set(large.questions)
    assert set(small.passage_ids) < set(large.passage_ids)


@pytest.mark.parametrize(("questions", "passages"), [(0, 1), (1, 0)])
def test_an_empty_sample_is_refused(questions: int, passages: int) -> None:
    with pytest.raises(ValueError, match=r"(questions|passages_per_language): found 0"):
        sampled(retrieval_set(3), questions, passages)


@settings(deadline=None, max_examples=40)
@given(st.integers(5, 30), st.integers(1, 4), st.floats(0.05, 0.95))
def test_questions_set_apart(items: int, size: int, share: float) -> None:
    data = clustered(items, size)
    first, second = split_questions(data, share, "salt")
    one, other = set(first.cluster_names), set(second.cluster_names)
    assert not one & other
    assert one | other == set(data.cluster_names)
    assert one
    if len(set(data.cluster_names)) > 1:
        assert other
        assert abs(len(one) - share * len(one | other)) <= 1
    for part in (first, second):
        assert part.passage_ids == data.passage_ids
        assert all(part.qrels[query] == data.qrels[query] for query in part.query_ids)
    assert sorted(first.query_ids + second.query_ids) == sorted(data.query_ids)


def test_salts_differ() -> None:
    data = retrieval_set(40)
    assert split_questions(data, 0.5, "a")[0].questions != split_questions(data, 0.5, "b")[0].questions


def test_a_single_cluster_is_in_both() -> None:
    data = retrieval_set(1)
    assert split_questions(data, 0.25, "salt") == (data, data)


@pytest.mark.parametrize("share", [0, 1, -0.5, float("nan")])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ValueError, match="share: found"):
        split_questions(retrieval_set(3), share, "salt")
