"""The ``pyhbt`` command: study, train, evaluate, encode, search, mine, report, doctor.

A mistake of the caller's (an unknown option, a missing file, a wrong value) gives one line and exit code 2.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pyhbt.cli_options import (
    ENCODER_HELP,
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

if TYPE_CHECKING:
    from pyhbt.encoders import Encoder

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "Hybrid batch training of multilingual dense retrievers: train on a mix of monolingual and cross-lingual "
        "batches, and measure what the mix does. Start with: pyhbt study --quick"
    ),
)

# click's UsageError; typer has carried a click of its own since 0.26, so it is reached through a subclass
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
_QUICK_STEPS = 150


@app.command()
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
    _set_up(threads)
    from pyhbt.data import load_study
    from pyhbt.encoders import load_encoder
    from pyhbt.report import summary_table, write_report
    from pyhbt.results import load_results
    from pyhbt.study import StudyConfig, run_study
    from pyhbt.terminal import console, study_progress, table
    from pyhbt.training import TrainingConfig

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
        wanted["max_length"] = max_length or _training_length(model)
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


@app.command()
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
    _set_up(threads)
    from pyhbt.data import load_study, load_train
    from pyhbt.data.judged import judged_pairs
    from pyhbt.encoders import load_encoder
    from pyhbt.model_card import push_to_hub as push
    from pyhbt.scoring import dev_scores
    from pyhbt.terminal import console
    from pyhbt.training import TrainingConfig, train_encoder

    model = load_encoder(
        encoder,
        seed=seed,
        max_length=max_length,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
    )
    model.max_length = max_length or _training_length(model) or model.max_length
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
    if push_to_hub and int(os.environ.get("RANK", "0")) == 0:
        console.print(f"pushed: {push(saved, push_to_hub)}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    encoder: EncoderOption,
    data: DataOption = "cldr",
    languages: LanguagesOption = None,
    split: Annotated[str, typer.Option(help="Split to evaluate, where the data has several.")] = "test",
    centring: Annotated[
        str, typer.Option(help="Comma-separated list of none, passages, both: language means subtracted.")
    ] = "none,both",
    language_means: Annotated[
        bool, typer.Option("--language-means", help="Subtract the means that the encoder carries.")
    ] = False,
    metrics: Annotated[
        str, typer.Option(help="Comma-separated list of mAP, mAP@k, recall@k, nDCG@k, MRR, MRR@k.")
    ] = "mAP,recall@1,recall@10,nDCG@10,MRR@10",
    out: Annotated[
        Path | None, typer.Option(help="Write all means, by language pair, to this JSONL.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Write the multilingual ranking to this TREC run file.")
    ] = None,
    qrels: Annotated[Path | None, typer.Option(help="Write the judgements to this TREC qrels file.")] = None,
    run_depth: Annotated[int, typer.Option(help="Passages of each query in the run.", min=1)] = 100,
    max_length: LengthOption = None,
    query_prefix: QueryPrefixOption = None,
    passage_prefix: PassagePrefixOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts encoded at a time.", min=1)] = None,
    threads: ThreadsOption = None,
) -> None:
    """Score an encoder in the monolingual, cross-lingual and multilingual setting, and its language bias."""
    _set_up(threads)
    from pyhbt.centring import parse_centring
    from pyhbt.data import load_retrieval
    from pyhbt.encoders import load_encoder
    from pyhbt.scoring import describe_centrings, score_encoder, write_scores
    from pyhbt.terminal import console, evaluation_table

    names = [name.strip() for name in metrics.split(",")]
    loaded = load_retrieval(data, languages=codes(languages), split=split)
    model = load_encoder(
        encoder, max_length=max_length, query_prefix=query_prefix, passage_prefix=passage_prefix
    )
    console.print(f"{loaded}\nencoder {encoder}: {model.describe()}", highlight=False, soft_wrap=True)
    evaluations = score_encoder(
        model,
        loaded,
        metrics=names,
        centrings=[parse_centring(name.strip()) for name in centring.split(",")],
        language_means=language_means,
        batch_size=batch_size,
        run=run,
        run_depth=run_depth,
        qrels=qrels,
    )
    evaluation_table(evaluations, names)
    for line in describe_centrings(evaluations):
        console.print(line, highlight=False)
    if out:
        write_scores(evaluations, out)


@app.command()
def encode(
    texts: Annotated[Path, typer.Argument(help="UTF-8 file: one text a line, or .jsonl with a text field.")],
    out: Annotated[Path, typer.Option(help="Write float32 vectors (texts, dim) to this .npy file.")],
    encoder: EncoderOption = "ngram",
    kind: Annotated[Literal["query", "passage"], typer.Option(help="Decides the prefix.")] = "passage",
    field: Annotated[str, typer.Option(help="Field of a .jsonl line that holds the text.")] = "text",
    language: Annotated[
        str | None, typer.Option(help="Of the texts: the encoder's mean of it is subtracted.")
    ] = None,
    max_length: LengthOption = None,
    query_prefix: QueryPrefixOption = None,
    passage_prefix: PassagePrefixOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts encoded at a time.", min=1)] = None,
    threads: ThreadsOption = None,
) -> None:
    """Encode texts to unit vectors."""
    _set_up(threads)
    from pyhbt.encoders import load_encoder
    from pyhbt.scoring import encode_file
    from pyhbt.terminal import console

    model = load_encoder(
        encoder, max_length=max_length, query_prefix=query_prefix, passage_prefix=passage_prefix
    )
    shape = encode_file(model, texts, out, kind=kind, field=field, language=language, batch_size=batch_size)
    console.print(f"{out}: float32 {shape}", highlight=False, soft_wrap=True)


@app.command()
def search(
    queries: Annotated[Path, typer.Argument(help=".npy vectors (memory-mapped), or texts with --encoder.")],
    corpus: Annotated[Path, typer.Argument(help="The same, or the folder of a saved ExactIndex.")],
    out: Annotated[Path, typer.Option(help="TREC run file; an interrupted search goes on.")],
    k: Annotated[int, typer.Option(help="Passages a query.", min=1)] = 100,
    similarity: Annotated[Literal["dot", "cosine"], typer.Option(help="Of vectors.")] = "dot",
    encoder: Annotated[str | None, typer.Option(help="For texts: " + ENCODER_HELP)] = None,
    query_ids: Annotated[Path | None, typer.Option(help="One id a line; default: _id, id or row.")] = None,
    corpus_ids: Annotated[Path | None, typer.Option(help="The same for passages.")] = None,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="A query does not find the passage of its own id.")
    ] = False,
    field: Annotated[str, typer.Option(help="Field of a .jsonl line that holds the text.")] = "text",
    block: Annotated[int, typer.Option(help="Queries between two savings.", min=1)] = 1024,
    tag: Annotated[str, typer.Option(help="Last column of the run.")] = "pyhbt",
    max_length: LengthOption = None,
    query_prefix: QueryPrefixOption = None,
    passage_prefix: PassagePrefixOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Find the k best passages of each query, exactly, and write them as a TREC run."""
    _set_up(threads)
    from pyhbt.encoders import load_encoder
    from pyhbt.searching import SearchJob, search_to_run
    from pyhbt.terminal import console

    job = SearchJob(
        queries=queries,
        corpus=corpus,
        k=k,
        similarity=similarity,
        query_ids=query_ids,
        corpus_ids=corpus_ids,
        exclude_self=exclude_self,
        encoder=encoder,
        encoder_options=(max_length, query_prefix, passage_prefix),
        field=field,
        block=block,
        tag=tag,
    )

    def load() -> Encoder:
        return load_encoder(
            str(encoder), max_length=max_length, query_prefix=query_prefix, passage_prefix=passage_prefix
        )

    done = search_to_run(job, out, load_encoder=load if encoder else None, progress=True)
    resumed = f", {done.resumed} blocks from an earlier run" if done.resumed else ""
    console.print(
        f"{out}: {done.queries} queries, {done.passages} passages{resumed}", highlight=False, soft_wrap=True
    )


