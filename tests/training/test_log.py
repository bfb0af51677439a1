"""The tally between two logs: means by kind and term, examples a second, states that go on exactly."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.training import log
from pyhbt.training.log import Tally

LOSSES = st.floats(-1e6, 1e6, width=32)
BATCHES = st.lists(st.tuples(st.booleans(), LOSSES, st.one_of(st.none(), LOSSES)), max_size=9)


def add(tally: Tally, batches: list[tuple[bool, float, float | None]]) -> None:
    for cross, loss, term in batches:
        terms = {} if term is None else {"js": torch.tensor(term)}
        tally.add(cross, torch.tensor(loss), terms, 8)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_nothing_is_told_of_no_batch(clock: Clock) -> None:
    tally = Tally()
    assert tally.drain() == {}
    tally.begin()
    clock.now += 5
    assert tally.drain() == {}


@given(BATCHES.filter(bool))
def test_means_in_float64(batches: list[tuple[bool, float, float | None]]) -> None:
    """Up to float32's rounding of a sum of nine."""
    tally = Tally()
    add(tally, batches)
    found = tally.drain()
    by_name = {
        "loss": [loss for _, loss, _ in batches],
        "loss_monolingual": [loss for cross, loss, _ in batches if not cross],
        "loss_cross_lingual": [loss for cross, loss, _ in batches if cross],
        "loss_js": [term for _, _, term in batches if term is not None],
    }
    largest = max(abs(value) for values in by_name.values() for value in values)
    for name, values in by_name.items():
        assert (name in found) == bool(values)
        if values:
            mean = float(np.mean(np.array(values, np.float64)))
            assert found[name] == pytest.approx(
                mean, abs=9 * 2**-24 * largest + 2**-149
            )  # or a step of the least numbers
    assert found["cross_lingual_share"] == sum(cross for cross, _, _ in batches) / len(batches)
    assert "examples_per_second" not in found  # time never began


def test_what_was_told_is_gone(clock: Clock) -> None:
    tally = Tally()
    add(tally, [(True, 4.0, 1.0)])
    assert tally.drain() == {
        "loss": 4.0,
        "loss_cross_lingual": 4.0,
        "loss_js": 1.0,
        "cross_lingual_share": 1.0,
    }
    assert tally.drain() == {}
    add(tally, [(False, 2.0, None)])
    assert tally.drain() == {"loss": 2.0, "loss_monolingual": 2.0, "cross_lingual_share": 0.0}


def test_examples_a_second(clock: Clock) -> None:
    tally = Tally()
    tally.begin()
    clock.now += 3
    tally.begin()  # of a later batch: time goes on
    add(tally, [(True, 1.0, None)] * 2)
    clock.now += 1
    assert tally.drain()["examples_per_second"] == 2 * 8 / 4
    clock.now += 2
    add(tally, [(True, 1.0, None)])
    assert tally.drain()["examples_per_second"] == 8 / 2  # since the last log
    add(tally, [(True, 1.0, None)])
    assert "examples_per_second" not in tally.drain()  # no time has passed


def test_seconds_that_are_left_out(clock: Clock) -> None:
    tally = Tally()
    tally.leave_out(50.0)  # before the first batch: nothing to take from
    tally.begin()
    clock.now += 10
    tally.leave_out(6.0)
    add(tally, [(False, 1.0, None)])
    assert tally.drain()["examples_per_second"] == 8 / 4
    clock.now += 5
    tally.leave_out(5.0)
    add(tally, [(False, 1.0, None)])
    assert "examples_per_second" not in tally.drain()


@given(BATCHES, BATCHES)
def test_a_restored_tally_goes_on_exactly(
    before: list[tuple[bool, float, float | None]], after: list[tuple[bool, float, float | None]]
) -> None:
    whole, first, second = Tally(), Tally(), Tally()
    add(whole, before)
    add(first, before)
    add(second, [(True, 1.0, 1.0)])  # is replaced
    second.restore(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    add(whole, after)
    add(second, after)
    assert second.drain() == whole.drain()


def test_a_state_is_numbers() -> None:
    tally = Tally()
    assert tally.state() == {"losses": [], "terms": {}}
    add(tally, [(True, 0.5, 2.0), (False, 0.25, None)])
    assert tally.state() == {"losses": [[True, 0.5], [False, 0.25]], "terms": {"js": [2.0]}}
    tally.drain()
    assert tally.state() == {"losses": [], "terms": {}}


def test_losses_stay_tensors_until_they_are_told() -> None:
    """A batch must not wait for the device: the value is read at the log."""
    tally, loss = Tally(), torch.tensor(1.0)
    tally.add(True, loss, {}, 1)
    loss.fill_(3.0)
    assert tally.drain()["loss"] == 3.0
