"""The configuration of a study: everything that decides its figures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyhbt.arguments import check_at_least, renamed_fields
from pyhbt.data.registry import data_option, languages_option
from pyhbt.encoders.options import (
    encoder_option,
    max_length_option,
    passage_prefix_option,
    query_prefix_option,
)
from pyhbt.evaluation.metrics import measure
from pyhbt.evaluation.names import DEFAULT_METRICS, METRICS_HELP
from pyhbt.options import changed, documented, option
from pyhbt.study.arms import Arm
from pyhbt.training.config import TrainingConfig

if TYPE_CHECKING:
    from pyhbt.encoders import Encoder

UNIT_METRICS = ("mAP", "recall@10")


def read_arms(value: Any) -> tuple[Arm, ...]:
    """Arms of a text, separated by spaces if there are any or a schedule is among them, else by commas; or of a list.

    A comma before a letter is one of an option, as in ``0.5+lora=r=4,alpha=8``: arms begin with a number there.

    Raises:
        ValueError: something that is no arm.
    """
    if isinstance(value, str):
        value = value.split() if " " in value or ":" in value else re.split(r",(?![a-z])", value)
    elif isinstance(value, (int, float, Arm)):
        value = [value]
    if not isinstance(value, (list, tuple)) or any(isinstance(part, bool) for part in value):
        raise ValueError(f"arms: found {value!r}, expected ratios, texts of arms, or a list of them")
    return tuple(Arm.parse(part) for part in value if part != "")


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
        check_at_least("seeds", seed, 0)
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
    eval_every: int | None = option(
        "Steps between points of the curve.", None, unset="a tenth of the training"
    )
    max_length: int | None = max_length_option("the encoder's own; of a transformer on the command line, 128")
    query_prefix: str | None = query_prefix_option()
    passage_prefix: str | None = passage_prefix_option()
    metrics: tuple[str, ...] = option(METRICS_HELP, DEFAULT_METRICS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arms", read_arms(self.arms))
        object.__setattr__(self, "seeds", read_seeds(list(self.seeds)))
        for arm in self.arms:
            self.training_of(arm)  # refuses what does not go together
        if self.eval_every is None:
            object.__setattr__(self, "eval_every", max(1, self.training.steps // 10))
        else:
            check_at_least("eval_every", self.eval_every, 1)
        for name in ("arms", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                shown = ", ".join(map(str, values)) or "none"
                raise ValueError(f"{name}: found {shown}, expected at least one, all different")
        for metric in self.metrics:
            measure(metric)
        missing = set(UNIT_METRICS) - set(self.metrics)
        if missing:
            raise ValueError(
                f"metrics: found {list(self.metrics)}, expected {', '.join(sorted(missing))} too"
            )

    def training_of(self, arm: Arm) -> TrainingConfig:
        """The options of an arm's training."""
        return changed(self.training, **dict(arm.changes))

    @property
    def cells(self) -> tuple[tuple[Arm, int], ...]:
        """(arm, seed) of every cell; seeds outermost, so that early on all arms can be compared."""
        return tuple((arm, seed) for seed in self.seeds for arm in self.arms)

    def make_encoder(self, seed: int) -> Encoder:
        """The encoder that a cell starts from."""
        from pyhbt.encoders import load_encoder

        return load_encoder(
            self.encoder,
            seed=seed,
            max_length=self.max_length,
            query_prefix=self.query_prefix,
            passage_prefix=self.passage_prefix,
        )