@app.command()
def mine(
    out: Annotated[Path, typer.Option(help="Write pairs with negatives to this .jsonl file.")],
    data: DataOption = "cldr",
    encoder: EncoderOption = "ngram",
    num_negatives: Annotated[int, typer.Option(help="Negatives wanted for each pair.", min=1)] = 7,
    skip_top: Annotated[int, typer.Option(help="Leave out this many of the best passages.", min=0)] = 0,
    depth: Annotated[int, typer.Option(help="Look at passages up to this rank.", min=1)] = 100,
    pool: Annotated[
        Literal["passage", "query", "other", "any"],
        typer.Option(help="Language of negatives: the passage's, the query's, any but the query's, any."),
    ] = "passage",
    share: Annotated[float, typer.Option(help="Most of the positive's score that they may have.")] = 0.95,
    margin: Annotated[float | None, typer.Option(help="Least distance below the positive's score.")] = None,
    any_score: Annotated[bool, typer.Option("--any-score", help="No --share: whatever they score.")] = False,
    draw: Annotated[
        Literal["top", "random"], typer.Option(help="The best of these passages, or a random choice.")
    ] = "top",
    seed: Annotated[int, typer.Option(help="Fixes the random choice.", min=0)] = 0,
    existing: Annotated[
        Literal["keep", "replace"], typer.Option(help="Negatives that pairs have come first, or go.")
    ] = "keep",
    corpus: Annotated[Path | None, typer.Option(help="More passages: JSON lines with text and lang.")] = None,
    languages: LanguagesOption = None,
    limit: Annotated[int | None, typer.Option(help="Keep at most this many training items.", min=1)] = None,
    max_length: LengthOption = None,
    query_prefix: QueryPrefixOption = None,
    passage_prefix: PassagePrefixOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts encoded at a time.", min=1)] = None,
    threads: ThreadsOption = None,
) -> None:
    """Find hard negatives for training pairs: passages that score high and do not answer."""
    _set_up(threads)
    from pyhbt.candidates import load_corpus
    from pyhbt.data import load_train
    from pyhbt.encoders import load_encoder
    from pyhbt.mining import MiningRules, mine_to_file
    from pyhbt.terminal import console

    rules = MiningRules(
        num_negatives=num_negatives,
        skip_top=skip_top,
        depth=depth,
        pool=pool,
        share=None if any_score else share,
        margin=margin,
        draw=draw,
        seed=seed,
        existing=existing,
    )
    pairs = load_train(data, languages=codes(languages), limit=limit)
    more = load_corpus(corpus) if corpus else ()
    model = load_encoder(
        encoder, max_length=max_length, query_prefix=query_prefix, passage_prefix=passage_prefix
    )
    console.print(f"{pairs}\nencoder {encoder}: {model.describe()}", highlight=False, soft_wrap=True)
    found = mine_to_file(model, pairs, out, rules, corpus=more, batch_size=batch_size, progress=True)
    console.print(f"{found.describe()}\n{out}: {len(pairs):,} pairs", highlight=False, soft_wrap=True)


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study, finished or not.")] = Path("pyhbt-study"),
) -> None:
    """Write report.html and its plots anew from a study's results."""
    from pyhbt.report import write_report

    typer.echo(f"report: {write_report(study)}")


@app.command()
def doctor() -> None:
    """Print versions, SIMD level, OpenMP runtimes and CUDA state."""
    from pyhbt.doctor import diagnose

    for subject, finding in diagnose():
        typer.echo(f"{subject:<22} {finding}")


def main() -> None:
    """Entry point: run the command, turn a caller's mistake into one line and exit code 2."""
    try:
        status = app(standalone_mode=False)
    except _USAGE_ERROR as error:
        _fail(error.format_message())
    except (ValueError, TypeError, OSError, ImportError) as error:
        if "PYHBT_TRACEBACK" in os.environ:
            raise
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("pyhbt: interrupted", err=True)
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    typer.echo(f"pyhbt: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _set_up(threads: int | None) -> None:
    """Threads as asked for; no progress bars of libraries between our own."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if threads is not None:
        torch.set_num_threads(threads)
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first rank speaks
        from pyhbt.terminal import console

        console.quiet = True


def _training_length(model: Encoder) -> int | None:
    return None if model.training_length is None else min(model.training_length, model.max_length)


def _command() -> str:
    return shlex.join(["pyhbt", *sys.argv[1:]])


if __name__ == "__main__":
    main()
