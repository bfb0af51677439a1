"""Results of a ratio study, read back from its folder and checked.

``results.jsonl`` holds one measurement a line; :class:`Results` keeps r of them by column (r int32 codes for
each text column, r float64 values), so that 200,000 rows take a few MB and a selection a millisecond.
``cells/*/measured/*/scores.npz`` hold the influence of every cluster of queries on the final macro means.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pyhbt.data.tiers import TIERS
from pyhbt.evaluation.names import (
    ALL_SETTINGS,
    ALL_TIERS,
    CENTRINGS,
    MAX_RANK,
    RANK_CORRELATION,
    RANK_DISTANCE,
)
from pyhbt.files import write_atomically
from pyhbt.study.arms import Arm
from pyhbt.study.cells import ROWS, Cell, arm_of, measured_parts
from pyhbt.study.tuning import choices, study_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "centring": CENTRINGS,
    "setting": (*ALL_SETTINGS, "all"),
    "tier": ALL_TIERS,
}
_SPLITS: Final = ("train", "dev", "test")  # and "test:NAME" of further test sets
_TEXT_KEYS: Final = ("split", "centring", "setting", "query_lang", "passage_lang", "tier", "metric")
_CODED_KEYS: Final = ("arm", "seed", "step", *_TEXT_KEYS)
_RANGES: Final = {
    RANK_DISTANCE: (0.0, math.inf),
    MAX_RANK: (1.0, math.inf),
    RANK_CORRELATION: (-1.0, 1.0),
}  # of the other metrics: 0 to 1
EXPOSURE: Final = "exposure "  # before the names of what a training saw
_ROUNDING: Final = 1e-9  # by which a mean may pass the top of its range


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
        tables: dict[str, dict[Any, int]] = {key: {} for key in _CODED_KEYS}
        codes: dict[str, list[int]] = {key: [] for key in _CODED_KEYS}
        values: list[float] = []
        for number, row in enumerate(rows, start=1):
            for key, entry in _checked(row, f"{source}:{number}").items():
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

    def _check_distinct(self, source: str) -> None:
        """No measurement twice, and final figures at one step alone."""
        final = [level for level in self.levels["split"] if level.startswith("test")]
        test = self._mask("split", final)
        keys = [np.where(test, -1, self.codes["step"])]
        keys += [self.codes[key] for key in _CODED_KEYS if key != "step"]
        order = np.lexsort(keys)
        same = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
        for key in keys:
            same &= np.diff(key[order]) == 0
        if same.any():
            twin = int(np.flatnonzero(same)[0])
            first, second = sorted(int(row) + 1 for row in order[twin : twin + 2])
            raise ValueError(f"{source}:{second}: value: measured before, on line {first}, expected once")

    def __len__(self) -> int:
        return len(self.values)

    def _mask(self, key: str, wanted: Any) -> NDArray[np.bool_]:
        if key not in self.codes:
            raise ValueError(f"where: found key {key!r}, expected one of {', '.join(_CODED_KEYS)}")
        accepted = set(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else {wanted}
        if key == "arm":
            accepted = set(map(Arm.parse, accepted))
        chosen = [code for code, level in enumerate(self.levels[key]) if level in accepted]
        return np.isin(self.codes[key], chosen)

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
        found = [self.levels[key][code] for code in np.unique(self.codes[key])]
        if key == "arm":
            return sorted(found)
        if key in _CHOICES:
            return sorted(found, key=_CHOICES[key].index)
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


def load_results(out: Path) -> Results:
    """Read OUT/results.jsonl.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a row is malformed; names file, line and field.
    """
    path = out / "results.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no results here; a finished cell of a study writes them")
    with path.open(encoding="utf-8") as lines:
        rows = (_parsed(line, f"{path}:{number}") for number, line in enumerate(lines, start=1))
        return Results.from_rows(rows, str(path))


def _parsed(line: str, where: str) -> Any:
    """One line of JSON."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: line: not JSON ({error.msg}), expected an object") from None


