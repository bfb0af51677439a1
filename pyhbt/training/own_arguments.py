"""What a training makes of the Trainer's arguments: what hybrid batches need, epochs as steps, intervals as asked."""

from __future__ import annotations

import copy
import math
import os
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from pyhbt.data.pair_set import PairSet
from pyhbt.training.sampling import steps_of_epoch


def own_arguments(args: TrainingArguments, pairs: PairSet) -> TrainingArguments:
    """A copy with what hybrid batches need, and with ``max_steps``.

    Raises:
        ValueError: it does not join the processes that torchrun started.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != args.world_size:
        raise ValueError(
            f"args: found world_size {args.world_size} in one of {launched} processes, expected them to be joined; "
            "on CPUs that takes use_cpu=True"
        )
    args = copy.copy(args)
    args.accelerator_config = copy.deepcopy(args.accelerator_config)  # the Trainer writes into it
    args.remove_unused_columns = False
    args._n_gpu = min(args.n_gpu, 1)  # one process feeds one GPU: a batch in parts has other negatives
    if args.ddp_find_unused_parameters is None:
        args.ddp_find_unused_parameters = False  # the Trainer's default for models not its own costs a walk
    if args.max_steps <= 0:
        args.max_steps = math.ceil(args.num_train_epochs * updates_of_epoch(args, pairs))
    return args


def updates_of_epoch(args: TrainingArguments, pairs: PairSet) -> int:
    """Updates of the weights in an epoch: whole ones, in which every distinct query can be drawn once."""
    steps = steps_of_epoch(pairs, args.per_device_train_batch_size * args.world_size)
    return math.ceil(steps / args.gradient_accumulation_steps)


class IntervalsAsAsked(TrainerCallback):
    """A resumed training logs, evaluates and saves as often as it is told now, not as the checkpoint was."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the intervals of the state anew."""
        state.compute_steps(args, state.max_steps)  # type: ignore[no-untyped-call]
