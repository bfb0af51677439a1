"""The ratio study: train several arms with several seeds, measure convergence and final quality.

One cell is one training of one arm with one seed (:mod:`pyhbt.study.cells`). Cells are made by this process or by
workers, in any order; an interrupted study goes on with what is missing, and one that grows (arms, seeds, metrics, test
sets) keeps the cells that are there. OUT/results.jsonl is all cells' measurements, OUT/config.yaml what was run,
OUT/data.json what the data hold, OUT/environment.json on what it ran.

Rows carry arm, seed, step, split, centring, setting, query_lang, passage_lang, tier, metric, value. Learning curves
(split "dev") have macro means alone; final figures ("test", "test:NAME") also one row a language pair; what trainings
saw is in split "train", where the setting is the kind of batch.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import pyhbt
from pyhbt.data import RetrievalSet, StudyData, load_retrieval
from pyhbt.data.coverage import coverage, meaning_of_ratio
from pyhbt.data.pair_set import PairSet
from pyhbt.data.retrieval_set import with_tiers
from pyhbt.evaluation.centring import DESCRIPTION
from pyhbt.evaluation.names import STUDY_CENTRINGS
from pyhbt.files import check_folder_target, clear_leftovers, only_writer, write_atomically
from pyhbt.ops._native import build_info
from pyhbt.options import plain_values, read_config, values_of, write_config
from pyhbt.study.arms import Arm
from pyhbt.study.cells import ENCODER, Cell, damaged, finished_cells, measured_parts
from pyhbt.study.config import StudyConfig
from pyhbt.study.description import check_cells, describe
from pyhbt.study.jobs import Job, run_jobs
from pyhbt.study.rows import collect
from pyhbt.study.tuning import candidates, choose, chosen_cells
from pyhbt.study.workplace import Observer, Workplace
from pyhbt.training.sampling import HybridBatchSampler
from pyhbt.training.unfilled import unfilled_in_words

logger = logging.getLogger(__name__)

_MADE = ("cells", "results.jsonl", "tuning.json", "data.json", "report.html", "plots")


def run_study(
    config: StudyConfig,
    data: StudyData,
    out: str | Path,
    *,
    command: str = "",
    overwrite: bool = False,
    jobs: int = 1,
    observe: Observer = lambda progress: None,
) -> Path:
    """Make what OUT lacks and write OUT/results.jsonl; returns its path.

    Args:
        config: the study.
        data: as ``config.data`` names it.
        out: a folder, made if it is not there.
        command: kept with the results, for the report.
        overwrite: replace another study.
        jobs: processes that make cells; torch's threads are divided among them.
        observe: called after every step and evaluation of a cell.

    Raises:
        FileExistsError: OUT holds cells of another study and ``overwrite`` is off.
        FolderInUseError: another process runs a study in OUT.
        FileNotFoundError, ValueError: what an arm wants cannot be read, or does not go with the encoder or the data;
            nothing is trained or written.
    """
    out = Path(out)
    check_out(out)
    with only_writer(out):
        tests = _further_tests(config, data)
        _check_pivot(config, {"test": data.test, **tests})
        description = describe(config, data)
        done = set() if overwrite else finished_cells(out).keys()
        if not overwrite:
            check_cells(out, description)
        text = None if config.centring_text is None else load_retrieval(config.centring_text)
        place = Workplace(config, data, tests, out, description, text)
        missing = {cell.arm for cell in map(Cell._make, config.cells) if cell not in done}
        _check_arms(place, sorted(missing))
        _claim(place, data, command, overwrite, work=bool(missing))
        return _make_cells(place, jobs, observe)


def check_out(out: Path) -> None:
    """Refuse OUT where a study could not write its files.

    Raises:
        OSError: a file is where a folder should be or the reverse, or the system does not let it be written.
    """
    files = ("results.jsonl", "config.yaml", "environment.json", "data.json", "report.html")
    check_folder_target("out", out, files, ("cells", "plots"))


def _further_tests(config: StudyConfig, data: StudyData) -> dict[str, RetrievalSet]:
    """The further test sets by the text that names them, with the tiers of the study's training data."""
    return {spec: with_tiers(load_retrieval(spec), data.test.tiers) for spec in config.test}


def _check_pivot(config: StudyConfig, tests: Mapping[str, RetrievalSet]) -> None:
    for name, test in tests.items():
        if config.pivot is not None and config.pivot not in test.passage_langs:
            known = ", ".join(sorted(set(test.passage_langs)))
            raise ValueError(
                f"pivot: found {config.pivot!r}, expected a language of {name}'s passages: {known}"
            )


