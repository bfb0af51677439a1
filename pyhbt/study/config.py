"""The configuration of a study: everything that decides its figures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyhbt.arguments import check_at_least, check_names, check_seed, renamed_fields
from pyhbt.data.registry import (
    columns_option,
    data_option,
    languages_option,
    passage_lang_option,
    query_lang_option,
    skip_unusable_option,
)
from pyhbt.encoders.options import (
    encoder_option,
    max_length_option,
    named_encoder,
    passage_prefix_option,
    query_prefix_option,
)
from pyhbt.evaluation.metrics import measure
from pyhbt.evaluation.names import BIAS_METRICS, DEFAULT_METRICS, METRICS_HELP
from pyhbt.options import changed, documented, option
from pyhbt.study.arms import Arm
from pyhbt.study.endpoints import EndpointName
from pyhbt.training.budget import Budget
from pyhbt.training.config import TrainingConfig

if TYPE_CHECKING:
    from pyhbt.encoders import Encoder

Keeping = Literal["auto", "all", "none"]


def read_arms(value: Any) -> tuple[Arm, ...]:
    """Arms of a text, separated by spaces if there are any or a schedule is among them, else by commas; or of a list.

    A comma before a letter is one of an option, as in ``0.5+lora=r=4,alpha=8``: arms begin with a number there. So is
    one before a whole number above 1, which is no ratio, as in ``0.5+matryoshka-dims=64,128``.

    Raises:
        ValueError: something that is no arm.
    """
    if isinstance(value, str):
        value = value.split() if " " in value or ":" in value else _between_commas(value)
    elif isinstance(value, (int, float, Arm)):
        value = [value]
    if not isinstance(value, (list, tuple)) or any(isinstance(part, bool) for part in value):
        raise ValueError(f"arms: found {value!r}, expected ratios, texts of arms, or a list of them")
    return tuple(Arm.parse(part) for part in value if part != "")


def _between_commas(text: str) -> list[str]:
    """The arms of a text."""
    arms: list[str] = []
    for part in re.split(r",(?![a-z])", text):
        number = part.partition("+")[0].strip()
        if arms and "=" in arms[-1] and number.isdecimal() and int(number) > 1:
            arms[-1] += f",{part}"
        else:
            arms.append(part)
    return arms


def read_seeds(value: Any) -> tuple[int, ...]:
    """How many seeds, counted from 0, or the seeds themselves: a list, or numbers separated by commas.

    Raises:
        ValueError: something else, or a number below 0 (a count below 1).
    """
    try:
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, int) or (isinstance(value, str) and len(parts) == 1):
            count = _whole(value)
            check_at_least("seeds", count, 1)
            return tuple(range(count))
        seeds = tuple(_whole(part) for part in parts if part != "")
    except TypeError:
        raise ValueError(f"seeds: found {value!r}, expected a number of seeds or a list of them") from None
    for seed in seeds:
        check_seed("seeds", seed)
    return seeds


def _whole(value: Any) -> int:
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"seeds: found {value!r}, expected a number of seeds or a list of them")


def _labels(arms: Iterable[Arm]) -> list[str]:
    return [arm.label for arm in arms]


@renamed_fields(ratios="arms")
@documented
@dataclass(frozen=True)
class StudyConfig:
    """Everything that decides a study's figures; ``training`` holds the options that the arms share.

    ``arms`` may be given as numbers, texts or :class:`~pyhbt.study.arms.Arm`; they are kept as arms.

    Raises:
        ValueError: a value out of range, an arm that does not go with the options, arms or seeds twice.
    """

    training: TrainingConfig
    data: str = data_option()
    encoder: str = encoder_option("ngram")
    languages: tuple[str, ...] | None = languages_option()
    columns: tuple[str, ...] | None = columns_option()
    query_lang: str | None = query_lang_option()
    passage_lang: str | None = passage_lang_option()
    skip_unusable: bool = skip_unusable_option()
    low_resource: tuple[str, ...] | None = option(
        "Languages of which only a few training pairs are kept, comma-separated.",
        None,
        unset="the data's own choice",
    )
    zero_shot: tuple[str, ...] | None = option(
        "Languages evaluated but never trained on, comma-separated.", None, unset="the data's own choice"
    )
    arms: tuple[Arm, ...] = option(
        "Arms to compare: ratios separated by commas; with schedules such as linear:0:1 or adaptive:0.1:0.9, by "
        "spaces. An arm may change more: 0.5+js=0.5, 0.5+learning-rate=1e-4.",
        tuple(map(Arm.parse, (0.0, 0.25, 0.5, 0.75, 1.0))),
        also=("ratios",),
        read=read_arms,
        write=_labels,
    )
    seeds: tuple[int, ...] = option(
        "Number of seeds for each arm, or the seeds themselves, comma-separated.",
        (0, 1, 2),
        read=read_seeds,
    )
    budget: Budget = option(
        "What arms have equally much of: steps; or examples or tokens, as many as full batches have in --steps steps, "
        "for which arms with short batches take more steps.",
        "examples",
    )
    eval_every: int | None = option(
        "Steps between points of the curve.",
        None,
        unset="after 1, 2, 3, 4, 6, 8, 12, 16, ... steps and at the end",
    )
    curve_questions: int | None = option(
        "Questions of the dev set that curves are scored on.",
        None,
        unset="as many as make 2,000 queries in all languages, 50 at least",
    )
    curve_passages: int = option(
        "Passages a language of the dev set that curves are scored on, relevant ones first.", 500
    )
    learning_rates: tuple[float, ...] | None = option(
        "Learning rates, at least three, of which each arm gets the one that is best on the dev set with the first "
        "seed, comma-separated.",
        None,
        unset="the one of --learning-rate for all arms",
    )
    test: tuple[str, ...] = option(
        "Further test sets that the encoders are scored on, such as beir:FOLDER, comma-separated.", ()
    )
    pivot: str | None = option(
        "Score pools of two languages too: this one and the query's.", None, unset="none"
    )
    centring_text: str | None = option(
        "Data set of parallel text whose language means centre embeddings, beside those of the test set's own.",
        None,
        unset="none",
    )
    primary: str | None = option(
        "The one endpoint that the study is about: SETTING METRIC, TIER; all others are secondary.",
        None,
        unset="cross-lingual recall@10, or the first of --metrics",
    )
    margin: float = option("Loss below which an arm counts as no worse (non-inferiority).", 0.01)
    keep_encoders: Keeping = option(
        "Keep the trained encoders, which a study that grows in metrics or test sets needs: all, none, or where they "
        "take no more than 1 GiB.",
        "auto",
    )
    max_length: int | None = max_length_option("the encoder's own; of a transformer on the command line, 128")
    query_prefix: str | None = query_prefix_option()
    passage_prefix: str | None = passage_prefix_option()
    metrics: tuple[str, ...] = option(METRICS_HELP, DEFAULT_METRICS)

    def __post_init__(self) -> None:
        for name in ("languages", "columns", "low_resource", "zero_shot", "test", "metrics"):
            if getattr(self, name) is not None:
                check_names(name, getattr(self, name))
        if isinstance(self.learning_rates, str):
            raise TypeError("learning_rates: found str, expected a tuple of numbers")
        object.__setattr__(self, "arms", read_arms(self.arms))
        object.__setattr__(self, "seeds", read_seeds(self.seeds))
        for arm in self.arms:
            self.training_of(arm)  # refuses what does not go together
        for name in ("eval_every", "curve_questions", "curve_passages"):
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), 1)
        if not 0 < self.margin < 1:
            raise ValueError(f"margin: found {self.margin}, expected a number between 0 and 1")
        self._check_parents()
        self._check_learning_rates()
        for name in ("arms", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                shown = ", ".join(map(str, values)) or "none"
                raise ValueError(f"{name}: found {shown}, expected at least one, all different")
        trained: dict[Any, Arm] = {}
        for arm in self.arms:
            other = trained.setdefault((arm.ratio, arm.parents, arm.weight, repr(self.training_of(arm))), arm)
            if other != arm:
                raise ValueError(f"arms: found {other.label} and {arm.label}, which are trained alike")
        if not self.metrics:
            raise ValueError("metrics: found none, expected at least one")
        for metric in self.metrics:
            measure(metric)
        if self.endpoint.metric not in (*self.metrics, *BIAS_METRICS):
            raise ValueError(
                f"primary: found {self.primary!r}, expected one of the metrics {', '.join(self.metrics)}"
            )

    @property
    def endpoint(self) -> EndpointName:
        """The primary endpoint."""
        if self.primary is not None:
            return EndpointName.parse(self.primary)
        metric = "recall@10" if "recall@10" in self.metrics else self.metrics[0]
        return EndpointName("cross-lingual", metric)

    def _check_parents(self) -> None:
        """Arms that average two others need these to be trained, in weights that can be averaged."""
        for arm in self.arms:
            for parent in arm.parents or ():
                if parent not in self.arms:
                    raise ValueError(f"arms: found {arm.label} without {parent.label}, expected both")
            if arm.parents and self.training.lora is not None:
                raise ValueError(
                    f"arms: found {arm.label} with lora, expected none: averages of adapters are no average of weights"
                )

    def _check_learning_rates(self) -> None:
        if self.learning_rates is None:
            return
        rates = set(self.learning_rates)
        if len(rates) < 3 or len(rates) != len(self.learning_rates) or min(rates) <= 0:
            shown = ", ".join(map(str, self.learning_rates)) or "none"
            raise ValueError(f"learning_rates: found {shown}, expected at least three different ones above 0")

    def training_of(self, arm: Arm) -> TrainingConfig:
        """The options of an arm's training."""
        return changed(self.training, **dict(arm.changes))

    @property
    def cells(self) -> tuple[tuple[Arm, int], ...]:
        """(arm, seed) of every cell; seeds outermost, so that early on all arms can be compared."""
        return tuple((arm, seed) for seed in self.seeds for arm in self.arms)

    def is_tuned(self, arm: Arm) -> bool:
        """Whether the learning rate of an arm is chosen among :attr:`learning_rates`."""
        named = any(name == "learning_rate" for name, _ in arm.changes)
        return self.learning_rates is not None and arm.parents is None and not named

    def make_encoder(self, seed: int) -> Encoder:
        """The encoder that a cell starts from."""
        return named_encoder(self, seed=seed)
