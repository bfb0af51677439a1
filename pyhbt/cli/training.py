"""``pyhbt study`` and ``pyhbt train``."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pyhbt.cli.base import set_up, training_length
from pyhbt.cli.options import (
    AlignmentOption,
    BatchOption,
    CodeSwitchingOption,
    CrossPairsOption,
    DataOption,
    EncoderOption,
    JsOption,
    LanguagesOption,
    LearnTemperatureOption,
    LengthOption,
    LexiconOption,
    LowResourceOption,
    MatryoshkaOption,
    MiniBatchOption,
    ParallelPassagesOption,
    PassagePrefixOption,
    QueryPrefixOption,
    RateOption,
    SamplingOption,
    SymmetricOption,
    TemperatureOption,
    ThreadsOption,
    ZeroShotOption,
    arms,
    codes,
    dims,
    exponent,
)

_QUICK_STEPS = 150


def study(
    data: DataOption = "cldr",
    encoder: EncoderOption = "ngram",
    ratios: Annotated[
        str | None,
        typer.Option(
            help="Arms to compare: ratios separated by commas; with schedules such as linear:0:1 or adaptive:0.1:0.9, "
            "by spaces. An arm may change more: 0.5+js=0.5, 0.5+language-sampling=0.3."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds for each ratio (3).", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of each cell.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of results; an interrupted study goes on.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three ratios, one seed, fewer steps.")] = False,
    languages: LanguagesOption = None,
    low_resource: LowResourceOption = None,
    zero_shot: ZeroShotOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    temperature: TemperatureOption = None,
    learn_temperature: LearnTemperatureOption = None,
    symmetric: SymmetricOption = None,
    matryoshka_dims: MatryoshkaOption = None,
    parallel_passages: ParallelPassagesOption = None,
    alignment_weight: AlignmentOption = None,
    js_weight: JsOption = None,
    lexicon: LexiconOption = None,
    code_switching: CodeSwitchingOption = None,
    mini_batch_size: MiniBatchOption = None,
    language_sampling: SamplingOption = None,
    cross_pairs: CrossPairsOption = None,
    eval_every: Annotated[int | None, typer.Option(help="Steps between points of the curve.", min=1)] = None,
    max_length: LengthOption = None,
    query_prefix: QueryPrefixOption = None,
    passage_prefix: PassagePrefixOption = None,
    threads: ThreadsOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another study in the folder.")
    ] = False,
) -> None:
    """Train at several cross-lingual ratios and compare convergence, final quality and language bias."""
    set_up(threads)
    from pyhbt.cli.terminal import console, study_progress, table
    from pyhbt.data import load_study
    from pyhbt.encoders import load_encoder
    from pyhbt.study.cells import StudyConfig, run_study
    from pyhbt.study.report import summary_table, write_report
    from pyhbt.study.results import load_results
    from pyhbt.training.run import TrainingConfig

    out = out or Path("pyhbt-study-quick" if quick else "pyhbt-study")
    wanted: dict[str, Any] = {
        "data": data,
        "encoder": encoder,
        "languages": codes(languages),
        "low_resource": codes(low_resource),
        "zero_shot": codes(zero_shot),
        "ratios": arms(ratios) if ratios else (0.0, 0.5, 1.0) if quick else None,
        "seeds": tuple(range(seeds)) if seeds else (0,) if quick else None,
        "eval_every": eval_every,
        "query_prefix": query_prefix,
        "passage_prefix": passage_prefix,
    }
    with console.status("loading encoder and data"):
        model = load_encoder(encoder, max_length=max_length)
        wanted["max_length"] = max_length or training_length(model)
        training = TrainingConfig.for_encoder(
            model,
            steps=steps or (_QUICK_STEPS if quick else None),
            batch_size=batch_size,
            learning_rate=learning_rate,
            temperature=temperature,
            learn_temperature=learn_temperature,
            symmetric=symmetric,
            matryoshka_dims=dims(matryoshka_dims),
            parallel_passages=parallel_passages,
            alignment_weight=alignment_weight,
            js_weight=js_weight,
            lexicon=lexicon,
            code_switching=code_switching,
            mini_batch_size=mini_batch_size,
            language_sampling=exponent(language_sampling),
            cross_pairs=cross_pairs,
        )
        config = StudyConfig(training, **{name: value for name, value in wanted.items() if value is not None})
        loaded = load_study(
            data, languages=config.languages, low_resource=config.low_resource, zero_shot=config.zero_shot
        )
    console.print(
        f"{loaded.name}: train {loaded.train}, dev {loaded.dev}, test {loaded.test}", highlight=False
    )
    with study_progress("cells") as observe:
        run_study(config, loaded, out, command=_command(), overwrite=overwrite, observe=observe)
    with console.status("writing the report"):
        report_path = write_report(out)
    summary = summary_table(load_results(out))
    table("final scores on the test set, plain, mean over seeds", summary.columns, summary.rows)
    console.print(f"report: {report_path}", highlight=False, soft_wrap=True)


def train(
    out: Annotated[Path, typer.Option(help="Folder of the trained encoder, its log and checkpoints.")],
    data: DataOption = "cldr",
    encoder: EncoderOption = "ngram",
    ratio: Annotated[
        str, typer.Option(help="Cross-lingual ratio, or a schedule such as linear:0:1 or adaptive:0.1:0.9.")
    ] = "0.5",
    seed: Annotated[int, typer.Option(help="Fixes the order of batches and dropout.", min=0)] = 0,
    steps: Annotated[int | None, typer.Option(help="Training steps.", min=1)] = None,
    languages: LanguagesOption = None,
    limit: Annotated[int | None, typer.Option(help="Keep at most this many training items.", min=1)] = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    temperature: TemperatureOption = None,
    learn_temperature: LearnTemperatureOption = None,
    symmetric: SymmetricOption = None,
    matryoshka_dims: MatryoshkaOption = None,
    parallel_passages: ParallelPassagesOption = None,
    alignment_weight: AlignmentOption = None,
    js_weight: JsOption = None,
    lexicon: LexiconOption = None,
    code_switching: CodeSwitchingOption = None,
    mini_batch_size: MiniBatchOption = None,
    language_sampling: SamplingOption = None,
    cross_pairs: CrossPairsOption = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Score the data's dev set every so many steps, into the log.", min=1)
    ] = None,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 500,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last whole checkpoint in OUT.")
    ] = False,
    language_means: Annotated[
        bool, typer.Option("--language-means", help="Save the mean vector of each training language too.")
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(help="Upload the encoder to this hub repository (NAME or OWNER/NAME), private."),
    ] = None,
    max_length: LengthOption = None,
    query_prefix: QueryPrefixOption = None,
    passage_prefix: PassagePrefixOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Train one encoder on hybrid batches and save it."""
    set_up(threads)
    from pyhbt.cli.terminal import console
    from pyhbt.data import load_study, load_train
    from pyhbt.data.groups import judged_pairs
    from pyhbt.encoders import load_encoder
    from pyhbt.evaluation.run import dev_scores
    from pyhbt.training.distributed import leave
    from pyhbt.training.model_card import push_to_hub as push
    from pyhbt.training.run import TrainingConfig, train_encoder

    model = load_encoder(
        encoder,
        seed=seed,
        max_length=max_length,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
    )
    model.max_length = max_length or training_length(model) or model.max_length
    config = TrainingConfig.for_encoder(
        model,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        temperature=temperature,
        learn_temperature=learn_temperature,
        symmetric=symmetric,
        matryoshka_dims=dims(matryoshka_dims),
        parallel_passages=parallel_passages,
        alignment_weight=alignment_weight,
        js_weight=js_weight,
        lexicon=lexicon,
        code_switching=code_switching,
        mini_batch_size=mini_batch_size,
        language_sampling=exponent(language_sampling),
        cross_pairs=cross_pairs,
    )
    dev = None
    if eval_every or ratio.startswith("adaptive"):
        dev = load_study(data, languages=codes(languages)).dev
    pairs = load_train(data, languages=codes(languages), limit=limit)
    console.print(f"{model.describe()}\ntraining on {pairs}\n{config}", highlight=False, soft_wrap=True)
    saved = train_encoder(
        model,
        pairs,
        config,
        out,
        ratio=ratio,
        seed=seed,
        save_every=save_every,
        resume=resume,
        dev_pairs=judged_pairs(dev) if dev and ratio.startswith("adaptive") else None,
        evaluate=dev_scores(dev) if dev and eval_every else None,
        eval_every=eval_every,
        language_means=language_means,
        base=encoder,
        data_name=data,
        scored_on=dev.name if dev else "",
    )
    console.print(f"encoder: {saved}", highlight=False, soft_wrap=True)
    leave()
    if push_to_hub and int(os.environ.get("RANK", "0")) == 0:
        console.print(f"pushed: {push(saved, push_to_hub)}", highlight=False, soft_wrap=True)


def _command() -> str:
    return shlex.join(["pyhbt", *sys.argv[1:]])