def _make_cells(place: Workplace, jobs: int, observe: Observer) -> Path:
    """Make the cells that are missing, those that others are made of first."""
    config, out = place.config, place.out
    clear_leftovers(out / "cells")
    for folder, fault in damaged(out).items():
        logger.warning("%s: %s; it does not count and is made again where it is needed", folder, fault)
    _warn_of_short_batches(config, place.train_pairs)
    trained = [cell for cell in map(Cell._make, config.cells) if not cell.arm.parents]
    averaged = [cell for cell in map(Cell._make, config.cells) if cell.arm.parents]
    tuned = [cell for cell in trained if config.is_tuned(cell.arm)]
    if tuned:
        run_jobs(place, _training_jobs(place, candidates(config)), jobs, observe)
        choose(config, out)
        _drop_encoders(place)
    for cells in (trained, averaged):
        if cells:
            run_jobs(place, _measuring_jobs(place, chosen_cells(out, cells)), jobs, observe)
            collect(out)
    return out / "results.jsonl"


def _drop_encoders(place: Workplace) -> None:
    """Remove the encoders of candidates that were not chosen, where encoders are not kept."""
    cells = finished_cells(place.out)
    chosen = set(chosen_cells(place.out, map(Cell._make, place.config.cells)))
    for cell in candidates(place.config):
        if cell not in chosen and not place.keeps_encoders(cell.arm):
            _remove(cells[cell] / ENCODER)


def _training_jobs(place: Workplace, cells: Sequence[Cell]) -> list[Job]:
    """Trainings whose learning rate may be chosen: the encoder is kept for the test sets, which are not read yet."""
    done = finished_cells(place.out)
    return [Job(cell, keep=True) for cell in cells if cell not in done]


def _measuring_jobs(place: Workplace, cells: Sequence[Cell]) -> list[Job]:
    """What the cells lack, trainings included."""
    done = finished_cells(place.out)
    jobs = []
    for cell in cells:
        parts = measured_parts(done[cell]) if cell in done else {}
        splits = tuple(
            split
            for split, test in place.tests.items()
            if split not in parts or not test.serves(parts[split])
        )
        if cell not in done or splits:
            jobs.append(Job(cell, splits))
    return jobs


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


def _check_arms(place: Workplace, arms: Sequence[Arm]) -> None:
    """Make the trainer of each arm once, so that the last one is not refused after all others are trained."""
    trained = [arm for arm in arms if not arm.parents]
    if not trained:
        return
    encoder = place.config.make_encoder(place.config.seeds[0])
    for arm in trained:
        with tempfile.TemporaryDirectory() as scratch:
            cell = Cell(arm, place.config.seeds[0])
            place.trainer(cell, encoder, scratch, lambda encoder, step: {})
        if place.config.training_of(arm).lora is not None:
            encoder.remove_lora()


def _claim(place: Workplace, data: StudyData, command: str, overwrite: bool, *, work: bool) -> None:
    """Make OUT this study's folder; where there is no work to do, what it was made by stays."""
    out, config = place.out, place.config
    path = out / "config.yaml"
    if overwrite:
        for leftover in ("config.json", *_MADE):
            _remove(out / leftover)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    described = {name: DESCRIPTION[name] for name in STUDY_CENTRINGS}
    ran = {"command": command, "centring": described, "environment": environment()}
    if work or not (out / "environment.json").is_file():
        _write_json(out / "environment.json", ran)
    _write_json(out / "data.json", _describe_data(place, data))
    values = plain_values(config)
    if path.is_file() and finished_cells(out):
        saved = read_config(path)
        for name in ("arms", "seeds", "metrics", "test"):
            values[name] = list(dict.fromkeys([*saved.get(name, []), *values[name]]))
    again = "runs again: pyhbt study --config FILE --out FOLDER"
    write_config(path, values, f"A study by PyHBT {pyhbt.__version__}; {again}")


def _describe_data(place: Workplace, data: StudyData) -> dict[str, Any]:
    """What the data hold of each language, for the report."""
    languages = sorted({*data.train.languages, *data.dev.languages, *data.test.languages})
    sets = {"dev": place.curve.data, **{split: test.data for split, test in place.tests.items()}}
    return {
        "name": data.name,
        "meaning_of_ratio": meaning_of_ratio(data.train),
        "tiers": dict(data.test.tiers),
        "train": {"pairs": len(data.train), "languages": list(data.train.languages)},
        "sets": {
            split: {"name": one.name, **coverage(one, languages if split in ("dev", "test") else None)}
            for split, one in sets.items()
        },
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


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
