"""Where cells are made: trains one, measures one, averages two. The same in this process and in workers.

Everything that a cell needs is a function of the configuration and the data, so that a cell may be made by any process.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from pyhbt.data import RetrievalSet, StudyData
from pyhbt.data.dev import sampled, split_questions
from pyhbt.data.groups import judged_pairs
from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder, load_encoder
from pyhbt.evaluation.run import Evaluate
from pyhbt.files import write_atomically
from pyhbt.options import changed, values_of
from pyhbt.seals import seal
from pyhbt.study.arms import Arm
from pyhbt.study.cells import (
    ENCODER,
    ROWS,
    Cell,
    finished_cells,
    part_folder,
    read_exposure,
    seal_cell,
    whole_encoder,
    write_exposure,
)
from pyhbt.study.config import StudyConfig
from pyhbt.study.measuring import Measured, Rows, exposure_rows, rows_of, write_rows
from pyhbt.study.points import EvaluateAt, evaluation_points
from pyhbt.study.tuning import study_cells
from pyhbt.training.budget import steps_within
from pyhbt.training.config import TrainingConfig
from pyhbt.training.exposure import Exposure, TextLengths
from pyhbt.training.run import make_trainer
from pyhbt.training.sampling import HybridBatchSampler
from pyhbt.training.trainer import HybridTrainer

logger = logging.getLogger(__name__)

_STEERING_SHARE = 0.25
_CURVE_QUERIES = 2000  # in all languages, that a point of a curve is scored on
_FEWEST_QUESTIONS = 50
_KEPT_AT_MOST = 1 << 30  # bytes that all encoders of a study may take where they are kept "auto"


@dataclass
class Progress:
    """Where a cell is; handed to the study's observer after every step and evaluation."""

    number: int
    """Of the cell, from 0."""
    cells: int
    cell: Cell
    step: int
    steps: int
    scores: Mapping[str, float] = field(default_factory=dict)
    finished: bool = False


Observer = Callable[[Progress], None]


