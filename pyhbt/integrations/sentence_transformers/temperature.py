"""A temperature that may be learned: the same on all ranks, and kept over checkpoints.

sentence-transformers' trainer optimises the parameters of a loss, but wraps only the model for several ranks and saves
only the model; both are made up for here.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pyhbt.training.distributed import total, world_size
from pyhbt.training.objectives import MIN_TEMPERATURE

_KEY = "pyhbt.TemperatureCallback"


class Temperature(nn.Module):
    """A number, or a parameter of one element that holds its logarithm, never below 0.01 (arXiv:2103.00020, 2.5).

    The gradient of a parameter is the mean over the ranks, one all-reduce of a number for each backward pass.
    """

    def __init__(self, value: float, *, learnable: bool) -> None:
        super().__init__()
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"temperature: found {value}, expected a finite number above 0")
        self._constant = None if learnable else float(value)
        if learnable:
            # "bias" in its name keeps the trainer's weight decay away, which would pull it towards temperature 1.
            self._lowest = min(math.log(MIN_TEMPERATURE), math.log(value))
            self.log_bias = nn.Parameter(torch.tensor(math.log(value), dtype=torch.float32))

    @property
    def learnable(self) -> bool:
        """Whether there is a parameter."""
        return self._constant is None

    def forward(self) -> float | Tensor:
        """The temperature: a float, or a scalar tensor with gradient."""
        if self._constant is not None:
            return self._constant
        with torch.no_grad():
            self.log_bias.clamp_(min=self._lowest)
        mean: Tensor = _MeanOverRanks.apply(self.log_bias)  # type: ignore[no-untyped-call]
        return mean.exp()

    def value(self) -> float:
        """The temperature as a float."""
        if self._constant is not None:
            return self._constant
        return math.exp(max(float(self.log_bias.detach()), self._lowest))


class TemperatureCallback(TrainerCallback):
    """Keeps a learnable temperature in the trainer's checkpoints and takes it from there on resume.

    Args:
        loss: a :class:`FusedInBatchLoss` with ``learnable_temperature``, or a loss that holds one.

    Raises:
        ValueError: ``loss`` holds no learnable temperature, or several.
    """

    def __init__(self, loss: nn.Module) -> None:
        found = {
            id(part): part for part in loss.modules() if isinstance(part, Temperature) and part.learnable
        }
        if len(found) != 1:
            raise ValueError(f"loss: found {len(found)} learnable temperatures, expected 1")
        self._temperature = next(iter(found.values()))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Restore what the checkpoint holds, if the training resumes from one that does."""
        kept = _states(state).get(_KEY)
        if kept is not None:
            with torch.no_grad():
                self._temperature.log_bias.fill_(kept["attributes"]["log_temperature"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Write the temperature into the state that is saved with a checkpoint."""
        if control.should_save:
            value = float(self._temperature.log_bias.detach())
            _states(state)[_KEY] = {"args": {}, "attributes": {"log_temperature": value}}

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Likewise, where checkpoints come by epoch."""
        self.on_step_end(args, state, control)


def _states(state: TrainerState) -> dict[str, Any]:
    """States of callbacks by name, which the trainer saves as JSON; declared as a list, but a dict once made."""
    return cast("dict[str, Any]", state.stateful_callbacks)


class _MeanOverRanks(torch.autograd.Function):
    """The identity, whose gradient is averaged over the ranks."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return total(gradient) / world_size()
