"""``pyhbt evaluate``, ``encode``, ``search`` and ``mine``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pyhbt.cli.base import set_up
from pyhbt.cli.options import (
    ENCODER_HELP,
    DataOption,
    EncoderOption,
    LanguagesOption,
    LengthOption,
    PassagePrefixOption,
    QueryPrefixOption,
    ThreadsOption,
    codes,
)

if TYPE_CHECKING:
    from pyhbt.encoders import Encoder


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
    set_up(threads)
    from pyhbt.cli.terminal import console, evaluation_table
    from pyhbt.data import load_retrieval
    from pyhbt.encoders import load_encoder
    from pyhbt.evaluation.centring import parse_centring
    from pyhbt.evaluation.run import describe_centrings, score_encoder, write_scores

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
    set_up(threads)
    from pyhbt.cli.terminal import console
    from pyhbt.encoders import load_encoder
    from pyhbt.retrieval.vectors import encode_file

    model = load_encoder(
        encoder, max_length=max_length, query_prefix=query_prefix, passage_prefix=passage_prefix
    )
    shape = encode_file(model, texts, out, kind=kind, field=field, language=language, batch_size=batch_size)
    console.print(f"{out}: float32 {shape}", highlight=False, soft_wrap=True)


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
    set_up(threads)
    from pyhbt.cli.terminal import console
    from pyhbt.encoders import load_encoder
    from pyhbt.retrieval.run import SearchJob, search_to_run

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
    set_up(threads)
    from pyhbt.cli.terminal import console
    from pyhbt.data import load_corpus, load_train
    from pyhbt.encoders import load_encoder
    from pyhbt.mining.negatives import MiningRules, mine_to_file

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
