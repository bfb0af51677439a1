"""Training one encoder: the settings, their defaults, and the run that ``pyhbt train`` makes."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainerCallback, TrainingArguments

from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder, LanguageMeans, NgramEncoder, TextKind
from pyhbt.evaluation.run import Evaluate
from pyhbt.files import write_atomically
from pyhbt.training.checkpoints import checkpoints
from pyhbt.training.code_switching import CodeSwitching, load_lexicon
from pyhbt.training.model_card import CardFacts, write_model_card
from pyhbt.training.objectives import Objective
from pyhbt.training.sampling import CrossPairs
from pyhbt.training.schedules import RatioSchedule
from pyhbt.training.trainer import HybridTrainer


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training, ratio and seed apart.

    ``learning_rate`` is the peak of a linear warm-up over ``warmup_steps`` and a linear decay to 0;
    ``batch_size`` counts pairs of one rank. ``code_switching`` is the probability that a word is replaced by a
    translation from ``lexicon``, a path. See :class:`HybridTrainer` and :class:`Objective` for the others.
    """

    steps: int
    batch_size: int
    learning_rate: float
    temperature: float
    warmup_steps: int = 10
    weight_decay: float = 0.0
    learn_temperature: bool = False
    symmetric: bool = False
    matryoshka_dims: tuple[int, ...] = ()
    parallel_passages: int = 0
    alignment_weight: float = 0.0
    js_weight: float = 0.0
    language_sampling: float | str = "uniform"
    cross_pairs: CrossPairs = "single"
    lexicon: str | None = None
    code_switching: float = 0.0
    mini_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 1")
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number above 0")
        object.__setattr__(self, "matryoshka_dims", tuple(self.matryoshka_dims))
        if not 0 <= self.code_switching <= 1:
            raise ValueError(f"code_switching: found {self.code_switching}, expected a number in [0, 1]")
        if self.code_switching and self.lexicon is None:
            raise ValueError(f"lexicon: found None, expected a file: code_switching is {self.code_switching}")
        _ = self.objective  # its own checks

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

    @property
    def objective(self) -> Objective:
        """The loss of these settings."""
        return Objective(**{field.name: getattr(self, field.name) for field in fields(Objective)})

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
            # accelerate joins ranks on CPUs only where it is told that there is nothing else
            use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
            **others,
        )

    def trainer(
        self,
        encoder: Encoder,
        arguments: TrainingArguments,
        pairs: PairSet,
        ratio: float | str | RatioSchedule,
        *,
        dev_pairs: PairSet | None = None,
        evaluate: Evaluate | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> HybridTrainer:
        """A trainer with these settings; ``dev_pairs`` are for an adaptive ratio."""
        switching = None
        if self.code_switching and self.lexicon is not None:
            switching = CodeSwitching(load_lexicon(self.lexicon), self.code_switching)
        return HybridTrainer(
            encoder,
            arguments,
            pairs,
            ratio=ratio,
            objective=self.objective,
            mini_batch_size=self.mini_batch_size,
            language_sampling=self.language_sampling,
            cross_pairs=self.cross_pairs,
            code_switching=switching,
            dev_pairs=dev_pairs,
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
    dev_pairs: PairSet | None = None,
    evaluate: Evaluate | None = None,
    eval_every: int | None = None,
    language_means: bool = False,
    base: str = "",
    data_name: str = "",
    scored_on: str = "",
) -> Path:
    """Train ``encoder`` in place and save it to OUT/encoder, its log to OUT/train.jsonl; returns OUT/encoder.

    OUT/encoder has a model card, which names ``base``, ``data_name`` and, for the last scores, ``scored_on``; with
    ``language_means`` also the mean vector of each training language's queries and passages.

    Checkpoints go to OUT/checkpoints every ``save_every`` steps, the last two are kept; ``resume`` goes on from
    the last. ``evaluate`` is called every ``eval_every`` steps (None: a tenth of the training) and at the end;
    what it returns goes to the log.

    Under torchrun, rank 0 alone writes.

    Raises:
        FileExistsError: OUT/checkpoints holds checkpoints and ``resume`` is off.
        FileNotFoundError: ``resume`` is on and there is no checkpoint.
        CheckpointError: ``resume`` is on and no checkpoint is whole; or one could not be written.
    """
    out = Path(out)
    folder = out / "checkpoints"
    found = checkpoints(folder)
    if found and not resume:
        raise FileExistsError(f"{found[0]} is there: resume from it, or choose another folder")
    arguments = config.arguments(
        folder,
        seed,
        logging_steps=max(1, min(50, config.steps // 100)),
        save_strategy="steps",
        save_steps=save_every,
        save_total_limit=2,
        eval_strategy="no" if evaluate is None else "steps",
        eval_steps=eval_every or max(1, config.steps // 10),
    )
    trainer = config.trainer(encoder, arguments, pairs, ratio, dev_pairs=dev_pairs, evaluate=evaluate)
    trainer.train(resume_from_checkpoint=resume)
    if not arguments.should_save:
        return out / "encoder"
    if language_means:
        encoder.language_means = LanguageMeans.of(encoder.encode, _texts_of(pairs))
    facts = CardFacts(
        base or encoder.describe(),
        pairs.languages,
        {
            "encoder": encoder.describe(),
            "data": f"{data_name or 'pairs'}: {len(pairs):,} pairs, {len(pairs.group_names):,} groups",
            "cross-lingual ratio": RatioSchedule.parse(ratio).label,
            "seed": seed,
            **{field.name: getattr(config, field.name) for field in fields(config)},
        },
        _last_scores(trainer.state.log_history),
        scored_on,
    )
    with write_atomically(out / "encoder", replace=True) as temporary:
        encoder.save(temporary)
        write_model_card(temporary, facts, title="encoder")
    with write_atomically(out / "train.jsonl") as temporary:
        lines = (json.dumps(row) + "\n" for row in trainer.state.log_history)
        temporary.write_text("".join(lines), encoding="utf-8")
    return out / "encoder"


def _texts_of(pairs: PairSet) -> dict[TextKind, tuple[list[str], list[str]]]:
    """The distinct texts of each kind, once for each language that they have in the pairs."""
    columns: dict[TextKind, tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]] = {
        "query": (pairs.queries, pairs.query_index, pairs.query_langs),
        "passage": (pairs.passages, pairs.passage_index, pairs.passage_langs),
    }
    found: dict[TextKind, tuple[list[str], list[str]]] = {}
    for kind, (texts, index, langs) in columns.items():
        distinct = np.unique(np.stack([index, langs], axis=1), axis=0).tolist()
        found[kind] = [texts[text] for text, _ in distinct], [pairs.languages[lang] for _, lang in distinct]
    return found


def _last_scores(log: list[dict[str, float]]) -> dict[str, float]:
    """The figures of the last evaluation in a log."""
    rows = [row for row in log if any(name.startswith("eval_") for name in row)]
    last = rows[-1] if rows else {}
    return {name.removeprefix("eval_"): value for name, value in last.items() if name.startswith("eval_")}
