"""The ratio study: train several arms with several seeds, measure convergence and final quality.

One cell is one training of one arm with one seed (:mod:`pyhbt.study.cells`). A finished cell is a folder, written whole
or not at all, so an interrupted study goes on with the cells that are missing and ends with the same rows.
OUT/results.jsonl is all cells' measurements, OUT/config.yaml what was run, OUT/environment.json on what.

Rows carry arm, seed, step, split, centring, setting, query_lang, passage_lang, tier, metric, value. Learning curves
(split "dev") have macro means alone; final figures (split "test") also one row a language pair.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

import pyhbt
from pyhbt.data import RetrievalSet, StudyData
from pyhbt.data.groups import judged_pairs
from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder
from pyhbt.evaluation.centring import DESCRIPTION
from pyhbt.evaluation.evaluator import Evaluation, Evaluator, MeanScore, encode_set
from pyhbt.evaluation.names import BIAS_METRICS, STUDY_CENTRINGS
from pyhbt.evaluation.run import Evaluate
from pyhbt.files import clear_leftovers, only_writer, write_atomically
from pyhbt.ops._native import build_info
from pyhbt.options import plain_values, read_config, values_of, write_config
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell, finished_cells, write_exposure
from pyhbt.study.config import UNIT_METRICS, StudyConfig
from pyhbt.training.run import make_trainer
from pyhbt.training.sampling import HybridBatchSampler
from pyhbt.training.trainer import HybridTrainer
from pyhbt.training.unfilled import unfilled_in_words

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a study is; handed to its observer after every step and evaluation."""

    number: int
    """Of the cell, from 0."""
    cells: int
    cell: Cell
    step: int
    steps: int
    scores: Mapping[str, float] = field(default_factory=dict)
    finished: bool = False


Observer = Callable[[Progress], None]


@dataclass(frozen=True)
class _Sets:
    """The data, ready to be evaluated on many times."""

    train: PairSet
    dev: Evaluator
    test: Evaluator


def run_study(
    config: StudyConfig,
    data: StudyData,
    out: str | Path,
    *,
    command: str = "",
    overwrite: bool = False,
    observe: Observer = lambda progress: None,
) -> Path:
    """Run the cells that OUT lacks and write OUT/results.jsonl; returns its path.

    Args:
        config: the study.
        data: as ``config.data`` names it.
        out: a folder, made if it is not there.
        command: kept with the results, for the report.
        overwrite: replace another study.
        observe: called after every step and evaluation.

    Raises:
        FileExistsError: OUT holds a study with another configuration and ``overwrite`` is off.
        FolderInUseError: another process runs a study in OUT.
        FileNotFoundError, ValueError: what an arm wants cannot be read, or does not go with the encoder or the data;
            nothing is trained or written.
    """
    out = Path(out)
    with only_writer(out):
        done = set() if overwrite else finished_cells(out).keys()
        missing = {cell.arm for cell in map(Cell._make, config.cells) if cell not in done}
        _check_arms(config, data, sorted(missing))
        _claim(out, config, command, overwrite)
        return _run_cells(config, data, out, observe)


def _run_cells(config: StudyConfig, data: StudyData, out: Path, observe: Observer) -> Path:
    """Run the cells that OUT lacks."""
    clear_leftovers(out / "cells")
    sets = _Sets(
        data.train, Evaluator(data.dev, metrics=config.metrics), Evaluator(data.test, metrics=config.metrics)
    )
    _warn_of_short_batches(config, data.train)
    for number, cell in enumerate(map(Cell._make, config.cells)):
        if cell not in finished_cells(out):
            progress = Progress(number, len(config.cells), cell, 0, config.training.steps)
            with write_atomically(out / "cells" / cell.folder_name) as temporary:
                _run_cell(config, sets, progress, temporary, observe)
            _collect(out, config)
            progress.finished = True
            observe(progress)
    return _collect(out, config)


def _warn_of_short_batches(config: StudyConfig, pairs: PairSet) -> None:
    """Say once, not in every cell, what batch sizes the data cannot fill."""
    unfilled: dict[str, list[str]] = {}
    for arm in config.arms:
        training = config.training_of(arm)
        sampler = HybridBatchSampler(
            pairs, training.batch_size, ratio=arm.ratio, **values_of(training.sampler)
        )
        if text := unfilled_in_words(sampler):
            unfilled.setdefault(text, []).append(arm.called)
    for text, arms in unfilled.items():
        logger.warning("%s: %s", ", ".join(arms), text)


