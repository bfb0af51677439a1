"""A batch size that the data cannot fill is said before the training, with both numbers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.training.sampling import HybridBatchSampler
from pyhbt.training.trainer import HybridTrainer
from pyhbt.training.unfilled import unfilled_in_words
from tests.training.test_exposure import pairs_of
from tests.training.test_trainer import arguments, small_ngram

PAIRS = pairs_of({("aa", "aa"): 30, ("bb", "bb"): 5, ("aa", "bb"): 12, ("bb", "aa"): 3})


def said(pairs: PairSet, size: int, **options: Any) -> str | None:
    return unfilled_in_words(HybridBatchSampler(pairs, size, steps=40, **options))


def test_both_numbers_and_the_languages() -> None:
    assert said(PAIRS, 3) is None
    assert said(PAIRS, 16) == (
        "batch_size: found 16, but fewer pairs may share a batch of bb-aa 3, bb 5, aa-bb 12: these batches are short, "
        "with fewer negatives"
    )
    assert said(PAIRS, 16, ratio=0) == (
        "batch_size: found 16, but fewer pairs may share a batch of bb 5: these batches are short, with fewer negatives"
    )
    text = said(PAIRS, 5, ratio="linear:0.5:1", num_ranks=2)
    assert text is not None
    assert text.startswith(
        "batch_size: found 5 on each of 2 ranks (10), but fewer pairs may share a batch of bb-aa 3,"
    )


def test_many_languages_are_one_line() -> None:
    names = ["aa", "bb", "cc", "dd", "ee", "ff", "gg"]
    text = said(pairs_of({(name, name): place + 1 for place, name in enumerate(names)}), 64, ratio=0)
    assert text is not None
    assert "aa 1, bb 2, cc 3, dd 4, ee 5 and 2 others:" in text


def test_pairs_of_one_group_do_not_share_a_batch() -> None:
    pairs = PairSet.from_pairs(Pair(f"q{i}", f"p{i}", "aa", "aa", f"g{i % 3}") for i in range(12))
    assert "aa 3" in str(said(pairs, 4, ratio=0))
    assert said(pairs, 3, ratio=0) is None
    assert said(pairs, 4, ratio=0, false_negatives="masked") is None


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 8), st.integers(1, 3), st.sampled_from(["single", "mixed"]), st.integers(0, 5), st.data()
)
def test_no_batch_holds_more_than_was_said(
    size: int, ranks: int, cross: Any, seed: int, data: st.DataObject
) -> None:
    """Without groups in common, silence means that every batch is full."""
    sizes = {
        key: data.draw(st.integers(1, 12)) for key in [("aa", "aa"), ("bb", "bb"), ("aa", "bb"), ("bb", "aa")]
    }
    sampler = HybridBatchSampler(
        pairs_of(sizes),
        size,
        steps=30,
        seed=seed,
        cross_pairs=cross,
        num_ranks=ranks,
        language_sampling="size",
    )
    held = [len({row for part in sampler.at(step) for row in part}) for step in range(30)]
    if unfilled_in_words(sampler) is None:
        assert set(held) == {size * ranks}
    elif min(sizes.values()) < size * ranks and cross == "single":
        assert f"found {size}" in str(unfilled_in_words(sampler))


def test_the_trainer_warns_once_and_is_quiet_where_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="pyhbt"):
        HybridTrainer(small_ngram(), arguments(tmp_path, max_steps=2, log_level="warning"), PAIRS)
    assert [record.getMessage() for record in caplog.records] == [said(PAIRS, 8)]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="pyhbt"):
        HybridTrainer(small_ngram(), arguments(tmp_path, max_steps=2, log_level="error"), PAIRS)
        few = arguments(tmp_path, max_steps=2, per_device_train_batch_size=3, log_level="warning")
        HybridTrainer(small_ngram(), few, PAIRS)
    assert caplog.records == []
