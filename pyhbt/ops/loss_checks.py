"""What the contrastive loss on a CUDA device refuses by its value, where to look is to wait for the device."""

from __future__ import annotations

import torch

from pyhbt.ops import checks


def capturing(x: torch.Tensor) -> bool:
    """Whether launches on the tensor's device go into a CUDA graph, in which nothing may wait."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def refuse_capture(x: torch.Tensor) -> None:
    """Says what CUDA would say without a reason, of torch code that waits for the device.

    Raises:
        RuntimeError: a CUDA graph is being captured.
    """
    if capturing(x):
        raise RuntimeError(
            "contrastive_loss: found a CUDA graph being captured, expected none where our kernels do not run "
            "(float64, or a warning has said why): torch code waits for the device"
        )


def unread_temperature(temperature: torch.Tensor) -> float | torch.Tensor:
    """A temperature () as the kernels take it: a number, or () float64 on the device, which nobody has looked at.

    Raises:
        ValueError: a number that lies on the CPU is not finite or not above 0.
    """
    value = temperature.detach()
    if value.is_cuda:
        return value.double()
    number = float(value)
    checks.check_finite_positive(number, "temperature")
    return number


def check_refused(
    refused: torch.Tensor, positives: torch.Tensor | None, temperature: torch.Tensor, num_passages: int
) -> None:
    """Raises what the kernels found wrong with positives and temperature: one look at the device, or none.

    There is nothing to look at for default positives and a number, which are right; and while a CUDA graph is
    captured none may be taken. The kernels answer with NaN then: in rows whose positive is no passage, everywhere for
    a bad temperature; positives below -1 count as -1.

    Args:
        refused: (2,) int32, whether a positive is bad, and whether the temperature is.
        positives: (n,) int64, or None: 0, 1, ....

    Raises:
        ValueError: names the first bad row, or the temperature.
    """
    if capturing(refused) or (positives is None and not temperature.is_cuda):
        return
    bad_positive, bad_temperature = refused.tolist()
    if bad_positive and positives is not None:
        checks.check_indices(positives, "positives", num_passages, "passages")
    if bad_temperature:
        checks.check_finite_positive(float(temperature.detach()), "temperature")
