"""What the loss refuses by its value, and when it looks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pyhbt.ops.loss_checks import capturing, check_refused, refuse_capture, unread_temperature


class OnDevice:
    """Stands for a tensor there."""

    is_cuda = True

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def detach(self) -> OnDevice:
        return self

    def double(self) -> torch.Tensor:
        return self.tensor.double()

    def tolist(self) -> Any:
        return self.tensor.tolist()

    def __float__(self) -> float:
        return float(self.tensor)


def on_device(*numbers: float) -> Any:
    return OnDevice(torch.tensor(numbers if len(numbers) > 1 else numbers[0]))


@pytest.fixture(params=[False, True])
def captured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: request.param)
    return bool(request.param)


def test_a_number_is_refused_at_once() -> None:
    assert unread_temperature(torch.tensor(0.5)) == 0.5
    with pytest.raises(ValueError, match=r"temperature: found -0\.5, expected a finite number above 0"):
        unread_temperature(torch.tensor(-0.5))


def test_a_temperature_on_the_device_is_not_read() -> None:
    found = unread_temperature(on_device(-0.5))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float64


def test_nothing_is_looked_at_where_all_is_known() -> None:
    check_refused(torch.tensor([1, 1]), None, torch.tensor(0.5), 3)


def test_bad_positives() -> None:
    with pytest.raises(ValueError, match="positives: found 3 in row 1, expected -1 or an index below 3"):
        check_refused(torch.tensor([1, 0]), torch.tensor([0, 3]), torch.tensor(0.5), 3)
    check_refused(torch.tensor([0, 0]), torch.tensor([0, 2]), torch.tensor(0.5), 3)


def test_a_bad_temperature_on_the_device(captured: bool) -> None:
    assert capturing(on_device(0.5)) == captured
    assert not capturing(torch.tensor(0.5))
    refused, temperature = on_device(0, 1), on_device(-2.0)
    if captured:
        check_refused(refused, None, temperature, 3)
        return
    with pytest.raises(ValueError, match=r"temperature: found -2\.0"):
        check_refused(refused, None, temperature, 3)


def test_torch_code_cannot_be_captured(captured: bool) -> None:
    if not captured:
        refuse_capture(on_device(0.5))
        return
    with pytest.raises(RuntimeError, match="found a CUDA graph being captured"):
        refuse_capture(on_device(0.5))
