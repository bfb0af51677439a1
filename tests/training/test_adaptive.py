"""The adaptive ratio: the controller's law and bounds, dev losses, the sampler's plan, a training that follows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import load_encoder
from pyhbt.training.adaptive import DevLosses, RatioController
from pyhbt.training.sampling import HybridBatchSampler
from pyhbt.training.trainer import HybridTrainer
from tests.toy import parallel_items, save_tiny_bert
from tests.training.test_trainer import PAIRS, arguments, small_ngram

DEV = PairSet.from_parallel(parallel_items(12, ("aa", "bb"), seed=9))
LOSS = st.floats(1e-6, 1e6)


def test_the_law() -> None:
    controller = RatioController(0.2, 0.8, gain=2.0, smoothing=0.5)
    assert controller.next(0.5, 1.0, 1.0) == 0.5  # equal losses hold the middle
    assert controller.next(0.8, 1.0, 1.0) == pytest.approx(0.65)  # and come back to it, by half each time
    # gap (1.5 - 1) / 2.5 = 0.2: aim 0.5 + 0.3 * 0.4 = 0.62
    assert controller.next(0.5, 1.0, 1.5) == pytest.approx(0.56)
    assert controller.next(0.5, 1.5, 1.0) == pytest.approx(0.44)
    assert controller.next(0.5, 0.0, 1.0) == pytest.approx(0.65)  # beyond 1 / gain: aims at the bound
    for losses in ((0.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))):
        assert controller.next(0.7, *losses) == 0.7


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 0.9), LOSS, LOSS, st.floats(0.01, 100), st.floats(0.01, 1))
def test_bounds_and_direction(ratio: float, mono: float, cross: float, gain: float, smoothing: float) -> None:
    controller = RatioController(0.1, 0.9, gain, smoothing)
    moved = controller.next(ratio, mono, cross)
    assert 0.1 <= moved <= 0.9
    assert controller.next(ratio, mono, cross * 2 + 1e-9) >= moved - 1e-12  # worse at cross: more of it
    for _ in range(2000):
        ratio = controller.next(ratio, 1.0, 3.0)
    assert ratio == pytest.approx(0.5 + 0.4 * min(1.0, gain * 0.5), abs=1e-3)  # settles, does not wind up


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0.5, "high": 0.5}, "low, high: found 0.5, 0.5"),
        ({"low": -0.1, "high": 0.5}, "low, high: found -0.1, 0.5"),
        ({"low": 0.0, "high": 1.0, "gain": 0.0}, "gain: found 0.0"),
        ({"low": 0.0, "high": 1.0, "smoothing": 1.5}, "smoothing: found 1.5"),
    ],
)
def test_controller_errors(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RatioController(**options)


def test_dev_losses_leave_the_training_alone(tmp_path: Path) -> None:
    encoder = load_encoder(save_tiny_bert(tmp_path)).train()
    losses = DevLosses(DEV, 6, encoder, 0.05)
    state = torch.get_rng_state()
    first = losses(encoder)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert losses(encoder) == first  # dropout is off
    assert first[0] > 0
    assert first[1] > 0
    mono = PairSet.from_parallel(parallel_items(5, ("aa",)))
    with pytest.raises(ValueError, match="no pair joins two of the languages"):
        DevLosses(mono, 4, encoder, 0.05)


def test_a_change_keeps_earlier_batches() -> None:
    changed, plain = (HybridBatchSampler(PAIRS, 4, ratio="adaptive:0:1", steps=200, seed=3) for _ in range(2))
    assert plain.ratio(0) == 0.5
    changed.set_ratio(1.0, 100)
    assert [changed.at(step) for step in range(100)] == [plain.at(step) for step in range(100)]
    assert {changed.kind(step) for step in range(100, 200)} == {"cross-lingual"}
    changed.set_ratio(0.0, 150)
    assert {changed.kind(step) for step in range(150, 200)} == {"monolingual"}
    assert (changed.ratio(99), changed.ratio(149), changed.ratio(150)) == (0.5, 1.0, 0.0)
    again = HybridBatchSampler(PAIRS, 4, ratio="adaptive:0:1", steps=200, seed=3)
    again.ratio_changes = changed.ratio_changes
    assert [again.at(step) for step in range(200)] == [changed.at(step) for step in range(200)]
    changed.set_ratio(0.3, 1000)  # beyond the end: no batch


def test_set_ratio_errors() -> None:
    with pytest.raises(ValueError, match="ratio: found 0.5, expected what 0.5 allows"):
        HybridBatchSampler(PAIRS, 4, ratio=0.5, steps=9).set_ratio(0.5, 3)
    sampler = HybridBatchSampler(PAIRS, 4, ratio="adaptive:0.2:0.8", steps=9)
    with pytest.raises(ValueError, match=r"ratio: found 0.9, expected what adaptive:0.2:0.8 allows"):
        sampler.set_ratio(0.9, 3)
    sampler.set_ratio(0.8, 5)
    with pytest.raises(ValueError, match="from_step: found 4, expected at least 5"):
        sampler.set_ratio(0.8, 4)


def test_training_follows_the_dev_losses(tmp_path: Path) -> None:
    trainer = HybridTrainer(
        small_ngram(),
        arguments(tmp_path, max_steps=40, logging_steps=4),
        PAIRS,
        ratio="adaptive:0.1:0.9",
        dev_pairs=DEV,
        adapt_every=4,
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "ratio" in row]
    assert len(rows) == 10
    controller = RatioController(0.1, 0.9)
    ratio = 0.5
    for number, row in enumerate(rows, start=1):
        ratio = controller.next(ratio, row["dev_loss_monolingual"], row["dev_loss_cross_lingual"])
        assert row["ratio"] == pytest.approx(ratio, abs=1e-6)
        assert trainer.sampler.ratio_changes[number - 1] == (4 * number + 1, pytest.approx(ratio, abs=1e-6))
    assert ratio > 0.5  # translations of words are harder than the words themselves
    with pytest.raises(ValueError, match="dev_pairs: found None"):
        HybridTrainer(small_ngram(), arguments(tmp_path), PAIRS, ratio="adaptive:0.1:0.9")
    with pytest.raises(ValueError, match="adapt_every: found -1"):
        HybridTrainer(
            small_ngram(),
            arguments(tmp_path),
            PAIRS,
            ratio="adaptive:0.1:0.9",
            dev_pairs=DEV,
            adapt_every=-1,
        )
