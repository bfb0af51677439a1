"""When a training is evaluated for its learning curve: at growing distances, so that fast starts are seen."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState


def evaluation_points(steps: int, every: int | None) -> tuple[int, ...]:
    """Steps after which a curve has a point, ascending, from 0 to ``steps``.

    ``every`` steps, or, for None, after 1, 2, 3, 4, 6, 8, 12, 16, 24, ... steps: two points a doubling.
    """
    if every is not None:
        points = set(range(0, steps, every))
    else:
        doublings = range(steps.bit_length())
        points = {0, *(1 << power for power in doublings), *(3 << power for power in doublings)}
    return tuple(sorted(point for point in points | {steps} if point <= steps))


class EvaluateAt(TrainerCallback):
    """Has a Trainer evaluate after the steps named."""

    def __init__(self, points: tuple[int, ...]) -> None:
        self._points = frozenset(points)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for an evaluation where one is due."""
        if state.global_step in self._points:
            control.should_evaluate = True
