"""Results of a ratio study, read back from its folder and checked.

``results.jsonl`` holds one measurement a line; :class:`Results` keeps r of them by column (r int32 codes for
each text column, r float64 values), so that 200,000 rows take a few MB and a selection a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyhbt.data.tiers import TIERS
from pyhbt.reading import naming
from pyhbt.study.arms import Arm
from pyhbt.study.rows import CHOICES, CODED_KEYS, TEXT_KEYS, checked, known_split, parsed, value_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Results:
    """Measurements by column.

    ``codes[key]`` is int32 (r,), positions in ``levels[key]``, for every key but "value"; ``values`` is
    float64 (r,).
    """

    codes: Mapping[str, NDArray[np.int32]]
    levels: Mapping[str, tuple[Any, ...]]
    values: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], source: str = "rows") -> Results:
        """Check and encode ``rows``.

        Raises:
            ValueError: a row is malformed or a measurement there twice; names ``source``, the row from 1, and the
                field.
        """
        tables: dict[str, dict[Any, int]] = {key: {} for key in CODED_KEYS}
        codes: dict[str, list[int]] = {key: [] for key in CODED_KEYS}
        values: list[float] = []
        for number, row in enumerate(rows, start=1):
            for key, entry in checked(row, f"{source}:{number}").items():
                if key == "value":
                    values.append(entry)
                else:
                    table = tables[key]
                    codes[key].append(table.setdefault(entry, len(table)))
        results = cls(
            {key: np.array(column, dtype=np.int32) for key, column in codes.items()},
            {key: tuple(table) for key, table in tables.items()},
            np.array(values, dtype=np.float64),
        )
        results._check_distinct(source)
        return results

    def __repr__(self) -> str:
        arms, seeds = (len(self.levels[key]) for key in ("arm", "seed"))
        return f"Results({len(self.values):,} rows, {arms} arms, {seeds} seeds)"

    def to_pandas(self) -> pd.DataFrame:
        """One row a measurement: arm (its label), seed, step, split, ... and value, as in results.jsonl.

        Raises:
            ImportError: pandas is missing.
        """
        import pandas as pd

        levels = {key: self.levels[key] for key in CODED_KEYS} | {
            "arm": [arm.label for arm in self.levels["arm"]]
        }
        columns = {key: pd.Categorical.from_codes(self.codes[key], levels[key]) for key in CODED_KEYS}
        frame = pd.DataFrame({**columns, "value": self.values})
        return frame.astype({"seed": "int64", "step": "int64"})

    def _check_distinct(self, source: str) -> None:
        """No measurement twice, and final figures at one step alone."""
        final = [level for level in self.levels["split"] if level.startswith("test")]
        test = self._mask("split", final)
        keys = [np.where(test, -1, self.codes["step"])]
        keys += [self.codes[key] for key in CODED_KEYS if key != "step"]
        order = np.lexsort(keys)
        same = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
        for key in keys:
            same &= np.diff(key[order]) == 0
        if same.any():
            twin = int(np.flatnonzero(same)[0])
            first, second = sorted(int(row) + 1 for row in order[twin : twin + 2])
            raise ValueError(f"{source}:{second}: value: measured before, on line {first}, expected once")

    def _valid(self) -> bool:
        """Whether every field is one that rows may have."""
        levels = self.levels
        valid = all(all(levels[key]) for key in TEXT_KEYS) and all(map(known_split, levels["split"]))
        valid = valid and all(level in accepted for key, accepted in CHOICES.items() for level in levels[key])
        valid = valid and all(number >= 0 for key in ("seed", "step") for number in levels[key])
        low, high = np.array([value_range(name) for name in levels["metric"]]).reshape(-1, 2).T
        metric = self.codes["metric"]
        inside = (low[metric] <= self.values) & (self.values <= high[metric]) & np.isfinite(self.values)
        return valid and bool(inside.all())

    def __len__(self) -> int:
        return len(self.values)

    def _mask(self, key: str, wanted: Any) -> NDArray[np.bool_]:
        if key not in self.codes:
            raise ValueError(f"where: found key {key!r}, expected one of {', '.join(CODED_KEYS)}")
        accepted = set(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else {wanted}
        if key == "arm":
            accepted = set(map(Arm.parse, accepted))
        chosen = [code for code, level in enumerate(self.levels[key]) if level in accepted]
        found = np.zeros(len(self.levels[key]), dtype=np.bool_)
        found[chosen] = True
        return found[self.codes[key]]

    def select(self, **where: Any) -> Results:
        """The rows whose columns equal ``where``, each a value or a collection of accepted values. O(r).

        An arm may be named by its ratio or its label.
        """
        keep = np.ones(len(self), dtype=np.bool_)
        for key, wanted in where.items():
            keep &= self._mask(key, wanted)
        return Results(
            {key: column[keep] for key, column in self.codes.items()}, self.levels, self.values[keep]
        )

    def macro(self, **where: Any) -> Results:
        """The macro rows (means over languages or pairs) among ``select(**where)``."""
        return self.select(query_lang="*", passage_lang="*", **where)

    def distinct(self, key: str) -> list[Any]:
        """Values that occur in a column: ratios, tiers, settings in their own order, others sorted."""
        counts = np.bincount(self.codes[key], minlength=len(self.levels[key]))
        found = [level for level, count in zip(self.levels[key], counts, strict=True) if count]
        if key == "arm":
            return sorted(found)
        if key in CHOICES:
            return sorted(found, key=CHOICES[key].index)
        return sorted(found)

    @property
    def arms(self) -> list[Arm]:
        """Constant ratios ascending, then the other arms by label."""
        return self.distinct("arm")

    def by_seed(self, **where: Any) -> dict[int, float]:
        """The one value of each seed among ``select(**where)``.

        Raises:
            ValueError: a seed has several.
        """
        chosen = self.select(**where)
        seeds = [self.levels["seed"][code] for code in chosen.codes["seed"]]
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"where: found several rows a seed for {where}, expected one")
        return dict(sorted(zip(seeds, chosen.values.tolist(), strict=True)))

    def curves(
        self, *, split: str = "dev", **where: Any
    ) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Seed -> (steps, values), both (evaluations,), in the order of steps."""
        chosen = self.select(split=split, **where)
        levels = np.array(self.levels["step"] or (0,), dtype=np.float64)
        steps = levels[chosen.codes["step"]]
        curves = {}
        for seed in chosen.distinct("seed"):
            mine = chosen._mask("seed", seed)
            order = np.argsort(steps[mine])
            curves[seed] = (steps[mine][order], chosen.values[mine][order])
        return curves

    def language_tiers(self) -> dict[str, str]:
        """Language -> tier, in the order of tiers, then codes.

        A pair has the tier of its scarcer language, so a language has the least scarce tier among its rows.
        """
        pairs = self.select(split="test", tier=TIERS)
        keys = np.stack([pairs.codes[key] for key in ("query_lang", "passage_lang", "tier")], axis=1)
        ranks: dict[str, int] = {}
        for query_code, passage_code, tier_code in np.unique(keys, axis=0):
            rank = TIERS.index(self.levels["tier"][tier_code])
            languages = self.levels["query_lang"][query_code], self.levels["passage_lang"][passage_code]
            for language in set(languages) - {"*"}:
                ranks[language] = min(rank, ranks.get(language, rank))
        return {language: TIERS[rank] for rank, language in sorted((r, x) for x, r in ranks.items())}

    def distinct_pairs(self) -> list[tuple[str, str]]:
        """(query language, passage language) of the rows of language pairs, sorted; ``*`` is a pool of all."""
        codes = np.unique(np.stack([self.codes["query_lang"], self.codes["passage_lang"]], axis=1), axis=0)
        named = ((self.levels["query_lang"][q], self.levels["passage_lang"][p]) for q, p in codes)
        return sorted(pair for pair in named if pair != ("*", "*"))

    def pair_means(self, **where: Any) -> dict[tuple[str, str], float]:
        """(query language, passage language) -> mean over seeds of ``select(**where)``'s rows of pairs."""
        chosen = self.select(**where)
        queries, passages = chosen.codes["query_lang"], chosen.codes["passage_lang"]
        pairs, index = np.unique(np.stack([queries, passages], axis=1), axis=0, return_inverse=True)
        index = index.reshape(-1)
        means = np.bincount(index, chosen.values) / np.bincount(index) if len(chosen) else chosen.values
        named = ((self.levels["query_lang"][q], self.levels["passage_lang"][p]) for q, p in pairs)
        return {pair: float(mean) for pair, mean in zip(named, means, strict=True) if "*" not in pair}


