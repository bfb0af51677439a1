"""The run that ``pyhbt train`` makes: one encoder trained and saved with its log and its card."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

import pyhbt
from pyhbt.data import TeacherScores
from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder, EncoderLike, LanguageMeans, LoraOptions, TextKind, as_encoder
from pyhbt.evaluation.run import Evaluate
from pyhbt.files import check_folder_target, only_writer, write_atomically
from pyhbt.options import plain_values, read_config, values_of, write_config
from pyhbt.training.checkpoints import checkpoints, to_resume
from pyhbt.training.code_switching import CodeSwitching, load_lexicon
from pyhbt.training.config import TrainingConfig
from pyhbt.training.exposure import TextLengths
from pyhbt.training.model_card import write_model_card
from pyhbt.training.record import RECORD, RunDiffersError, RunNames, RunRecord, check_resume
from pyhbt.training.schedules import RatioSchedule
from pyhbt.training.trainer import HybridTrainer

_RUN = "run.json"


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
    names: RunNames | None = None,
    lengths: TextLengths | None = None,
) -> HybridTrainer:
    """A trainer with the options of ``config``.

    ``dev_pairs`` are for an adaptive ratio, ``names`` for the card, ``lengths`` for the exposure.

    The encoder gets the adapters that ``config`` asks for, unless something is refused.

    Raises:
        FileNotFoundError, ValueError: the lexicon, the guide or the teacher's scores cannot be read; and what
            :class:`HybridTrainer` refuses.
    """
    switching = None
    if config.code_switching and config.lexicon is not None:
        switching = CodeSwitching(load_lexicon(config.lexicon), config.code_switching)
    with _adapters(encoder, config, seed=arguments.seed):
        return HybridTrainer(
            encoder,
            arguments,
            pairs,
            ratio=ratio,
            objective=config.objective,
            mini_batch_size=config.mini_batch_size,
            **values_of(config.sampler),
            code_switching=switching,
            teacher_scores=TeacherScores.load(config.teacher_scores, pairs)
            if config.teacher_scores
            else None,
            dev_pairs=dev_pairs,
            adapt_every=config.adapt_every,
            evaluate=evaluate,
            callbacks=callbacks,
            names=names,
            lengths=lengths,
        )


@contextmanager
def _adapters(encoder: Encoder, config: TrainingConfig, *, seed: int) -> Iterator[None]:
    """The adapters that ``config`` asks for, if any, in ``encoder``; taken away again where the block raises."""
    if config.lora is None:
        yield
        return
    encoder.add_lora(LoraOptions.parse(config.lora), seed=seed)
    try:
        yield
    except BaseException:
        encoder.remove_lora()
        raise


def check_out(out: Path) -> None:
    """Refuse OUT where a training could not write its files.

    Raises:
        OSError: a file is where a folder should be or the reverse, or the system does not let it be written.
    """
    check_folder_target("out", out, (_RUN, "config.yaml", "train.jsonl"), ("checkpoints", "encoder"))


def train_encoder(
    encoder: EncoderLike,
    pairs: PairSet,
    config: TrainingConfig,
    out: str | Path,
    *,
    ratio: float | str | RatioSchedule = 0.5,
    seed: int = 0,
    save_every: int = 500,
    resume: bool = False,
    extend: bool = False,
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

    OUT/encoder has a model card, which names ``base``, ``data_name`` and, for the last scores, ``scored_on``, and says
    what was trained, from the record of the run; with ``language_means`` also the mean vector of each training
    language's queries and passages.

    Checkpoints go to OUT/checkpoints every ``save_every`` steps, the last two are kept; ``resume`` goes on from
    the last. ``evaluate`` is called every ``eval_every`` steps (None: a tenth of the training) and at the end;
    what it returns goes to the log.

    OUT/run.json is the record of the run: what decides its outcome. A run goes on with the same alone; more steps take
    ``extend`` too, which lets the schedules span the longer training from the checkpoint on (see
    :meth:`HybridTrainer.train`). Options that are not given and follow from the number of steps are those of the run.

    OUT/config.yaml holds ``options``, plain values by name, from which ``pyhbt train --config`` runs again; None:
    those of ``config``, ``ratio`` and ``seed``.

    Under torchrun, rank 0 alone writes. One process a folder: a second one is refused.

    Raises:
        FolderInUseError: another process trains into OUT.
        FileExistsError: OUT/checkpoints holds checkpoints and ``resume`` is off.
        FileNotFoundError: ``resume`` is on and there is no checkpoint.
        CheckpointError: ``resume`` is on and no checkpoint is whole; or one could not be written.
        RunDiffersError: ``resume`` is on with what would make another run; names each difference.
        ValueError: ``extend`` is on and ``resume`` is off.
    """
    out, encoder = Path(out), as_encoder(encoder)
    if extend and not resume:
        raise ValueError("extend: found True, expected False where no run is resumed")
    check_out(out)
    with only_writer(out) if os.environ.get("RANK", "0") == "0" else nullcontext():
        folder = out / "checkpoints"
        found = to_resume(folder) if resume else checkpoints(folder)
        if found and not resume:
            raise FileExistsError(f"{found[0]} is there: resume from it, or choose another folder")
        records = [out / _RUN, *(checkpoint / RECORD for checkpoint in found)] if resume else []
        known = next((record for record in records if record.is_file()), None)
        run = None if known is None else RunRecord.read(known)
        if run is not None:
            config = _as_begun(config, run)
            # as the folder says where an extension was killed before its first checkpoint
            extend = extend or config.steps == run.steps
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
        trainer = make_trainer(
            config,
            encoder,
            arguments,
            pairs,
            ratio,
            dev_pairs=dev_pairs,
            evaluate=evaluate,
            names=RunNames(base, data_name, scored_on),
        )
        if run is not None:
            try:
                check_resume(run, trainer.run_record, extend=extend, where=str(known))
            except RunDiffersError:
                if config.lora is not None:
                    encoder.remove_lora()
                raise
        if options is None:
            options = {**plain_values(config), "ratio": str(RatioSchedule.parse(ratio).label), "seed": seed}
        if arguments.should_save:
            trainer.add_callback(_Begin(out, trainer, None if resume else options))
        trainer.train(resume_from_checkpoint=resume, extend=extend)
        if arguments.should_save:
            if config.merge_lora:
                encoder.merge_lora()
            _save(trainer, pairs, out, language_means=language_means, merged=config.merge_lora)
    return out / "encoder"


