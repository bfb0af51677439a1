"""Options of low-rank adapters (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

from dataclasses import dataclass

from pyhbt.arguments import check_at_least
from pyhbt.options import did_you_mean

ALL_LINEAR = ("all-linear",)


@dataclass(frozen=True)
class LoraOptions:
    """Rank r of the update B A of a weight, which is scaled by alpha / r (arXiv 2106.09685, section 4.1).

    ``targets`` are ends of names of linear layers, such as ``query`` or ``q_proj``; by default all linear layers.
    ``dropout`` is that of an adapter's input.

    Raises:
        ValueError: a number out of range, or no target.
    """

    r: int
    alpha: float
    targets: tuple[str, ...] = ALL_LINEAR
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_at_least("lora: r", self.r, 1)
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"lora: alpha: found {self.alpha}, expected a number above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora: dropout: found {self.dropout}, expected a number in [0, 1)")
        if not self.targets or not all(self.targets):
            raise ValueError(
                f"lora: targets: found {list(self.targets)}, expected names of layers or all-linear"
            )

    @classmethod
    def parse(cls, text: str) -> LoraOptions:
        """From ``r=16,alpha=32,targets=query,value,dropout=0.1``; alpha is 2 r where it is not given.

        Raises:
            ValueError: a name that is none of the four, one given twice, a value that is no number, or no r.
        """
        given: dict[str, list[str]] = {}
        name = ""
        for part in text.split(","):
            key, is_new, value = part.partition("=")
            if is_new:
                name = key.strip()
                if name not in cls.__dataclass_fields__ or name in given:
                    twice = " twice" if name in given else did_you_mean(name, cls.__dataclass_fields__)
                    raise ValueError(
                        f"lora: found {name}{twice}, expected r, alpha, targets, dropout, each once"
                    )
                given[name] = [value.strip()]
            elif name == "targets":
                given[name].append(part.strip())
            else:
                raise ValueError(f"lora: found {part!r} in {text!r}, expected NAME=VALUE")
        if "r" not in given:
            raise ValueError(f"lora: found {text!r}, expected r=NUMBER, such as r=16,alpha=32")
        r = int(_number(given, "r", int))
        alpha = float(_number(given, "alpha", float)) if "alpha" in given else 2.0 * r
        dropout = float(_number(given, "dropout", float)) if "dropout" in given else 0.0
        return cls(r, alpha, tuple(given.get("targets", ALL_LINEAR)), dropout)


def _number(given: dict[str, list[str]], name: str, kind: type[int] | type[float]) -> int | float:
    (text,) = given[name]
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"lora: {name}: found {text!r}, expected a number") from None
