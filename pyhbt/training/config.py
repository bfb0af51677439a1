"""The configuration of a training: objective, sampler, trainer; defaults that suit the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyhbt.arguments import check_at_least, check_choice
from pyhbt.encoders.lora import LoraOptions
from pyhbt.options import build, did_you_mean, documented, option
from pyhbt.training.objectives import Objective
from pyhbt.training.sampling import SamplerOptions

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from pyhbt.encoders import EncoderLike

_WARMUP_STEPS = 10
_DECAY = "linear"
_OWNED = {
    "max_steps": "steps",
    "num_train_epochs": "steps",
    "per_device_train_batch_size": "batch_size",
    "seed": "seed",
    "output_dir": "out",
    "remove_unused_columns": "",
}
"""Arguments of the Trainer that an option of another name decides ("": none, PyHBT needs its value)."""


@documented
@dataclass(frozen=True)
class TrainingConfig:
    """Options of a training, ratio and seed apart; ``objective`` and ``sampler`` hold theirs.

    Make one with :meth:`for_encoder`, or from all options side by side with :meth:`of`.

    Raises:
        ValueError: a value out of range, or options that do not go together.
    """

    steps: int = option("Training steps.", unset="200 for n-grams, 400 for transformers")
    batch_size: int = option("Pairs a batch and rank.", unset="64 for n-grams, 32 for transformers")
    learning_rate: float = option(
        "Peak learning rate, after a linear warm-up and before the decay.",
        unset="0.01 for n-grams; for transformers 1e-4 up to 384 dims, else 3e-5",
    )
    weight_decay: float = option("Of the optimizer.", 0.0, unset="0 for n-grams, 0.01 for transformers")
    lr_scheduler_type: str = option(
        "How the learning rate moves after the warm-up: linear or cosine (to 0), constant_with_warmup, or any other of "
        "transformers.",
        _DECAY,
    )
    warmup_steps: int | None = option(
        "Steps over which the learning rate rises.", None, unset="10, at most a quarter of the training"
    )
    objective: Objective = field(default_factory=Objective)
    sampler: SamplerOptions = field(default_factory=SamplerOptions)
    adapt_every: int | None = option(
        "Steps between two changes of an adaptive ratio.", None, unset="a twentieth of the training"
    )
    lexicon: str | None = option(
        "Bilingual lexicon: en-de.txt (word, translation), four columns by tabs, or a folder.", None
    )
    code_switching: float = option("Probability that a word is replaced by a translation.", 0.0)
    lora: str | None = option(
        "Train low-rank adapters alone, through PEFT: r=16,alpha=32,targets=query,value,dropout=0.1 (alpha by default "
        "2 r; targets all-linear, or ends of names of linear layers).",
        None,
    )
    merge_lora: bool = option("Save the encoder with its adapters added to its weights, not apart.", False)
    teacher_scores: str | None = option(
        "File of a teacher's scores for distil: rows of query, passage and score (.jsonl, .jsonl.gz, .parquet, .csv).",
        None,
    )
    mini_batch_size: int | None = option(
        "Texts embedded at a time, with gradient caching: less memory, one forward pass more.", None
    )
    arguments: Mapping[str, Any] = option(
        "Any of transformers' TrainingArguments, NAME=VALUE: bf16=true, gradient_accumulation_steps=4.",
        {},
        name="set",
    )

    def __post_init__(self) -> None:
        least = {
            "steps": 1,
            "batch_size": 1,
            "weight_decay": 0,
            "warmup_steps": 0,
            "adapt_every": 1,
            "mini_batch_size": 1,
        }
        for name, value in least.items():
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), value)
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: found {self.learning_rate}, expected a number above 0")
        if not 0 <= self.code_switching <= 1:
            raise ValueError(f"code_switching: found {self.code_switching}, expected a number in [0, 1]")
        if self.code_switching and self.lexicon is None:
            raise ValueError(f"lexicon: found None, expected a file: code_switching is {self.code_switching}")
        if self.lr_scheduler_type != _DECAY:  # transformers is not loaded for the default
            _check_scheduler(self.lr_scheduler_type)
        if self.lora is not None:
            LoraOptions.parse(self.lora)
        if self.merge_lora and self.lora is None:
            raise ValueError("merge_lora: found True, expected False: no adapters are trained (lora)")
        if (self.teacher_scores is None) != (self.objective.distil is None):
            name, other = (
                ("teacher_scores", "distil") if self.teacher_scores is None else ("distil", "teacher_scores")
            )
            given = self.objective.distil or self.teacher_scores
            raise ValueError(f"{name}: found None, expected it with {other}, which is {given!r}")
        _check_arguments(self.arguments)

    @classmethod
    def of(cls, **options: Any) -> TrainingConfig:
        """From options by name, those of the objective and the sampler among them.

        Raises:
            TypeError: an unknown name.
            ValueError: ``steps``, ``batch_size`` or ``learning_rate`` is missing, or a value is out of range.
        """
        return build(cls, options)

    @classmethod
    def for_encoder(cls, encoder: EncoderLike, **given: Any) -> TrainingConfig:
        """Defaults that suit the encoder, overridden by what is given and not None.

        A transformer gets temperature 0.02, weight decay 1e-2, and the paper's learning rate of 3e-5, or 1e-4 up
        to 384 dims (small models are trained for few steps here).
        """
        from pyhbt.encoders import NgramEncoder, as_encoder

        encoder = as_encoder(encoder)
        defaults: dict[str, Any]
        if isinstance(encoder, NgramEncoder):
            defaults = {"steps": 200, "batch_size": 64, "learning_rate": 0.01, "temperature": 0.05}
        else:
            defaults = {
                "steps": 400,
                "batch_size": 32,
                "learning_rate": 1e-4 if encoder.dim <= 384 else 3e-5,
                "temperature": 0.02,
                "weight_decay": 0.01,
            }
        return build(cls, defaults | {name: value for name, value in given.items() if value is not None})

    def trainer_arguments(self, folder: str | Path, seed: int, **others: Any) -> TrainingArguments:
        """The Trainer's arguments for these options; ``others`` stand unless ``arguments`` says otherwise."""
        import torch
        from transformers import TrainingArguments

        chosen: dict[str, Any] = {
            "report_to": "none",
            # accelerate joins ranks on CPUs only where it is told that there is nothing else
            "use_cpu": not (torch.cuda.is_available() or torch.backends.mps.is_available()),
            **others,
            **self.arguments,
        }
        return TrainingArguments(
            output_dir=str(folder),
            max_steps=self.steps,
            per_device_train_batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            lr_scheduler_type=self.lr_scheduler_type,
            warmup_steps=min(_WARMUP_STEPS, self.steps // 4)
            if self.warmup_steps is None
            else self.warmup_steps,
            seed=seed,
            **chosen,
        )


def _check_scheduler(name: str) -> None:
    from transformers import SchedulerType

    check_choice("lr_scheduler_type", name, [kind.value for kind in SchedulerType])


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse names that the Trainer does not know, and those that an option of our own decides."""
    if not arguments:
        return
    from dataclasses import fields

    from transformers import TrainingArguments

    from pyhbt.training.trainer_arguments import refusal, wrong_kind

    known = {item.name for item in fields(TrainingArguments) if item.init}
    owned = {item.name: item.name for item in fields(TrainingConfig)} | _OWNED
    for name, value in arguments.items():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"set: found {name}, expected one of transformers' TrainingArguments{hint}")
        if name in owned:
            instead = f"the option {owned[name]} instead" if owned[name] else "none: PyHBT decides it"
            raise ValueError(f"set: found {name}, expected {instead}")
        wrong = refusal(name, value) or wrong_kind(name, value)
        if wrong is not None:
            raise ValueError(f"set: {wrong}")
