"""The run that ``pyhbt train`` makes: one encoder trained and saved with its log and its card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainerCallback, TrainingArguments

import pyhbt
from pyhbt.data import TeacherScores
from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder, LanguageMeans, LoraOptions, TextKind
from pyhbt.evaluation.run import Evaluate
from pyhbt.files import write_atomically
from pyhbt.options import plain_values, values_of, write_config
from pyhbt.training.checkpoints import checkpoints
from pyhbt.training.code_switching import CodeSwitching, load_lexicon
from pyhbt.training.config import TrainingConfig
from pyhbt.training.guide import load_guide
from pyhbt.training.model_card import CardFacts, write_model_card
from pyhbt.training.schedules import RatioSchedule
from pyhbt.training.trainer import HybridTrainer


def make_trainer(
    config: TrainingConfig,
    encoder: Encoder,
    arguments: TrainingArguments,
    pairs: PairSet,
    ratio: float | str | RatioSchedule,
    *,
    dev_pairs: PairSet | None = None,
    evaluate: Evaluate | None = None,
    callbacks: list[TrainerCallback] | None = None,
) -> HybridTrainer:
    """A trainer with the options of ``config``; ``dev_pairs`` are for an adaptive ratio.

    Raises:
        FileNotFoundError, ValueError: the lexicon, the guide or the teacher's scores cannot be read; and what
            :class:`HybridTrainer` refuses.
    """
    switching = None
    if config.code_switching and config.lexicon is not None:
        switching = CodeSwitching(load_lexicon(config.lexicon), config.code_switching)
    if config.lora is not None:
        encoder.add_lora(LoraOptions.parse(config.lora), seed=arguments.seed)
    return HybridTrainer(
        encoder,
        arguments,
        pairs,
        ratio=ratio,
        objective=config.objective,
        mini_batch_size=config.mini_batch_size,
        **values_of(config.sampler),
        code_switching=switching,
        teacher_scores=TeacherScores.load(config.teacher_scores, pairs) if config.teacher_scores else None,
        dev_pairs=dev_pairs,
        adapt_every=config.adapt_every,
        evaluate=evaluate,
        callbacks=callbacks,
    )


def check_inputs(configs: Iterable[TrainingConfig], pairs: PairSet) -> None:
    """Read once each lexicon, guide and file of a teacher's scores that trainings on ``pairs`` will want.

    So that the last arm of a study does not fail for want of a file after all others are trained.

    Raises:
        FileNotFoundError, ValueError: one of them cannot be read.
    """
    wanted = list(configs)
    for lexicon in sorted({config.lexicon for config in wanted if config.code_switching and config.lexicon}):
        load_lexicon(lexicon)
    for guide in sorted({config.objective.guide for config in wanted if config.objective.guide}):
        load_guide(guide, torch.device("cpu"))
    for scores in sorted({config.teacher_scores for config in wanted if config.teacher_scores}):
        TeacherScores.load(scores, pairs)


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
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Train ``encoder`` in place and save it to OUT/encoder, its log to OUT/train.jsonl; returns OUT/encoder.

    OUT/encoder has a model card, which names ``base``, ``data_name`` and, for the last scores, ``scored_on``; with
    ``language_means`` also the mean vector of each training language's queries and passages.

    Checkpoints go to OUT/checkpoints every ``save_every`` steps, the last two are kept; ``resume`` goes on from
    the last. ``evaluate`` is called every ``eval_every`` steps (None: a tenth of the training) and at the end;
    what it returns goes to the log.

    OUT/config.yaml holds ``options``, plain values by name, from which ``pyhbt train --config`` runs again; None:
    those of ``config``, ``ratio`` and ``seed``.

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
    arguments = config.trainer_arguments(
        folder,
        seed,
        logging_steps=max(1, min(50, config.steps // 100)),
        save_strategy="steps",
        save_steps=save_every,
        save_total_limit=2,
        eval_strategy="no" if evaluate is None else "steps",
        eval_steps=eval_every or max(1, config.steps // 10),
    )
    trainer = make_trainer(config, encoder, arguments, pairs, ratio, dev_pairs=dev_pairs, evaluate=evaluate)
    if arguments.should_save and not resume:
        if options is None:
            options = {**plain_values(config), "ratio": str(RatioSchedule.parse(ratio).label), "seed": seed}
        out.mkdir(parents=True, exist_ok=True)
        again = "runs again: pyhbt train --config FILE --out FOLDER"
        write_config(out / "config.yaml", options, f"A training by PyHBT {pyhbt.__version__}; {again}")
    trainer.train(resume_from_checkpoint=resume)
    if not arguments.should_save:
        return out / "encoder"
    if config.merge_lora:
        encoder.merge_lora()
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
            **plain_values(config),
            **(
                {}
                if trainer.guide is None
                else {"guide": f"{config.objective.guide}: {trainer.guide.describe()}"}
            ),
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
