"""Training one encoder: the settings, their defaults, and the run that ``pyhbt train`` makes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from pyhbt.data.types import PairSet
from pyhbt.encoders import Encoder, NgramEncoder
from pyhbt.files import write_atomically
from pyhbt.sampling import CrossPairs
from pyhbt.schedules import RatioSchedule
from pyhbt.trainer import Evaluate, HybridTrainer


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training, ratio and seed apart.

    ``learning_rate`` is the peak of a linear warm-up over ``warmup_steps`` and a linear decay to 0;
    ``batch_size`` counts pairs of one rank. See :class:`HybridTrainer` for the others.
    """

    steps: int
    batch_size: int
    learning_rate: float
    temperature: float
    warmup_steps: int = 10
    weight_decay: float = 0.0
    symmetric: bool = False
    language_sampling: float | Literal["uniform", "size"] = "uniform"
    cross_pairs: CrossPairs = "single"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 1")
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number above 0")

    @classmethod
    def for_encoder(cls, encoder: Encoder, **given: Any) -> TrainingConfig:
        """Defaults that suit the encoder, overridden by what is given and not None.

        A transformer gets temperature 0.02, weight decay 1e-2, and the paper's learning rate of 3e-5, or 1e-4 up
        to 384 dims (small models are trained for few steps here).
        """
        defaults: dict[str, Any]
        if isinstance(encoder, NgramEncoder):
            defaults = {"steps": 300, "batch_size": 64, "learning_rate": 0.01, "temperature": 0.05}
        else:
            defaults = {
                "steps": 400,
                "batch_size": 32,
                "learning_rate": 1e-4 if encoder.dim <= 384 else 3e-5,
                "temperature": 0.02,
                "weight_decay": 0.01,
            }
        return cls(**defaults | {name: value for name, value in given.items() if value is not None})

    def arguments(self, folder: str | Path, seed: int, **others: Any) -> TrainingArguments:
        """The Trainer's arguments for these settings; ``others`` are passed on."""
        return TrainingArguments(
            output_dir=str(folder),
            max_steps=self.steps,
            per_device_train_batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=min(self.warmup_steps, self.steps // 4),
            weight_decay=self.weight_decay,
            lr_scheduler_type="linear",
            seed=seed,
            report_to="none",
            **others,
        )

    def trainer(
        self,
        encoder: Encoder,
        arguments: TrainingArguments,
        pairs: PairSet,
        ratio: float | str | RatioSchedule,
        *,
        evaluate: Evaluate | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> HybridTrainer:
        """A trainer with these settings."""
        return HybridTrainer(
            encoder,
            arguments,
            pairs,
            ratio=ratio,
            temperature=self.temperature,
            symmetric=self.symmetric,
            language_sampling=self.language_sampling,
            cross_pairs=self.cross_pairs,
            evaluate=evaluate,
            callbacks=callbacks,
        )


def train_encoder(
    encoder: Encoder,
    pairs: PairSet,
    config: TrainingConfig,
    out: str | Path,
    *,
    ratio: float | str | RatioSchedule = 0.5,
    seed: int = 0,
    save_every: int = 500,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    eval_every: int | None = None,
) -> Path:
    """Train ``encoder`` in place and save it to OUT/encoder, its log to OUT/train.jsonl; returns OUT/encoder.

    Checkpoints go to OUT/checkpoints every ``save_every`` steps, the last two are kept; ``resume`` goes on from
    the last. ``evaluate`` is called every ``eval_every`` steps (None: a tenth of the training) and at the end;
    what it returns goes to the log.

    Raises:
        FileExistsError: OUT/checkpoints holds checkpoints and ``resume`` is off.
        FileNotFoundError: ``resume`` is on and there is no checkpoint.
    """
    out = Path(out)
    checkpoints = out / "checkpoints"
    last: str | None = None
    if checkpoints.is_dir():
        last = get_last_checkpoint(str(checkpoints))  # type: ignore[no-untyped-call]
    if last is not None and not resume:
        raise FileExistsError(f"{last} is there: resume from it, or choose another folder")
    if last is None and resume:
        raise FileNotFoundError(f"{checkpoints}: no checkpoint to resume from")
    arguments = config.arguments(
        checkpoints,
        seed,
        logging_steps=max(1, min(50, config.steps // 100)),
        save_strategy="steps",
        save_steps=save_every,
        save_total_limit=2,
        eval_strategy="no" if evaluate is None else "steps",
        eval_steps=eval_every or max(1, config.steps // 10),
    )
    trainer = config.trainer(encoder, arguments, pairs, ratio, evaluate=evaluate)
    trainer.train(resume_from_checkpoint=last)
    encoder.save(out / "encoder")
    with write_atomically(out / "train.jsonl") as temporary:
        lines = (json.dumps(row) + "\n" for row in trainer.state.log_history)
        temporary.write_text("".join(lines), encoding="utf-8")
    return out / "encoder"
