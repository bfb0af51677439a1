"""Epochs of a training whose sampler spans all of it: how long one is, and where its pass over the batches begins.

An epoch is as many steps as draw every distinct query once, rounded up to whole updates of accumulated gradients.
Batches are numbered through the training, not the epoch: where a pass begins follows from the updates done and from
nothing else, so a resumed training goes on with the batch that an uninterrupted one would have had.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from pyhbt.training.batches import Draws


class Epochs(TrainerCallback):
    """Tells ``draws`` at every epoch where its pass begins.

    The Trainer drops the batches of a resumed epoch that are done; they come without pairs, so that this costs next to
    nothing. An epoch that a callback ended early is followed by one that begins at the next batch.
    """

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._first = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The epoch that comes is the one that a resumed training is in."""
        self._first = True

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin after the batches that are done."""
        done = state.global_step * args.gradient_accumulation_steps
        self._draws.begin(done, done % self._draws.epoch_steps if self._first else 0)
        self._first = False
