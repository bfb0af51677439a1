"""``pyhbt evaluate``, ``encode``, ``search`` and ``mine``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyhbt.cli.options import check_given, threads_option
from pyhbt.cli.terminal import say, set_up
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
from pyhbt.encoders.options import EncoderOptions, NamedEncoderOptions, batch_size_option
from pyhbt.evaluation.names import DEFAULT_METRICS, METRICS_HELP
from pyhbt.files import check_apart, check_file_target
from pyhbt.mining.rules import MiningRules
from pyhbt.options import build, option
from pyhbt.retrieval.run import SearchJob

if TYPE_CHECKING:
    from pyhbt.cli.options import Given


@dataclass(frozen=True)
class EvaluateCommand:
    """Options of ``pyhbt evaluate``."""

    model: NamedEncoderOptions
    data: str = data_option()
    languages: tuple[str, ...] | None = languages_option()
    query_lang: str | None = query_lang_option()
    passage_lang: str | None = passage_lang_option()
    skip_unusable: bool = skip_unusable_option()
    split: str = option("Split to evaluate, where the data has several.", "test")
    centring: tuple[str, ...] = option(
        "Comma-separated list of none, passages, both, text: language means subtracted.", ("none", "both")
    )
    centring_text: str | None = option(
        "Data set whose language means the centring text subtracts.", None, unset="none"
    )
    pivot: str | None = option(
        "Score pools of two languages too: this one and the query's.", None, unset="none"
    )
    language_means: bool = option("Subtract the means that the encoder carries.", False)
    metrics: tuple[str, ...] = option(METRICS_HELP, DEFAULT_METRICS)
    out: Path | None = option("Write all means, by language pair, to this JSONL.", None)
    run: Path | None = option("Write the multilingual ranking to this TREC run file.", None)
    qrels: Path | None = option("Write the judgements to this TREC qrels file.", None)
    run_depth: int = option("Passages of each query in the run.", 100)
    batch_size: int | None = batch_size_option()
    threads: int | None = threads_option()

    def __post_init__(self) -> None:
        check_given(self, "run_depth", "batch_size")
        for name in ("metrics", "centring"):
            if not getattr(self, name):
                raise ValueError(f"{name}: found none, expected at least one")
        if ("text" in self.centring) != (self.centring_text is not None):
            raise ValueError(
                f"centring_text: found {self.centring_text!r}, expected a data set where the centring text is wanted, "
                f"and there alone; centring is {','.join(self.centring)}"
            )


def evaluate(given: Given) -> None:
    """Score an encoder in the monolingual, cross-lingual and multilingual setting, and its language bias."""
    wanted = build(EvaluateCommand, given)
    set_up(wanted.threads)
    check_apart(run=wanted.run, qrels=wanted.qrels, out=wanted.out)
    for name, path in (("run", wanted.run), ("qrels", wanted.qrels), ("out", wanted.out)):
        if path is not None:
            check_file_target(name, path)
    from pyhbt.cli.terminal import evaluation_table
    from pyhbt.data import load_retrieval
    from pyhbt.evaluation.centring import parse_centring
    from pyhbt.evaluation.run import describe_centrings, score_encoder, write_scores

    model = wanted.model.load()
    data = load_retrieval(
        wanted.data,
        languages=wanted.languages,
        split=wanted.split,
        query_lang=wanted.query_lang,
        passage_lang=wanted.passage_lang,
        skip_unusable=wanted.skip_unusable,
    )
    text = None if wanted.centring_text is None else load_retrieval(wanted.centring_text)
    say(str(data), f"encoder {wanted.model.encoder}: {model.describe()}")
    evaluations = score_encoder(
        model,
        data,
        metrics=wanted.metrics,
        centrings=[parse_centring(name) for name in wanted.centring],
        pivot=wanted.pivot,
        text=text,
        language_means=wanted.language_means,
        batch_size=wanted.batch_size,
        run=wanted.run,
        run_depth=wanted.run_depth,
        qrels=wanted.qrels,
    )
    evaluation_table(evaluations, wanted.metrics)
    for line in describe_centrings(evaluations):
        say(line)
    if wanted.out:
        write_scores(evaluations, wanted.out)


@dataclass(frozen=True)
class EncodeCommand:
    """Options of ``pyhbt encode``."""

    texts: Path = option("UTF-8 file: one text a line, or .jsonl with a text field.", positional=True)
    out: Path = option("Write float32 vectors (texts, dim) to this .npy file.")
    model: EncoderOptions = field(default_factory=EncoderOptions)
    kind: Literal["query", "passage"] = option("Decides the prefix.", "passage")
    text_field: str = option("Field of a .jsonl line that holds the text.", "text", name="field")
    language: str | None = option("Of the texts: the encoder's mean of it is subtracted.", None)
    batch_size: int | None = batch_size_option()
    threads: int | None = threads_option()

    def __post_init__(self) -> None:
        check_given(self, "batch_size")


def encode(given: Given) -> None:
    """Encode texts to unit vectors."""
    wanted = build(EncodeCommand, given)
    set_up(wanted.threads)
    check_file_target("out", wanted.out, ".npy")
    from pyhbt.retrieval.vectors import encode_file

    model = wanted.model.load()
    shape = encode_file(
        model,
        wanted.texts,
        wanted.out,
        kind=wanted.kind,
        field=wanted.text_field,
        language=wanted.language,
        batch_size=wanted.batch_size,
    )
    say(f"{wanted.out}: float32 {shape}")


@dataclass(frozen=True)
class SearchCommand:
    """Options of ``pyhbt search``."""

    job: SearchJob
    out: Path = option("TREC run file; an interrupted search goes on.")
    threads: int | None = threads_option()


def search(given: Given) -> None:
    """Find the k best passages of each query, exactly, and write them as a TREC run."""
    wanted = build(SearchCommand, given)
    set_up(wanted.threads)
    from pyhbt.retrieval.run import search_to_run

    job, out = wanted.job, wanted.out
    done = search_to_run(job, out, load_encoder=job.load_encoder if job.encoder else None, progress=True)
    resumed = f", {done.resumed} blocks from an earlier run" if done.resumed else ""
    say(f"{out}: {done.queries} queries, {done.passages} passages{resumed}")


@dataclass(frozen=True)
class MineCommand:
    """Options of ``pyhbt mine``."""

    rules: MiningRules
    out: Path = option("Write pairs with negatives to this .jsonl file.")
    data: str = data_option()
    model: EncoderOptions = field(default_factory=EncoderOptions)
    any_score: bool = option("No --share: whatever they score.", False)
    corpus: Path | None = option("More passages: JSON lines with text and lang.", None)
    languages: tuple[str, ...] | None = languages_option()
    limit: int | None = limit_option()
    columns: tuple[str, ...] | None = columns_option()
    query_lang: str | None = query_lang_option()
    passage_lang: str | None = passage_lang_option()
    batch_size: int | None = batch_size_option()
    threads: int | None = threads_option()

    def __post_init__(self) -> None:
        check_given(self, "limit", "batch_size")
        parse_columns(self.columns)


def mine(given: Given) -> None:
    """Find hard negatives for training pairs: passages that score high and do not answer."""
    if given.get("any_score"):
        if given.get("share") is not None:
            raise ValueError(f"share: found {given['share']} with any_score, expected one of them")
        given = {**given, "share": None}
    wanted = build(MineCommand, given)
    set_up(wanted.threads)
    from pyhbt.data import load_corpus, load_train
    from pyhbt.data.pairs import check_jsonl_target
    from pyhbt.mining.negatives import mine_to_file

    check_jsonl_target(wanted.out)
    model = wanted.model.load()
    pairs = load_train(
        wanted.data,
        languages=wanted.languages,
        limit=wanted.limit,
        columns=parse_columns(wanted.columns),
        query_lang=wanted.query_lang,
        passage_lang=wanted.passage_lang,
    )
    more = load_corpus(wanted.corpus) if wanted.corpus else ()
    say(str(pairs), f"encoder {wanted.model.encoder}: {model.describe()}")
    found = mine_to_file(
        model, pairs, wanted.out, wanted.rules, corpus=more, batch_size=wanted.batch_size, progress=True
    )
    say(*found.describe().splitlines(), f"{wanted.out}: {len(pairs):,} pairs")