def _checked(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of one row, with their types checked and the arm read."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: line: found {row!r}, expected an object")
    missing = [key for key in (*_CODED_KEYS[1:], "value") if key not in row]
    if missing:
        raise ValueError(f"{where}: {missing[0]}: missing, expected in every row")
    value = row["value"]
    try:
        arm = arm_of(row)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for key in ("seed", "step"):
        if type(row[key]) is not int or row[key] < 0:
            raise ValueError(f"{where}: {key}: found {row[key]!r}, expected an integer >= 0")
    for key in _TEXT_KEYS:
        if not isinstance(row[key], str) or not row[key]:
            raise ValueError(f"{where}: {key}: found {row[key]!r}, expected text")
        if key == "split" and row[key] not in _SPLITS and not row[key].startswith("test:"):
            raise ValueError(
                f"{where}: split: found {row[key]!r}, expected one of {', '.join(_SPLITS)} or test:NAME"
            )
        if key in _CHOICES and row[key] not in _CHOICES[key]:
            raise ValueError(
                f"{where}: {key}: found {row[key]!r}, expected one of {', '.join(_CHOICES[key])}"
            )
    counted = (0.0, math.inf) if row["metric"].startswith(EXPOSURE) else (0.0, 1.0)
    low, high = _RANGES.get(row["metric"], counted)
    if type(value) not in (int, float) or not low <= value <= high + _ROUNDING or math.isinf(value):
        expected = f"a finite number >= {low:g}" if high == math.inf else f"a number in [{low:g}, {high:g}]"
        raise ValueError(f"{where}: value: found {value!r}, expected {expected}")
    return {"arm": arm, **{key: row[key] for key in _CODED_KEYS[1:]}, "value": float(value)}


@dataclass(frozen=True)
class Influences:
    """How much every cluster of queries moved the final macro means, by cell, on one test set.

    ``cells[cell][name]`` is float64 (c,), in the order of ``clusters``, and sums to 0; it lies beside the macro mean of
    the same name. Names are ``centring/setting/tier/metric``.
    """

    clusters: tuple[str, ...]
    cells: Mapping[Cell, Mapping[str, NDArray[np.float64]]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that any cell has, sorted."""
        return tuple(sorted({name for scores in self.cells.values() for name in scores}))


def load_influences(out: Path, split: str = "test") -> Influences:
    """Read the influences of every cell that was measured on a test set, aligned by cluster.

    Raises:
        ValueError: a file is malformed.
    """
    raw: dict[Cell, tuple[list[str], dict[str, NDArray[np.float64]]]] = {}
    for cell, folder in study_cells(out).items():
        part = measured_parts(folder).get(split)
        if part is not None:
            raw[cell] = _read_scores(part / "scores.npz")
    clusters = sorted({name for names, _ in raw.values() for name in names})
    position = {name: place for place, name in enumerate(clusters)}
    cells = {}
    for cell, (names, columns) in raw.items():
        index = [position[name] for name in names]
        cells[cell] = {name: _spread(scores, index, len(clusters)) for name, scores in columns.items()}
    return Influences(tuple(clusters), cells)


def _spread(scores: NDArray[np.float64], index: list[int], size: int) -> NDArray[np.float64]:
    """``scores`` at ``index`` of an array (size,) that is 0 elsewhere."""
    aligned = np.zeros(size)
    aligned[index] = scores
    return aligned


def _read_scores(path: Path) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """Clusters and columns of one scores.npz."""
    with np.load(path, allow_pickle=False) as arrays:
        if "clusters" not in arrays:
            raise ValueError(f"{path}: clusters: missing, expected the names of clusters of queries")
        names = [str(name) for name in arrays["clusters"]]
        if len(set(names)) != len(names):
            raise ValueError(
                f"{path}: clusters: found {len(names)} names, {len(set(names))} of them distinct"
            )
        columns = {}
        for name in arrays.files:
            if name == "clusters":
                continue
            scores = arrays[name]
            if scores.shape != (len(names),) or scores.dtype.kind != "f" or not np.isfinite(scores).all():
                found = f"{scores.dtype} {scores.shape}"
                raise ValueError(f"{path}: {name}: found {found}, expected finite float64 ({len(names)},)")
            columns[name] = scores.astype(np.float64)
    return names, columns


def collect(out: Path) -> Path:
    """All cells' rows as OUT/results.jsonl, by seed and arm; a tuned arm's under the name of the arm. O(rows)."""
    path = out / "results.jsonl"
    tuned = choices(out)
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as target:
        cells = sorted(study_cells(out).items(), key=lambda item: (item[0].seed, item[0].arm))
        for cell, folder in cells:
            for part in (folder, *measured_parts(folder).values()):
                with (part / ROWS).open(encoding="utf-8") as lines:
                    if cell.arm in tuned:
                        target.writelines(_renamed(line, cell.arm.label) for line in lines)
                    else:
                        shutil.copyfileobj(lines, target)
    return path


def _renamed(line: str, label: str) -> str:
    """A row under the arm's label."""
    return json.dumps({**json.loads(line), "arm": label}, ensure_ascii=False) + "\n"