def _run_cell(config: StudyConfig, sets: _Sets, progress: Progress, folder: Path, observe: Observer) -> None:
    """Train and measure ``progress.cell`` and write its files to ``folder``, which is made."""
    cell = progress.cell
    encoder = config.make_encoder(cell.seed)
    rows: list[dict[str, Any]] = []
    evaluated: set[int] = set()

    def on_dev(encoder: Encoder, step: int) -> dict[str, float]:
        evaluated.add(step)
        for evaluation in _evaluations(encoder, sets.dev):
            means = list(evaluation.macro_means())
            rows.extend(_rows(cell, step, "dev", evaluation, means))
            if evaluation.centring == STUDY_CENTRINGS[0]:
                progress.scores = {
                    f"{mean.setting} {mean.metric}": mean.value for mean in means if mean.tier == "all"
                }
        observe(progress)
        return dict(progress.scores)

    steps = config.training_of(cell.arm).steps
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(config, cell, encoder, sets.train, sets.dev.data, scratch, on_dev)
        trainer.add_callback(_StepObserver(progress, observe))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if steps not in evaluated:
        on_dev(encoder, steps)
    scores: dict[str, np.ndarray] = {}
    for evaluation in _evaluations(encoder, sets.test):
        means = [
            *evaluation.macro_means(),
            *evaluation.pair_means((*UNIT_METRICS, *BIAS_METRICS)),
        ]
        rows.extend(_rows(cell, steps, "test", evaluation, means))
        questions, by_question = evaluation.question_scores(UNIT_METRICS)
        scores["units"] = np.asarray(questions)
        scores |= {f"{evaluation.centring}/{name}": values for name, values in by_question.items()}
    folder.mkdir(parents=True)
    cell.sign(folder)
    _write_jsonl(folder / "rows.jsonl", rows)
    _write_jsonl(folder / "train.jsonl", trainer.state.log_history)
    write_exposure(folder, trainer.exposure)
    np.savez_compressed(folder / "scores.npz", **scores)  # type: ignore[arg-type]


def _trainer(
    config: StudyConfig,
    cell: Cell,
    encoder: Encoder,
    train: PairSet,
    dev: RetrievalSet,
    folder: str,
    evaluate: Evaluate,
) -> HybridTrainer:
    """The trainer of a cell."""
    training = config.training_of(cell.arm)
    arguments = training.trainer_arguments(
        folder,
        cell.seed,
        eval_strategy="steps",
        eval_steps=config.eval_every,
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
        train,
        cell.arm.ratio,
        dev_pairs=judged_pairs(dev) if cell.arm.ratio.kind == "adaptive" else None,
        evaluate=evaluate,
    )


def _check_arms(config: StudyConfig, data: StudyData, arms: Sequence[Arm]) -> None:
    """Make the trainer of each arm once, so that the last one is not refused after all others are trained."""
    if not arms:
        return
    encoder = config.make_encoder(config.seeds[0])
    for arm in arms:
        with tempfile.TemporaryDirectory() as scratch:
            cell = Cell(arm, config.seeds[0])
            _trainer(config, cell, encoder, data.train, data.dev, scratch, lambda encoder, step: {})
        if config.training_of(arm).lora is not None:
            encoder.remove_lora()


def _evaluations(encoder: Encoder, evaluator: Evaluator) -> Iterator[Evaluation]:
    """A set scored plain and centred, from one encoding."""
    queries, passages = encode_set(encoder, evaluator.data)
    for centring in STUDY_CENTRINGS:
        yield evaluator.evaluate(queries, passages, centring=centring)


def _rows(
    cell: Cell, step: int, split: str, evaluation: Evaluation, means: list[MeanScore]
) -> Iterator[dict[str, Any]]:
    for mean in means:
        yield {
            "arm": cell.arm.label,
            "seed": cell.seed,
            "step": step,
            "split": split,
            "centring": evaluation.centring,
            **asdict(mean),
        }


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


def _claim(out: Path, config: StudyConfig, command: str, overwrite: bool) -> None:
    """Make OUT this study's folder, or check that it already is."""
    path = out / "config.yaml"
    wanted = plain_values(config)
    former = out / "config.json"
    if path.is_file() or former.is_file():
        found = read_config(path) if path.is_file() else {}
        differing = [name for name, value in wanted.items() if found.get(name) != value]
        if not differing:
            return
        if not overwrite:
            name = differing[0]
            held = f"with {name} {found.get(name)}, this one has {name} {wanted[name]}"
            if former.is_file():
                held = "of PyHBT 0.1, which reports are made of, but which does not go on"
            raise FileExistsError(f"{out} holds a study {held}: choose another folder or overwrite it")
        for leftover in (
            former,
            *(out / name for name in ("cells", "results.jsonl", "report.html", "plots")),
        ):
            _remove(leftover)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    described = {name: DESCRIPTION[name] for name in STUDY_CENTRINGS}
    ran = {"command": command, "centring": described, "environment": environment()}
    with write_atomically(out / "environment.json") as temporary:
        temporary.write_text(json.dumps(ran, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    again = "runs again: pyhbt study --config FILE --out FOLDER"
    write_config(path, wanted, f"A study by PyHBT {pyhbt.__version__}; {again}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def environment() -> dict[str, str]:
    """Versions and machine, as far as they bear on the figures."""
    return {
        "pyhbt": pyhbt.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": str(torch.get_num_threads()),
        "simd": str(build_info()["simd_in_use"]),
    }


def _collect(out: Path, config: StudyConfig) -> Path:
    """All finished cells' rows as OUT/results.jsonl, in the order of the configuration."""
    path = out / "results.jsonl"
    finished = finished_cells(out)
    with write_atomically(path) as temporary, temporary.open("wb") as target:
        for cell in map(Cell._make, config.cells):
            if cell in finished:
                with (finished[cell] / "rows.jsonl").open("rb") as source:
                    shutil.copyfileobj(source, target)
    return path


def _write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
