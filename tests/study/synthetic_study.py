"""Made-up studies in the layout of a real one, for the tests of results, plots and report.

``write_study`` writes results.jsonl, config.yaml, environment.json, data.json and cells/*; the figures follow a simple
law: a gain in the cross-lingual and multilingual settings that peaks near ratio 0.6, a small monolingual cost, scarcer
tiers lower, centring worth a third of the gain, and noise by seed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyhbt.data.tiers import TIERS, Tier, scarcer
from pyhbt.evaluation.names import (
    MAX_RANK,
    PEER,
    PREFERENCE_METRICS,
    RANK_CORRELATION,
    RANK_DISTANCE,
    SETTINGS,
    TOP_1_SAME_LANGUAGE,
)
from pyhbt.options import write_config
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell, part_folder, write_exposure
from pyhbt.training.exposure import Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# fmt: off
CODES = (
    "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr",
    "he", "hi", "hr", "hu", "id", "it", "ja", "ko", "lt", "lv", "nl", "pl", "pt", "ro",
    "ru", "sk", "sl", "sr", "sv", "sw", "ta", "te", "th", "tr", "uk", "ur", "vi", "zh",
)
# fmt: on
HOSTILE = "<script>alert(1)</script>$x^{$ é\n中"
HOSTILE_ARM = f"0.5+lexicon={HOSTILE}"


@dataclass(frozen=True)
class Study:
    """What to make up."""

    ratios: Sequence[float | str] = (0, 0.25, 0.5, 0.75, 1)
    seeds: Sequence[int] = (0, 1, 2)
    languages: Sequence[str] = tuple(CODES)
    tiers: Sequence[Tier] = TIERS
    steps: Sequence[int] = tuple(range(0, 2001, 200))
    metrics: Sequence[str] = ("recall@10", "mAP")
    bias: Sequence[str] = (RANK_DISTANCE, MAX_RANK, TOP_1_SAME_LANGUAGE, RANK_CORRELATION)  # of parallel data
    units: int = 240
    unfinished: Sequence[tuple[float | str, int]] = ()
    config: Mapping[str, Any] | None = None
    confounded: bool = False  # scarce languages have no monolingual batches

    def tier(self, language: str) -> Tier:
        place = list(self.languages).index(language) * len(self.tiers) // len(self.languages)
        return self.tiers[place]


SMALL = Study(languages=("en", "de", "ar", "sw", "th", "zu"), steps=(0, 100, 400, 1000, 2000), units=60)


def level(study: Study, ratio: float | str, setting: str, tier: str, metric: str, centring: str) -> float:
    """Final value before noise."""
    share = 0.5 if isinstance(ratio, str) else float(ratio)
    gain = 0.16 * (1 - ((share - 0.6) / 0.6) ** 2)
    base = {"monolingual": 0.74, "cross-lingual": 0.5, "multilingual": 0.42}[setting]
    value = base + (-0.05 * share**2 if setting == "monolingual" else gain)
    value -= 0.09 * (TIERS.index(tier) if tier in TIERS else 0.8)
    if centring == "both" and setting != "monolingual":
        value += 0.06 - 0.2 * gain
    return value - (0.08 if metric == "mAP" else 0)


def seed_effect(study: Study, ratio: float | str, seed: int, centring: str, setting: str, tier: str) -> float:
    """What a seed adds to the final value of a ratio; the same in macro rows and unit scores."""
    places = [list(study.ratios).index(ratio), centring == "both", len(setting), len(tier)]
    return float(np.random.default_rng((seed, *places)).normal(0, 0.012))


def rows(study: Study) -> Iterator[dict[str, Any]]:
    """Every row of results.jsonl."""
    for ratio in study.ratios:
        for seed in study.seeds:
            rng = np.random.default_rng((seed, list(study.ratios).index(ratio)))
            yield from _cell_rows(study, ratio, seed, rng)


def _cell_rows(
    study: Study, ratio: float | str, seed: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    cell = {"arm": Arm.parse(ratio).label, "seed": seed}
    finished = (ratio, seed) not in study.unfinished
    speed = 350 - 150 * (0.5 if isinstance(ratio, str) else float(ratio))
    for centring in ("none", "both"):
        for setting in SETTINGS:
            for tier in ("all", *study.tiers):
                offset = seed_effect(study, ratio, seed, centring, setting, tier)
                for metric in study.metrics:
                    final = level(study, ratio, setting, tier, metric, centring) + offset
                    macro = {**cell, "centring": centring, "setting": setting, "query_lang": "*",
                             "passage_lang": "*", "tier": tier, "metric": metric}  # fmt: skip
                    for step in study.steps:
                        height = final * (0.25 + 0.75 * (1 - np.exp(-step / speed)))
                        value = float(np.clip(height + rng.normal(0, 0.006), 0, 1))
                        yield {**macro, "step": step, "split": "dev", "value": value}
                    if finished:
                        value = float(np.clip(final, 0, 1))
                        yield {**macro, "step": study.steps[-1], "split": "test", "value": value}
                if finished and setting == "multilingual":
                    share = 0.5 if isinstance(ratio, str) else float(ratio)
                    centred = centring == "both"
                    bias = {RANK_DISTANCE: 420 - 180 * share + 900 * offset - 40 * centred,
                            MAX_RANK: 450 - 180 * share + 900 * offset - 40 * centred,
                            TOP_1_SAME_LANGUAGE: 0.8 - 0.45 * share + offset,
                            RANK_CORRELATION: -0.6 + 0.5 * share + 0.2 * centred + offset,
                            PEER: 0.2 + 0.3 * share + 0.1 * centred + offset,
                            **dict.fromkeys(PREFERENCE_METRICS, 0.4 - 0.1 * share + offset)}  # fmt: skip
                    for metric in study.bias:
                        value = bias[metric]
                        yield {**cell, "step": study.steps[-1], "split": "test", "centring": centring,
                               "setting": setting, "query_lang": "*", "passage_lang": "*", "tier": tier,
                               "metric": metric, "value": value}  # fmt: skip
            if finished:
                yield from _pair_rows(study, ratio, cell, centring, setting, rng)


def _pair_rows(
    study: Study,
    ratio: float | str,
    cell: dict[str, Any],
    centring: str,
    setting: str,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    for query in study.languages:
        passages = {"monolingual": [query], "cross-lingual": [x for x in study.languages if x != query]}
        for passage in passages.get(setting, ["*"]):
            tier = study.tier(query) if passage == "*" else scarcer(study.tier(query), study.tier(passage))
            for metric in study.metrics:
                value = level(study, ratio, setting, tier, metric, centring) + rng.normal(0, 0.03)
                yield {**cell, "step": study.steps[-1], "split": "test", "centring": centring,
                       "setting": setting, "query_lang": query, "passage_lang": passage, "tier": tier,
                       "metric": metric, "value": float(np.clip(value, 0, 1))}  # fmt: skip


def write_study(out: Path, study: Study | None = None) -> Path:
    """Write the folder of a study and return it."""
    study = study or Study()
    out.mkdir(parents=True, exist_ok=True)
    if study.config is not None:  # as studies before 0.2 left it
        (out / "config.json").write_text(json.dumps(study.config), encoding="utf-8")
    else:
        ran = {
            "command": "pyhbt study --data cldr --ratios 0,0.25,0.5,0.75,1 --seeds 3 --out pyhbt-study",
            "environment": {"pyhbt": "0.1.0", "torch": "2.9.0", "cpu": "8 cores", "commit": None},
        }
        (out / "environment.json").write_text(json.dumps(ran), encoding="utf-8")
        config = {
            "data": "cldr",
            "languages": list(study.languages),
            "steps": study.steps[-1],
            "batch_size": 64,
            "temperature": 0.05,
            "learning_rate": 1e-3,
        }
        write_config(out / "config.yaml", config, "a study")
    for ratio in study.ratios:
        for seed in study.seeds:
            if (ratio, seed) not in study.unfinished:
                write_cell(out, study, ratio, seed)
    with (out / "results.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(study))
    return out


def write_cell(out: Path, study: Study, ratio: float | str, seed: int) -> None:
    """The folder of a finished cell; its rows are in results.jsonl alone."""
    cell = Cell(Arm.parse(ratio), seed)
    folder = out / "cells" / cell.folder_name
    folder.mkdir(parents=True)
    cell.sign(folder)
    (folder / "rows.jsonl").touch()
    write_exposure(folder, exposure(study, ratio))
    part = part_folder(folder, "test")
    part.mkdir(parents=True)
    (part / "measured.json").write_text(json.dumps({"split": "test"}))
    (part / "rows.jsonl").touch()
    np.savez(part / "scores.npz", **influences(study, ratio, seed))


def exposure(study: Study, ratio: float | str) -> Exposure:
    """What a training saw: all but the zero-shot languages, or, of a confounded study, scarce ones in pairs alone."""
    share = 0.5 if isinstance(ratio, str) else float(ratio)
    trained = [language for language in study.languages if study.tier(language) != "zero-shot"]
    alone = [x for x in trained if not study.confounded or study.tier(x) == "seen"]
    seen = Exposure(64)
    for number in range(20):
        first = trained[number % len(trained)]
        other = trained[(number + 1) % len(trained)]
        if number < 20 * share and first != other:
            seen.add({(first, other): 64, (other, first): 0})
        else:
            seen.add({(alone[number % len(alone)],) * 2: 60 if number % 5 == 0 else 64})
    return seen


def influences(study: Study, ratio: float | str, seed: int) -> dict[str, Any]:
    """Arrays of one scores.npz; difficulty is the cluster's own, so that ratios are paired."""
    difficulty = np.random.default_rng(7).normal(0, 0.15, study.units)
    rng = np.random.default_rng((seed, list(study.ratios).index(ratio), 1))
    arrays: dict[str, Any] = {"clusters": np.array([f"question {i}" for i in range(study.units)])}
    for centring in ("none", "both"):
        for setting in SETTINGS:
            for tier in ("all", *study.tiers):
                for metric in (*study.metrics, *(study.bias if setting == "multilingual" else ())):
                    scores = difficulty + rng.normal(0, 0.1, study.units)
                    scores *= 300 if metric in (RANK_DISTANCE, MAX_RANK) else 1
                    arrays[f"{centring}/{setting}/{tier}/{metric}"] = (scores - scores.mean()) / study.units
    return arrays
