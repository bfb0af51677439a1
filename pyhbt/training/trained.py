"""What the optimizer and DDP see of a training: the encoder, and the temperature where it is learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from pyhbt.encoders import Encoder, Features
from pyhbt.training.objectives import MIN_TEMPERATURE, Objective


class Trained(nn.Module):
    """An encoder with the temperature of an objective."""

    def __init__(self, encoder: Encoder, objective: Objective) -> None:
        super().__init__()
        self.encoder = encoder
        self._fixed_temperature = objective.temperature
        self.log_temperature: nn.Parameter | None = None
        if objective.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(objective.temperature)))

    def temperature(self) -> Tensor | float:
        """The temperature: a scalar with graph to the parameter, or the fixed number."""
        if self.log_temperature is None:
            return self._fixed_temperature
        return self.log_temperature.exp()

    def clamp_temperature(self) -> None:
        """Bring a learnt temperature back to its least value, if a step went below."""
        if self.log_temperature is not None:
            with torch.no_grad():
                self.log_temperature.clamp_(min=math.log(MIN_TEMPERATURE))

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Called by the Trainer: of the encoder's transformer."""
        cast(Any, self.encoder.backbone).activation_checkpointing_enable(**options)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """The same in transformers before 5.23."""
        cast(Any, self.encoder.backbone).gradient_checkpointing_enable(**options)

    def get_input_embeddings(self) -> nn.Module:
        """Called by the Trainer: the token embeddings, to which NEFTune adds noise."""
        embeddings: nn.Module = cast(Any, self.encoder.backbone).get_input_embeddings()
        return embeddings

    def forward(self, mini_batches: Sequence[Features]) -> tuple[Tensor, Tensor | float]:
        """Vectors of all mini-batches in a row, and the temperature."""
        return self.encoder(mini_batches), self.temperature()
