"""Arms of a study: a ratio, and what else an arm does otherwise than the study's options.

Written ``RATIO+NAME=VALUE+...``, for example ``0.5``, ``adaptive:0.1:0.9``, ``0.5+js=0.5+alignment=0.1`` or
``0.5+learning-rate=1e-4``: NAME is any option of a training but ``set``. ``average:0+1@0.5`` is no training but the
average of two trained arms' weights (model soups, arXiv 2203.05482), here with 0.5 of the second. An arm is read once
and carried as an object; its label, which reads back as the same arm, names it in files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, total_ordering
from typing import Any

from pyhbt.options import Option, did_you_mean, options_of
from pyhbt.training.schedules import RatioSchedule, number_text, read_number

_SHORT = {"alignment": "alignment_weight", "js": "js_weight"}
_SAME_FOR_ALL = ("arguments",)
_AVERAGE = "average:"


@total_ordering
@dataclass(frozen=True)
class Arm:
    """``ratio``, and ``changes`` to options of :class:`pyhbt.training.config.TrainingConfig`, sorted by name.

    With ``parents`` it is not trained: its weights are ``1 - weight`` of the first parent's and ``weight`` of the
    second's, of the same seed, and its ratio is the mixture of theirs. Arms are ordered: constant ratios ascending,
    then the others by label.
    """

    ratio: RatioSchedule
    changes: tuple[tuple[str, Any], ...] = ()
    parents: tuple[Arm, Arm] | None = None
    weight: float = 0.0

    @classmethod
    def parse(cls, spec: float | str | Arm) -> Arm:
        """An arm from a ratio or a text.

        Raises:
            ValueError: no ratio, an unknown name, a name twice, or a value of the wrong kind.
        """
        if isinstance(spec, Arm):
            return spec
        if not isinstance(spec, str):
            return cls(RatioSchedule.parse(spec))
        if spec.strip().startswith(_AVERAGE):
            return cls._average(spec.strip())
        ratio, *parts = spec.strip().split("+")
        known = _changeable() if parts else {}
        changes: dict[str, Any] = {}
        for part in parts:
            name, equals, value = part.partition("=")
            field = _SHORT.get(name, name.replace("-", "_"))
            if field not in known:
                hint = did_you_mean(name, _names())
                raise ValueError(f"arm {spec!r}: found {name!r}, expected one of {', '.join(_names())}{hint}")
            if field in changes:
                raise ValueError(f"arm {spec!r}: found {name} twice, expected it once")
            changes[field] = _value(spec, known[field], name, value, bool(equals))
        return cls(RatioSchedule.parse(ratio), tuple(sorted(changes.items())))

    @classmethod
    def _average(cls, spec: str) -> Arm:
        """An arm from ``average:A+B@WEIGHT``, where A and B are ratios or schedules."""
        names, at, weight = spec.removeprefix(_AVERAGE).rpartition("@")
        parts = names.split("+")
        try:
            share = read_number(weight)
        except ValueError:
            share = -1.0
        if not at or len(parts) != 2 or not 0 < share < 1:
            raise ValueError(
                f"arm: found {spec!r}, expected average:A+B@WEIGHT: two ratios and a weight of the second between "
                "0 and 1"
            )
        first, second = (cls(RatioSchedule.parse(part)) for part in parts)
        if first == second:
            raise ValueError(f"arm {spec!r}: found {parts[0]} twice, expected two arms that differ")
        mean = (1 - share) * sum(first.ratio.bounds) / 2 + share * sum(second.ratio.bounds) / 2
        return cls(RatioSchedule.constant(mean), parents=(first, second), weight=share)

    def with_learning_rate(self, rate: float) -> Arm:
        """The same arm at another learning rate."""
        others = tuple(change for change in self.changes if change[0] != "learning_rate")
        return Arm(self.ratio, tuple(sorted((*others, ("learning_rate", rate)))))

    @cached_property
    def label(self) -> str:
        """The text that :meth:`parse` reads back; numbers are written exactly."""
        if self.parents is not None:
            first, second = self.parents
            return f"{_AVERAGE}{first.label}+{second.label}@{number_text(self.weight)}"
        known = _changeable() if self.changes else {}
        short = {field: name for name, field in _SHORT.items()}
        parts = [self.ratio.text]
        for field, value in self.changes:
            name = short.get(field, field.replace("_", "-"))
            plain = known[field].plain(value)
            if isinstance(plain, list):
                written = ",".join(map(str, plain))
            else:
                written = number_text(plain) if isinstance(plain, float) else str(plain)
            flag = isinstance(value, bool)
            parts.append(name if value is True else f"{name}={written.lower() if flag else written}")
        return "+".join(parts)

    @property
    def title(self) -> str:
        """The arm as people write it: numbers to six digits."""
        if self.plain:
            return f"{self.ratio.bounds[0]:g}"
        return self.label

    @property
    def called(self) -> str:
        """The arm in a sentence: ``ratio 0.5``, ``arm linear:0:1``."""
        return f"{'ratio' if self.plain else 'arm'} {self.title}"

    @property
    def plain(self) -> bool:
        """Whether it is a constant ratio and nothing else."""
        return self.ratio.kind == "constant" and not self.changes and self.parents is None

    @property
    def steps(self) -> int | None:
        """Its own number of steps; None: the study's."""
        return dict(self.changes).get("steps")

    def __str__(self) -> str:
        return self.label

    def __lt__(self, other: Arm) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[bool, float, str]:
        return (False, self.ratio.bounds[0], "") if self.plain else (True, 0.0, self.label)


def _changeable() -> dict[str, Option]:
    from pyhbt.training.config import TrainingConfig  # needs torch, which arms without changes do not

    return {item.field: item for item in options_of(TrainingConfig) if item.field not in _SAME_FOR_ALL}


def _names() -> list[str]:
    short = {field: name for name, field in _SHORT.items()}
    return [short.get(field, field.replace("_", "-")) for field in _changeable()]


def _value(spec: str, option: Option, name: str, text: str, given: bool) -> Any:
    if option.flag and not given:
        return True
    try:
        if not given:
            raise ValueError(f"{name}: found no value")
        value = option.read(text)
    except ValueError as error:
        raise ValueError(f"arm {spec!r}: {error}") from None
    return value