def load_results(out: str | Path) -> Results:
    """Read OUT/results.jsonl; 2 to 3 s for a million rows.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a row is malformed; names file, line and field.
    """
    path = Path(out) / "results.jsonl"
    if not path.is_file():
        begun = (
            "no cell of this study is finished yet" if (path.parent / "cells").is_dir() else "no study here"
        )
        raise FileNotFoundError(f"{path}: missing: {begun}")
    found = _by_columns(path)
    if found is not None:
        return found
    with naming(path, "rows of a study"), path.open(encoding="utf-8") as lines:
        rows = (parsed(line, f"{path}:{number}") for number, line in enumerate(lines, start=1))
        return Results.from_rows(rows, str(path))


def _by_columns(path: Path) -> Results | None:
    """The file by columns; None where anything in it is not as this version writes it, which is read row by row."""
    import pyarrow as pa
    from pyarrow import json as arrow

    whole = {"seed", "step"}
    fields = {"arm": pa.string(), "value": pa.float64()}
    fields |= {key: pa.int64() if key in whole else pa.string() for key in CODED_KEYS[1:]}
    options = arrow.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore")
    try:
        table = arrow.read_json(path, parse_options=options).combine_chunks()
    except pa.ArrowInvalid:
        return None
    with path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    if table.num_rows != lines or any(column.null_count for column in table.columns):
        return None
    encoded = {key: _encoded(table[key]) for key in CODED_KEYS}
    results = _with_arms(encoded, table["value"].to_numpy())
    if results is None or not results._valid():
        return None
    results._check_distinct(str(path))
    return results


def _encoded(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], tuple[Any, ...]]:
    """Codes and levels, in the order of their first appearance."""
    found = column.combine_chunks().dictionary_encode()
    return found.indices.to_numpy().astype(np.int32), tuple(found.dictionary.to_pylist())


def _with_arms(
    encoded: Mapping[str, tuple[NDArray[np.int32], tuple[Any, ...]]], values: NDArray[np.float64]
) -> Results | None:
    """Results with the arms read; None where one cannot be."""
    codes = {key: pair[0] for key, pair in encoded.items()}
    levels = {key: pair[1] for key, pair in encoded.items()}
    try:
        arms = [Arm.parse(label) for label in levels["arm"]]
    except ValueError:
        return None
    distinct = tuple(dict.fromkeys(arms))
    codes["arm"] = np.array([distinct.index(arm) for arm in arms], dtype=np.int32)[codes["arm"]]
    return Results(codes, {**levels, "arm": distinct}, values)