class Workplace:
    """Makes the cells of a study in its folder.

    Args:
        config: the study.
        data: as ``config.data`` names it.
        test_sets: further ones by name.
        out: the study's folder.
        centring_text: whose language means centre embeddings, too.
        description: what the cells say of themselves (:func:`pyhbt.study.description.describe`).
    """

    def __init__(
        self,
        config: StudyConfig,
        data: StudyData,
        test_sets: Mapping[str, Any],
        out: Path,
        description: Mapping[str, Any],
        centring_text: RetrievalSet | None = None,
    ) -> None:
        self.config = config
        self.train_pairs: PairSet = data.train
        self.out = out
        self._description = dict(description)
        self._budgeted: dict[Arm, int] = {}
        steering, dev = split_questions(data.dev, _STEERING_SHARE, salt="steering")
        self._steering = steering
        self.curve = Measured(
            "dev",
            sampled(dev, config.curve_questions or _curve_questions(dev), config.curve_passages),
            config.metrics,
            centrings=("none",),
        )
        tests = {"test": data.test, **{f"test:{name}": test for name, test in test_sets.items()}}
        self.tests = {
            split: Measured(split, test, config.metrics, config.pivot, text=centring_text)
            for split, test in tests.items()
        }

    # What a training is of.

    @cached_property
    def lengths(self) -> TextLengths:
        """Tokens of the training texts, as the study's encoder makes them."""
        return TextLengths.of(self.config.make_encoder(seed=0), self.train_pairs)

    def training_of(self, arm: Arm) -> TrainingConfig:
        """The options of an arm's training, with as many steps as its budget allows."""
        training = self.config.training_of(arm)
        if arm not in self._budgeted:
            self._budgeted[arm] = self._steps(arm, training)
        return changed(training, steps=self._budgeted[arm])

    def planned_steps(self, cell: Cell) -> int:
        """Steps of a cell's training; of an average, those of the longer of its parents."""
        arms = cell.arm.parents or (cell.arm,)
        return max(self.training_of(arm).steps for arm in arms)

    def _steps(self, arm: Arm, training: TrainingConfig) -> int:
        unit = self.config.budget
        if unit == "steps":
            return training.steps
        amount = float(training.steps * self.config.training.batch_size)
        if unit == "tokens":
            amount *= float(self.lengths.of_rows(self.train_pairs).mean())

        def sampler(steps: int) -> HybridBatchSampler:
            return HybridBatchSampler(
                self.train_pairs,
                training.batch_size,
                ratio=arm.ratio,
                steps=steps,
                **values_of(training.sampler),
            )

        return steps_within(sampler, unit, round(amount), self.lengths if unit == "tokens" else None)

    def keeps_encoders(self, arm: Arm) -> bool:
        """Whether the trained encoders of an arm stay in their cells."""
        config = self.config
        if any(arm in (other.parents or ()) for other in config.arms):
            return True
        if config.keep_encoders == "auto":
            return self._encoder_bytes * len(config.cells) <= _KEPT_AT_MOST
        return config.keep_encoders == "all"

    @cached_property
    def _encoder_bytes(self) -> int:
        return sum(
            value.numel() * value.element_size() for value in self.config.make_encoder(seed=0).parameters()
        )

    # Making a cell.

    def make(
        self,
        cell: Cell,
        splits: tuple[str, ...],
        progress: Progress,
        observe: Observer = lambda progress: None,
        *,
        keep: bool = False,
    ) -> None:
        """Measure a cell on test sets, from its kept encoder, or train it first where there is none.

        A cell that is trained is written whole, what is measured of it included. ``keep``: its encoder stays in any
        case.
        """
        folder = finished_cells(self.out).get(cell)
        if folder is not None and whole_encoder(folder):
            encoder = load_encoder(folder / ENCODER)
            for split in splits:
                with write_atomically(part_folder(folder, split), replace=True) as temporary:
                    self.tests[split].write_part(encoder, cell, progress.steps, temporary)
                    seal(temporary)
        else:
            if folder is not None:
                logger.info("%s is trained again: its encoder was not kept, or is damaged", cell.called)
                splits = tuple(self.tests)
            make = self._averaged if cell.arm.parents else self._trained
            encoder, rows, exposure, log = make(cell, progress, observe)
            with write_atomically(self.out / "cells" / cell.folder_name, replace=True) as temporary:
                temporary.mkdir(parents=True)
                cell.sign(temporary, steps=progress.steps, study=self._description, sealed=True)
                write_rows(temporary / ROWS, rows)
                write_rows(temporary / "train.jsonl", log)
                write_exposure(temporary, exposure)
                for split in splits:
                    self.tests[split].write_part(encoder, cell, progress.steps, part_folder(temporary, split))
                if keep or self.keeps_encoders(cell.arm):
                    encoder.save(temporary / ENCODER)
                seal_cell(temporary)
        progress.finished = True
        observe(progress)

    def _trained(
        self, cell: Cell, progress: Progress, observe: Observer
    ) -> tuple[Encoder, Rows, Exposure, Rows]:
        encoder = self.config.make_encoder(cell.seed)
        rows: Rows = []
        evaluated: set[int] = set()

        def on_dev(encoder: Encoder, step: int) -> dict[str, float]:
            evaluated.add(step)
            rows.extend(self._curve_rows(cell, encoder, step, progress))
            if step < progress.steps:
                rows.extend(exposure_rows(cell, step, trainer.exposure.totals()))
            observe(progress)
            return dict(progress.scores)

        with tempfile.TemporaryDirectory() as scratch:
            trainer = self.trainer(cell, encoder, scratch, on_dev)
            progress.steps = trainer.args.max_steps
            trainer.add_callback(_StepObserver(progress, observe))
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        if progress.steps not in evaluated:
            on_dev(encoder, progress.steps)
        rows.extend(exposure_rows(cell, progress.steps, trainer.exposure.rows()))
        return encoder, rows, trainer.exposure, trainer.state.log_history

    def _curve_rows(
        self, cell: Cell, encoder: Encoder, step: int, progress: Progress
    ) -> Iterator[dict[str, Any]]:
        for evaluation in self.curve.evaluations(encoder):
            means = list(evaluation.macro_means())
            yield from rows_of(cell, step, "dev", evaluation.centring, means)
            progress.scores = {
                f"{mean.setting} {mean.metric}": mean.value for mean in means if mean.tier == "all"
            }

    def _averaged(
        self, cell: Cell, progress: Progress, observe: Observer
    ) -> tuple[Encoder, Rows, Exposure, Rows]:
        """The average of two cells' weights; what it saw is what both saw."""
        assert cell.arm.parents is not None
        cells = study_cells(self.out)
        first, second = (cells[Cell(parent, cell.seed)] for parent in cell.arm.parents)
        for folder in (first, second):
            if not whole_encoder(folder):
                raise ValueError(
                    f"{folder / ENCODER}: missing or damaged, expected the encoder to be averaged"
                )
        encoder, other = load_encoder(first / ENCODER), load_encoder(second / ENCODER)
        average_weights(encoder, other, cell.arm.weight)
        seen = [read_exposure(folder) for folder in (first, second)]
        exposure = Exposure.merged(*(part for part in seen if part is not None))
        rows = list(self._curve_rows(cell, encoder, progress.steps, progress))
        rows.extend(exposure_rows(cell, progress.steps, exposure.rows()))
        progress.step = progress.steps
        observe(progress)
        return encoder, rows, exposure, []

    def trainer(self, cell: Cell, encoder: Encoder, folder: str, evaluate: Evaluate) -> HybridTrainer:
        """The trainer of a cell."""
        training = self.training_of(cell.arm)
        arguments = training.trainer_arguments(
            folder,
            cell.seed,
            eval_on_start=True,
            logging_steps=max(1, training.steps // 100),
            save_strategy="no",
            disable_tqdm=True,
            log_level="error",
        )
        return make_trainer(
            training,
            encoder,
            arguments,
            self.train_pairs,
            cell.arm.ratio,
            dev_pairs=judged_pairs(self._steering) if cell.arm.ratio.kind == "adaptive" else None,
            evaluate=evaluate,
            callbacks=[EvaluateAt(evaluation_points(training.steps, self.config.eval_every))],
            lengths=self.lengths,
        )


@torch.no_grad()
def average_weights(encoder: Encoder, other: Encoder, weight: float) -> None:
    """Make every weight of ``encoder`` ``1 - weight`` of its own and ``weight`` of ``other``'s, in float64.

    Model soups, arXiv 2203.05482. Integer buffers stay as they are. O(weights).

    Raises:
        ValueError: the encoders have other weights.
    """
    theirs = other.state_dict()
    for name, value in encoder.state_dict().items():
        if name not in theirs or theirs[name].shape != value.shape:
            raise ValueError(
                f"other: found no {name} of shape {tuple(value.shape)}, expected the same weights"
            )
        if value.is_floating_point():
            value.copy_(torch.lerp(value.double(), theirs[name].double(), weight))


def _curve_questions(dev: RetrievalSet) -> int:
    return max(_FEWEST_QUESTIONS, _CURVE_QUERIES // max(1, len(set(dev.query_langs))))


class _StepObserver(TrainerCallback):
    """Passes every step on to the study's observer."""

    def __init__(self, progress: Progress, observe: Observer) -> None:
        self._progress = progress
        self._observe = observe

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._progress.step = state.global_step
        self._observe(self._progress)
