"""Arms of a study: a ratio, and what else an arm does otherwise than the study's settings.

Written ``RATIO+NAME=VALUE+...``, for example ``0.5``, ``adaptive:0.1:0.9``, ``0.5+js=0.5+alignment=0.1`` or
``0.5+language-sampling=linear:1:0.3``; the text names the arm in results, folders and reports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyhbt.training.schedules import RatioSchedule


def _sampling(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _flag(text: str) -> bool:
    if text:
        raise ValueError
    return True


_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "symmetric": ("symmetric", _flag),
    "learn-temperature": ("learn_temperature", _flag),
    "temperature": ("temperature", float),
    "parallel-passages": ("parallel_passages", int),
    "alignment": ("alignment_weight", float),
    "js": ("js_weight", float),
    "code-switching": ("code_switching", float),
    "language-sampling": ("language_sampling", _sampling),
    "cross-pairs": ("cross_pairs", str),
}
"""Name in an arm -> field of the training settings, and how its value is read."""


@dataclass(frozen=True)
class Arm:
    """``ratio``, and ``changes`` to the fields of :class:`pyhbt.training.run.TrainingConfig` by name."""

    ratio: RatioSchedule
    changes: tuple[tuple[str, Any], ...] = ()

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
        ratio, *parts = spec.strip().split("+")
        changes: dict[str, Any] = {}
        for part in parts:
            name, _, value = part.partition("=")
            if name not in _OPTIONS:
                raise ValueError(f"arm {spec!r}: found {name!r}, expected one of {', '.join(_OPTIONS)}")
            field, read = _OPTIONS[name]
            if field in changes:
                raise ValueError(f"arm {spec!r}: found {name} twice, expected it once")
            try:
                changes[field] = read(value)
            except ValueError:
                raise ValueError(
                    f"arm {spec!r}: found {name}={value!r}, expected {_expected(read)}"
                ) from None
        return cls(RatioSchedule.parse(ratio), tuple(changes.items()))

    @property
    def label(self) -> float | str:
        """The number of a constant ratio without changes, else a text that :meth:`parse` reads back."""
        if not self.changes:
            return self.ratio.label
        names = {field: name for name, (field, _) in _OPTIONS.items()}
        ratio = self.ratio.label
        parts = [f"{ratio:g}" if isinstance(ratio, float) else ratio]
        for field, value in self.changes:
            written = f"{value:g}" if isinstance(value, float) else str(value)
            parts.append(names[field] if value is True else f"{names[field]}={written}")
        return "+".join(parts)


def _expected(read: Callable[[str], Any]) -> str:
    return {_flag: "no value", int: "a whole number", float: "a number"}.get(read, "a text")
