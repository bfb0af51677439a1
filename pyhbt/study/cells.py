"""The ratio study: train at several cross-lingual ratios and seeds, measure convergence and final quality.

One cell is one training at one ratio with one seed. A finished cell is a folder OUT/cells/ratio=R,seed=S, written
whole or not at all, so an interrupted study goes on with the cells that are missing and ends with the same rows.

* ``rows.jsonl``: the cell's measurements; OUT/results.jsonl is all of them;
* ``scores.npz``: final scores by question, for paired tests;
* ``train.jsonl``: the training log.

Rows carry ratio, seed, step, split, centring, setting, query_lang, passage_lang, tier, metric, value. Learning
curves (split "dev") have macro means alone; final figures (split "test") also one row a language pair.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

import pyhbt
from pyhbt.data import StudyData
from pyhbt.data.groups import judged_pairs
from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder, load_encoder
from pyhbt.evaluation.centring import DESCRIPTION
from pyhbt.evaluation.evaluator import DEFAULT_METRICS, Evaluation, Evaluator, MeanScore, encode_set
from pyhbt.evaluation.metrics import measure
from pyhbt.evaluation.names import BIAS_METRICS, STUDY_CENTRINGS
from pyhbt.files import write_atomically
from pyhbt.ops._native import build_info
from pyhbt.study.arms import Arm
from pyhbt.training.run import TrainingConfig

UNIT_METRICS = ("mAP", "recall@10")


@dataclass(frozen=True)
class StudyConfig:
    """Everything that decides a study's figures.

    ``languages`` None means all of the data. ``eval_every`` is in steps (None: a tenth of the training),
    ``max_length`` in tokens (None: the encoder's own). ``ratios`` are the arms (:mod:`pyhbt.study.arms`): numbers,
    schedules as texts, either with further changes to the training settings.
    """

    training: TrainingConfig
    data: str = "cldr"
    encoder: str = "ngram"
    languages: tuple[str, ...] | None = None
    low_resource: tuple[str, ...] | None = None
    zero_shot: tuple[str, ...] | None = None
    ratios: tuple[float | str, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    eval_every: int | None = None
    max_length: int | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    metrics: tuple[str, ...] = DEFAULT_METRICS

    def __post_init__(self) -> None:
        arms = [Arm.parse(ratio) for ratio in self.ratios]
        for arm in arms:
            replace(self.training, **dict(arm.changes))  # refuses what does not go together
        labels = tuple(arm.label for arm in arms)
        object.__setattr__(self, "ratios", labels)
        if self.eval_every is None:
            object.__setattr__(self, "eval_every", max(1, self.training.steps // 10))
        elif self.eval_every < 1:
            raise ValueError(f"eval_every: found {self.eval_every}, expected at least 1")
        for name in ("ratios", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name}: found {list(values)}, expected at least one, all different")
        for metric in self.metrics:
            measure(metric)
        missing = set(UNIT_METRICS) - set(self.metrics)
        if missing:
            raise ValueError(
                f"metrics: found {list(self.metrics)}, expected {', '.join(sorted(missing))} too"
            )

    @property
    def cells(self) -> tuple[tuple[float | str, int], ...]:
        """(ratio, seed) of every cell; seeds outermost, so that early on all ratios can be compared."""
        return tuple((ratio, seed) for seed in self.seeds for ratio in self.ratios)

    def make_encoder(self, seed: int) -> Encoder:
        """The encoder that a cell starts from."""
        return load_encoder(
            self.encoder,
            seed=seed,
            max_length=self.max_length,
            query_prefix=self.query_prefix,
            passage_prefix=self.passage_prefix,
        )


@dataclass
class Progress:
    """Where a study is; handed to its observer after every step and evaluation."""

    cell: int
    cells: int
    ratio: float | str
    seed: int
    step: int
    steps: int
    scores: Mapping[str, float] = field(default_factory=dict)
    finished: bool = False


Observer = Callable[[Progress], None]


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

    Raises:
        FileExistsError: OUT holds a study with another configuration and ``overwrite`` is off.
    """
    out = Path(out)
    _claim(out, config, command, overwrite)
    for unfinished in (out / "cells").glob(".*.partial"):
        shutil.rmtree(unfinished)
    sets = _Sets(
        data.train, Evaluator(data.dev, metrics=config.metrics), Evaluator(data.test, metrics=config.metrics)
    )
    for number, (ratio, seed) in enumerate(config.cells):
        folder = cell_folder(out, ratio, seed)
        if not folder.is_dir():
            progress = Progress(number, len(config.cells), ratio, seed, 0, config.training.steps)
            with write_atomically(folder) as temporary:
                _run_cell(config, sets, progress, temporary, observe)
            _collect(out, config)
            progress.finished = True
            observe(progress)
    return _collect(out, config)


def cell_folder(out: Path, ratio: float | str, seed: int) -> Path:
    """Folder of one cell's files."""
    label = f"{ratio:g}" if isinstance(ratio, float) else ratio.replace("/", "_")
    return out / "cells" / f"ratio={label},seed={seed}"


@dataclass(frozen=True)
class _Sets:
    """The data, ready to be evaluated on many times."""

    train: PairSet
    dev: Evaluator
    test: Evaluator


def _run_cell(config: StudyConfig, sets: _Sets, progress: Progress, folder: Path, observe: Observer) -> None:
    encoder = config.make_encoder(progress.seed)
    rows: list[dict[str, Any]] = []
    evaluated: set[int] = set()

    def on_dev(encoder: Encoder, step: int) -> dict[str, float]:
        evaluated.add(step)
        for evaluation in _evaluations(config, encoder, sets.dev):
            means = list(evaluation.macro_means())
            rows.extend(_rows(progress, step, "dev", evaluation, means))
            if evaluation.centring == STUDY_CENTRINGS[0]:
                progress.scores = {
                    f"{mean.setting} {mean.metric}": mean.value for mean in means if mean.tier == "all"
                }
        observe(progress)
        return dict(progress.scores)

    arm = Arm.parse(progress.ratio)
    training = replace(config.training, **dict(arm.changes))
    steps = training.steps
    with tempfile.TemporaryDirectory() as scratch:
        arguments = training.arguments(
            scratch,
            progress.seed,
            eval_strategy="steps",
            eval_steps=config.eval_every,
            eval_on_start=True,
            logging_steps=max(1, steps // 100),
            save_strategy="no",
            disable_tqdm=True,
            log_level="error",
        )
        trainer = training.trainer(
            encoder,
            arguments,
            sets.train,
            arm.ratio,
            dev_pairs=judged_pairs(sets.dev.data) if arm.ratio.kind == "adaptive" else None,
            evaluate=on_dev,
            callbacks=[_StepObserver(progress, observe)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if steps not in evaluated:
        on_dev(encoder, steps)
    scores: dict[str, np.ndarray] = {}
    for evaluation in _evaluations(config, encoder, sets.test):
        means = [
            *evaluation.macro_means(),
            *evaluation.pair_means((*UNIT_METRICS, *BIAS_METRICS)),
        ]
        rows.extend(_rows(progress, steps, "test", evaluation, means))
        questions, by_question = evaluation.question_scores(UNIT_METRICS)
        scores["units"] = np.asarray(questions)
        scores |= {f"{evaluation.centring}/{name}": values for name, values in by_question.items()}
    folder.mkdir(parents=True)
    _write_jsonl(folder / "rows.jsonl", rows)
    _write_jsonl(folder / "train.jsonl", trainer.state.log_history)
    np.savez_compressed(folder / "scores.npz", **scores)  # type: ignore[arg-type]


def _evaluations(config: StudyConfig, encoder: Encoder, evaluator: Evaluator) -> Iterator[Evaluation]:
    """A set scored plain and centred, from one encoding."""
    queries, passages = encode_set(encoder, evaluator.data)
    for centring in STUDY_CENTRINGS:
        yield evaluator.evaluate(queries, passages, centring=centring)


def _rows(
    progress: Progress, step: int, split: str, evaluation: Evaluation, means: list[MeanScore]
) -> Iterator[dict[str, Any]]:
    for mean in means:
        yield {
            "ratio": progress.ratio,
            "seed": progress.seed,
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
    path = out / "config.json"
    wanted = json.loads(json.dumps(asdict(config)))
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))["config"]
        differing = [item.name for item in fields(config) if found.get(item.name) != wanted[item.name]]
        if not differing:
            return
        if not overwrite:
            name = differing[0]
            raise FileExistsError(
                f"{out} holds a study with {name} {found.get(name)}, this one has {name} {wanted[name]}: "
                "choose another folder or overwrite it"
            )
        shutil.rmtree(out / "cells", ignore_errors=True)
        (out / "results.jsonl").unlink(missing_ok=True)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    described = {name: DESCRIPTION[name] for name in STUDY_CENTRINGS}
    content = {"command": command, "config": wanted, "centring": described, "environment": environment()}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
    """All finished cells' rows as OUT/results.jsonl."""
    path = out / "results.jsonl"
    with write_atomically(path) as temporary, temporary.open("wb") as target:
        for ratio, seed in config.cells:
            rows = cell_folder(out, ratio, seed) / "rows.jsonl"
            if rows.is_file():
                with rows.open("rb") as source:
                    shutil.copyfileobj(source, target)
    return path


def _write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