def _as_begun(config: TrainingConfig, run: RunRecord) -> TrainingConfig:
    """Options that are not given and follow from the number of steps, as they were when the run began."""
    if config.warmup_steps is None and isinstance(run.arguments.get("warmup_steps"), int):
        config = replace(config, warmup_steps=run.arguments["warmup_steps"])
    if config.adapt_every is None:
        config = replace(config, adapt_every=run.options.get("adapt_every"))
    return config


class _Begin(TrainerCallback):
    """Writes the record of the run and its options once training begins, when nothing can be refused any more."""

    def __init__(self, out: Path, trainer: HybridTrainer, options: Mapping[str, Any] | None) -> None:
        self._out = out
        self._trainer = trainer
        self._options = options

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write OUT/run.json and OUT/config.yaml; of a run that goes on, the number of steps in it."""
        path = self._out / "config.yaml"
        record = self._trainer.run_record
        options = self._options
        if options is None and path.is_file():
            options = {**read_config(path), "steps": record.steps}
        if options is not None:
            again = "runs again: pyhbt train --config FILE --out FOLDER"
            write_config(path, options, f"A training by PyHBT {pyhbt.__version__}; {again}")
        record.write(self._out / _RUN)


def _save(trainer: HybridTrainer, pairs: PairSet, out: Path, *, language_means: bool, merged: bool) -> None:
    """Write OUT/encoder and OUT/train.jsonl."""
    encoder, facts = trainer.encoder, trainer.card_facts()
    if merged:
        facts = replace(facts, training={**facts.training, "adapters": "added to the weights"})
    if language_means:
        encoder.language_means = LanguageMeans.of(encoder.encode, _texts_of(pairs))
    with write_atomically(out / "encoder", replace=True) as temporary:
        encoder.save(temporary)
        trainer.run_record.write(temporary / RECORD)
        write_model_card(temporary, facts, title="encoder")
    with write_atomically(out / "train.jsonl") as temporary:
        lines = (json.dumps(row) + "\n" for row in trainer.state.log_history)
        temporary.write_text("".join(lines), encoding="utf-8")


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
