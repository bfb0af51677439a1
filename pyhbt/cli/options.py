"""Options that several commands of ``pyhbt`` share, and how their texts are read."""

from __future__ import annotations

from typing import Annotated

import typer

DATA_HELP = (
    "cldr (embedded), xquad-r:FOLDER, mlqa-r:FOLDER, afriqa:FOLDER, jsonl:PATH, parquet:PATH, beir:FOLDER, "
    "mmarco[:SOURCE] or miracl[:SOURCE]."
)
ENCODER_HELP = "ngram (embedded), a Hugging Face or sentence-transformers folder, or a hub name."
LANGUAGES_HELP = "Languages, comma-separated; by default all of the data."


DataOption = Annotated[str, typer.Option(help=DATA_HELP)]
EncoderOption = Annotated[str, typer.Option(help=ENCODER_HELP)]
LanguagesOption = Annotated[str | None, typer.Option(help=LANGUAGES_HELP)]
LowResourceOption = Annotated[
    str | None,
    typer.Option(help="Languages of which only a few training pairs are kept, comma-separated."),
]
ZeroShotOption = Annotated[
    str | None, typer.Option(help="Languages evaluated but never trained on, comma-separated.")
]
BatchOption = Annotated[int | None, typer.Option(help="Pairs a batch.", min=1)]
RateOption = Annotated[float | None, typer.Option(help="Peak learning rate.")]
TemperatureOption = Annotated[float | None, typer.Option(help="The loss divides scores by it.")]
SymmetricOption = Annotated[
    bool | None, typer.Option("--symmetric", help="Add the passage-to-query direction of the loss.")
]
LengthOption = Annotated[int | None, typer.Option(help="Tokens kept of a text.", min=1)]
QueryPrefixOption = Annotated[
    str | None, typer.Option(help="Put before queries; default: the encoder's own.")
]
PassagePrefixOption = Annotated[
    str | None, typer.Option(help="Put before passages; default: the encoder's own.")
]
SamplingOption = Annotated[
    str | None,
    typer.Option(
        help="Draw languages uniformly (uniform), by size (size), by size^A (a number), or by a schedule of A such as "
        "linear:1:0.3 (cooldown)."
    ),
]
CrossPairsOption = Annotated[
    str | None, typer.Option(help="A cross-lingual batch has one language pair (single) or many (mixed).")
]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads; default: torch's.", min=1)]

LearnTemperatureOption = Annotated[
    bool | None, typer.Option("--learn-temperature", help="Train the temperature, from the value given.")
]
MatryoshkaOption = Annotated[
    str | None, typer.Option(help="Dims, comma-separated: the loss is the mean over vectors cut to each.")
]
ParallelPassagesOption = Annotated[
    int | None, typer.Option(help="So many translations of a passage are positives too.", min=0)
]
AlignmentOption = Annotated[
    float | None, typer.Option(help="Weight of the distance between a text and its translation.", min=0.0)
]
JsOption = Annotated[
    float | None,
    typer.Option(
        help="Weight of the Jensen-Shannon divergence between the scores of parallel queries.", min=0.0
    ),
]
LexiconOption = Annotated[
    str | None,
    typer.Option(help="Bilingual lexicon: en-de.txt (word, translation), four columns by tabs, or a folder."),
]
CodeSwitchingOption = Annotated[
    float | None, typer.Option(help="Probability that a word is replaced by a translation.", min=0.0, max=1.0)
]
MiniBatchOption = Annotated[
    int | None, typer.Option(help="Texts embedded at a time, with gradient caching: less memory.", min=1)
]


def codes(text: str | None) -> tuple[str, ...] | None:
    """Comma-separated names."""
    return tuple(code.strip() for code in text.split(",") if code.strip()) if text is not None else None


def arms(text: str) -> tuple[str, ...]:
    """Arms of a study: separated by spaces if there are any or a schedule is among them, else by commas."""
    return tuple(part for part in (text.split() if " " in text or ":" in text else text.split(",")) if part)


def exponent(text: str | None) -> float | str | None:
    """A number, or a word."""
    try:
        return float(text) if text is not None else None
    except ValueError:
        return text


def dims(text: str | None) -> tuple[int, ...] | None:
    """Comma-separated whole numbers."""
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"matryoshka_dims: found {text!r}, expected numbers separated by commas") from None
