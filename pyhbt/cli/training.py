"""``pyhbt study`` and ``pyhbt train``."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyhbt.arguments import check_at_least, check_seed
from pyhbt.cli.options import check_given, saved_values, threads_option
from pyhbt.cli.terminal import console, say, set_up, study_progress, table
from pyhbt.data.columns import parse_columns
from pyhbt.data.registry import (
    columns_option,
    data_option,
    languages_option,
    limit_option,
    passage_lang_option,
    query_lang_option,
    skip_unusable_option,
)
from pyhbt.encoders.options import TrainedEncoderOptions
from pyhbt.options import build, option, options_of, plain_values, values_of
from pyhbt.study.config import StudyConfig
from pyhbt.training.config import TrainingConfig
from pyhbt.training.schedules import RatioSchedule

if TYPE_CHECKING:
    from pyhbt.cli.options import Given
    from pyhbt.encoders import Encoder

_QUICK: dict[str, Any] = {"arms": (0.0, 0.5, 1.0), "seeds": (0,), "steps": 100}
_OF_TRAINING = {item.field for item in options_of(TrainingConfig)}
_OF_ENCODER = {item.field for item in options_of(TrainedEncoderOptions)}
_OF_STUDY = {item.field for item in options_of(StudyConfig)} - _OF_TRAINING


@dataclass(frozen=True)
class StudyCommand:
    """Options of ``pyhbt study``."""

    config: StudyConfig
    out: Path | None = option(
        "Folder of results; an interrupted study goes on.", None, unset="pyhbt-study", saved=False
    )
    quick: bool = option("Three ratios, one seed, fewer steps.", False, saved=False)
    jobs: int | None = option(
        "Processes that train cells at the same time; torch's threads are divided among them.",
        None,
        unset="one a thread, as many as a quarter of the free memory holds; on a GPU one",
        saved=False,
    )
    threads: int | None = threads_option()
    overwrite: bool = option("Replace another study in the folder.", False, saved=False)

    def __post_init__(self) -> None:
        check_given(self, "jobs")


def study(given: Given) -> None:
    """Train at several cross-lingual ratios and compare convergence, final quality and language bias."""
    set_up(given.get("threads"))
    import torch

    from pyhbt.data import load_study
    from pyhbt.encoders import load_encoder
    from pyhbt.study.analysis import analyse
    from pyhbt.study.jobs import fitting_jobs
    from pyhbt.study.report import summary_table, write_report
    from pyhbt.study.run import check_out, run_study

    quick = given.get("quick", False)
    out = given.get("out") or Path("pyhbt-study-quick" if quick else "pyhbt-study")
    check_out(out)
    if given.get("jobs") is not None:
        check_at_least("jobs", given["jobs"], 1)
    parse_columns(given.get("columns"))  # a mistake in it is told before anything is loaded
    wanted = {**(_QUICK if quick else {}), **given}
    with console.status("loading encoder and data"):
        model = load_encoder(wanted.get("encoder", "ngram"), max_length=wanted.get("max_length"))
        wanted.setdefault("max_length", model.length_in_training)
        config = StudyConfig(_training_of(model, wanted), **_only(_OF_STUDY, wanted))
        loaded = load_study(
            config.data,
            languages=config.languages,
            low_resource=config.low_resource,
            zero_shot=config.zero_shot,
            columns=parse_columns(config.columns),
            query_lang=config.query_lang,
            passage_lang=config.passage_lang,
            skip_unusable=config.skip_unusable,
        )
    say(f"{loaded.name}: train {loaded.train}, dev {loaded.dev}, test {loaded.test}")
    command = shlex.join(["pyhbt", *sys.argv[1:]])
    with study_progress("cells") as observe:
        run_study(
            config,
            loaded,
            out,
            command=command,
            overwrite=given.get("overwrite", False),
            jobs=given.get("jobs") or fitting_jobs(model),
            observe=observe,
        )
    with console.status("writing the report"):
        analysis = analyse(out)
        report_path = write_report(out, analysis, jobs=torch.get_num_threads())
    summary = summary_table(analysis.scores)
    table("final scores on the test set, plain, mean over seeds", summary.columns, summary.rows)
    say(f"report: {report_path}")


@dataclass(frozen=True)
class TrainCommand:
    """Options of ``pyhbt train``."""

    training: TrainingConfig
    out: Path = option("Folder of the trained encoder, its log and checkpoints.", saved=False)
    data: str = data_option()
    start: TrainedEncoderOptions = field(default_factory=TrainedEncoderOptions)
    ratio: str = option("Cross-lingual ratio, or a schedule such as linear:0:1 or adaptive:0.1:0.9.", "0.5")
    seed: int = option("Fixes the order of batches and dropout.", 0)
    languages: tuple[str, ...] | None = languages_option()
    limit: int | None = limit_option()
    columns: tuple[str, ...] | None = columns_option()
    query_lang: str | None = query_lang_option()
    passage_lang: str | None = passage_lang_option()
    skip_unusable: bool = skip_unusable_option()
    triple_negatives: int = option("Attach up to that many of a query's negatives (mmarco).", 0)
    eval_every: int | None = option(
        "Score the data's dev set every so many steps, into the log.", None, unset="never"
    )
    save_every: int = option("Steps between checkpoints.", 500)
    resume: bool = option(
        "Go on from the last whole checkpoint in OUT, with the options in OUT/config.yaml; others that change the "
        "outcome are refused.",
        False,
        saved=False,
    )
    extend: bool = option(
        "With --resume and a higher --steps: go on to more steps; schedules span the longer training.",
        False,
        saved=False,
    )
    language_means: bool = option("Save the mean vector of each training language too.", False)
    push_to_hub: str | None = option(
        "Upload the encoder to this hub repository (NAME or OWNER/NAME), private.", None, saved=False
    )
    threads: int | None = threads_option()

    def __post_init__(self) -> None:
        RatioSchedule.parse(self.ratio)  # refuses what is none
        check_given(self, "limit", "eval_every", "save_every")
        check_seed("seed", self.seed)
        check_at_least("triple_negatives", self.triple_negatives, 0)
        parse_columns(self.columns)
        if self.extend and not self.resume:
            raise ValueError("extend: found True, expected False where no run is resumed")


def train(given: Given) -> None:
    """Train one encoder on hybrid batches and save it."""
    set_up(given.get("threads"))
    from pyhbt.data import judged_pairs, load_train
    from pyhbt.data.registry import load_dev
    from pyhbt.evaluation.run import dev_scores
    from pyhbt.files import only_writer
    from pyhbt.training.checkpoints import to_resume
    from pyhbt.training.distributed import leave
    from pyhbt.training.model_card import check_repository, push_to_hub
    from pyhbt.training.run import check_out, train_encoder

    out = Path(given["out"])
    check_out(out)
    if given.get("push_to_hub") is not None:
        check_repository(given["push_to_hub"])
    if out.is_dir() and os.environ.get("RANK", "0") == "0":
        with only_writer(out):
            pass  # a folder that another process writes to is refused before anything is loaded
    if given.get("resume"):
        to_resume(out / "checkpoints")
        given = _resumed(given, out / "config.yaml")
    parse_columns(given.get("columns"))
    model = build(TrainedEncoderOptions, _only(_OF_ENCODER, given)).load(seed=given.get("seed", 0))
    if "max_length" not in given:
        model.max_length = model.length_in_training or model.max_length
    wanted = build(TrainCommand, {**values_of(_training_of(model, given)), **given})
    adaptive = wanted.ratio.startswith("adaptive")
    dev = None
    if wanted.eval_every or adaptive:
        dev = load_dev(
            wanted.data,
            languages=wanted.languages,
            query_lang=wanted.query_lang,
            passage_lang=wanted.passage_lang,
            skip_unusable=wanted.skip_unusable,
        )
    pairs = load_train(
        wanted.data,
        languages=wanted.languages,
        limit=wanted.limit,
        columns=parse_columns(wanted.columns),
        query_lang=wanted.query_lang,
        passage_lang=wanted.passage_lang,
        negatives=wanted.triple_negatives,
    )
    say(model.describe(), f"training on {pairs}", str(wanted.training))
    saved = train_encoder(
        model,
        pairs,
        wanted.training,
        wanted.out,
        ratio=wanted.ratio,
        seed=wanted.seed,
        save_every=wanted.save_every,
        resume=wanted.resume,
        extend=wanted.extend,
        dev_pairs=judged_pairs(dev) if dev and adaptive else None,
        evaluate=dev_scores(dev) if dev and wanted.eval_every else None,
        eval_every=wanted.eval_every,
        language_means=wanted.language_means,
        base=wanted.start.encoder,
        data_name=wanted.data,
        scored_on=dev.name if dev else "",
        options=plain_values(wanted),
    )
    say(f"encoder: {saved}")
    leave()
    if wanted.push_to_hub and os.environ.get("RANK", "0") == "0":
        say(f"pushed: {push_to_hub(saved, wanted.push_to_hub)}")


def _resumed(given: Given, path: Path) -> Given:
    """The options that a run was begun with, and before them what is given; ``set`` holds both."""
    if not path.is_file():
        return given
    saved = saved_values(TrainCommand, path)
    arguments = {**saved.get("arguments", {}), **given.get("arguments", {})}
    return {**saved, **given, "arguments": arguments}


def _training_of(model: Encoder, given: Given) -> TrainingConfig:
    """The options of a training, those that were not given as they suit the encoder."""
    return TrainingConfig.for_encoder(model, **_only(_OF_TRAINING, given))


def _only(names: set[str], given: Given) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}
