"""Where a report's figures come from: facts, command, configuration, environment."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from pyhbt.evaluation.names import ALL_TIERS
from pyhbt.study.analysis import Analysis
from pyhbt.study.words import NONE


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """What was run, in figures."""
    results, scores = analysis.results, analysis.scores
    cells = sum(len(results.select(split="test", arm=arm).distinct("seed")) for arm in results.arms)
    tiers = results.language_tiers()
    counts = {tier: list(tiers.values()).count(tier) for tier in ALL_TIERS}
    by_tier = ", ".join(f"{count} {tier}" for tier, count in counts.items() if count)
    steps = results.macro(split="dev").distinct("step")
    return [
        ("Data", str(analysis.data.get("name", NONE))),
        ("Arms", ", ".join(arm.title for arm in results.arms) or NONE),
        ("Seeds", str(len(results.distinct("seed")))),
        ("Cells finished", f"{cells} of {len(results.arms) * len(results.distinct('seed'))}"),
        ("Training steps", f"{steps[-1]:,}" if steps else NONE),
        ("Languages", f"{len(tiers)} ({by_tier})" if tiers else NONE),
        ("Primary endpoint", analysis.primary.text),
        ("Test sets", ", ".join(scores.splits) or NONE),
    ]


def command(config: dict[str, Any]) -> str:
    """The command that made the study, as one line of shell; empty where it was not kept."""
    kept = config.get("command", "")
    return shlex.join(map(str, kept)) if isinstance(kept, list) else str(kept)


def configuration(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Everything but command and environment; the part named "config" first and without that name."""
    rest = {key: entry for key, entry in config.items() if key not in ("command", "config", "environment")}
    return [*flatten(config.get("config", {})), *flatten(rest)]


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, value in print) of everything in a nested configuration."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from flatten(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(entry, (dict, list)) for entry in value):
        for position, entry in enumerate(value):
            yield from flatten(entry, f"{path}[{position}]")
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value)) or NONE
    elif value != {}:
        yield path, NONE if value is None else str(value)
