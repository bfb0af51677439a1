"""Where a trainer is with its run: the record it is compared by, what its batches held, and its card."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments

from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder
from pyhbt.training.checkpoints import CheckpointError
from pyhbt.training.exposure import CountedDraws, Exposure, TextLengths
from pyhbt.training.fingerprint import facts_of_encoder, fingerprint_of_pairs
from pyhbt.training.model_card import CardFacts, facts_of
from pyhbt.training.record import (
    RECORD,
    RunNames,
    RunRecord,
    check_resume,
    extension_in_words,
    warn_of_environment,
)

logger = logging.getLogger(__name__)


class RunState:
    """The run that a trainer is on.

    Args:
        encoder: that is trained.
        pairs: of the training.
        options: that decide the outcome beside pairs, encoder and number of steps, by name; plain values, with
            ``ratio``, ``batch_size`` and ``num_ranks``.
        names: for the card.
        lengths: tokens of the pairs' texts, where tokens are counted.
    """

    def __init__(
        self,
        encoder: Encoder,
        pairs: PairSet,
        options: Mapping[str, Any],
        names: RunNames | None,
        lengths: TextLengths | None = None,
    ) -> None:
        self._encoder = encoder
        self._pairs = pairs
        self._options = options
        self._names = RunNames() if names is None else names
        self._lengths = lengths
        self._of_pairs: dict[str, Any] | None = None
        self._of_encoder: dict[str, Any] | None = None
        self._record: RunRecord | None = None
        self._extended = False
        self._best_step: int | None = None
        self.counted = self._uncounted()

    def _uncounted(self) -> CountedDraws:
        size = self._options["batch_size"] * self._options["num_ranks"]
        return CountedDraws(Exposure(size, self._pairs, self._lengths))

    def restore_exposure(self, state: Mapping[str, Any]) -> None:
        """What the batches so far held, from its state."""
        self.counted = CountedDraws(Exposure.restore(state, self._pairs, self._lengths))

    def begin(self, args: TrainingArguments) -> None:
        """A run begins, with the encoder as it is now. Cost: see :mod:`pyhbt.training.fingerprint`."""
        self._of_encoder = None
        self._record = self._given(args)
        self._forget()

    def go_on(self, checkpoint: Path, args: TrainingArguments, *, extend: bool) -> None:
        """The run of a checkpoint goes on, with more steps where ``extend`` says so.

        Raises:
            CheckpointError: the checkpoint has no record.
            RunDiffersError: it is of another run.
        """
        file = checkpoint / RECORD
        if not file.is_file():
            raise CheckpointError(
                f"{checkpoint}: found no {RECORD}, expected the record of its run (checkpoints before 0.2 have none, "
                "nothing can be compared): train anew, or begin another run with the checkpoint as its encoder"
            )
        run = RunRecord.read(file)
        found = self._given(args)
        check_resume(run, found, extend=extend, where=str(checkpoint))
        if args.process_index == 0:
            warn_of_environment(run, found, where=str(checkpoint))
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        self._record = run.going_on(state["global_step"], found)
        self._forget()
        self._extended = found.steps > run.steps

    def _forget(self) -> None:
        """What was known of a run before."""
        self.counted = self._uncounted()
        self._best_step = None
        self._extended = False

    def _given(self, args: TrainingArguments) -> RunRecord:
        """The record of a run that would begin now.

        What a trainer itself has made of its encoder does not count: a checkpoint replaces it.
        """
        self._of_pairs = self._of_pairs or fingerprint_of_pairs(self._pairs)
        self._of_encoder = self._of_encoder or facts_of_encoder(self._encoder)
        given = {"pairs": self._of_pairs, **self._of_encoder, "steps": args.max_steps, **self._options}
        return RunRecord.of(given, args, self._names)

    def record(self, args: TrainingArguments) -> RunRecord:
        """Of the run that is being trained, or that would begin now."""
        return self._given(args) if self._record is None else self._record

    def extend_learning_rate(self, args: TrainingArguments, scheduler: Any, optimizer: Any) -> None:
        """Where the run has been extended: let the rate be what its longer schedule says from the next step on.

        What a checkpoint holds is the rate that the shorter schedule had for that step. Schedules that are no function
        of the step alone (on a plateau, for example) go on as they are.
        """
        if not self._extended or self._record is None:
            return
        before = optimizer.param_groups[0]["lr"]
        if isinstance(scheduler, LambdaLR):
            factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
            rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            scheduler._last_lr = rates
        self._record = self._record.with_learning_rate(before, optimizer.param_groups[0]["lr"])
        if args.process_index == 0:
            logger.warning("extended %s", extension_in_words(self._record, len(self._record.segments) - 1))

    def restore_best(self, step: int, exposure: Mapping[str, Any]) -> None:
        """The encoder is that of an earlier step again, whose batches ``exposure`` is the state of."""
        self._best_step = step
        self.restore_exposure(exposure)

    def card_facts(
        self,
        args: TrainingArguments,
        *,
        step: int,
        temperature: float,
        exposure: Exposure,
        log: Sequence[Mapping[str, Any]],
        ratio: float | None,
    ) -> CardFacts:
        """What the card of the encoder after ``step`` steps says, or of the best step where that was restored."""
        return facts_of(
            self.record(args),
            self._pairs.languages,
            step=step if self._best_step is None else self._best_step,
            temperature=temperature,
            exposure=exposure,
            log=log,
            ratio=ratio if self._best_step is None else None,
        )
