"""Hybrid batches: every batch wholly monolingual or wholly cross-lingual, mixed by a ratio.

Source: arXiv 2408.10536, section 3. A share ``ratio`` of the batches is cross-lingual. A monolingual batch has one
language, a cross-lingual one an ordered pair of languages (or, as an option, a mixture of pairs). Kinds and languages
are stratified: in every window of steps the number of cross-lingual batches differs from the one asked for by less than
one, and in every round of draws the languages of a kind each get their share to within one batch.

Order is a pure function of (seed, epoch, step): a run resumes at any step without replaying the ones before.
Cost: O(steps) for the plan of an epoch, made once; O(bucket log bucket) whenever a bucket begins a new pass;
O(batch log batch) a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from pyhbt.arguments import check_at_least, check_choice, check_type, renamed_arguments
from pyhbt.data.pair_set import PairSet
from pyhbt.options import documented, option
from pyhbt.training.schedules import RatioSchedule
from pyhbt.training.stratified import stratified_events, stratified_uniforms

BatchKind = Literal["monolingual", "cross-lingual"]
CrossPairs = Literal["single", "mixed"]
Negatives = Literal["one-language", "mixed"]
FalseNegatives = Literal["avoided", "masked"]

# Streams of randomness, so that a draw of one kind never shifts the draws of another.
_KIND, _BUCKET, _ORDER = range(3)


@documented
@dataclass(frozen=True)
class SamplerOptions:
    """How batches are drawn, ratio, sizes and seed apart; see :class:`HybridBatchSampler`.

    Raises:
        ValueError: a value that is none of those allowed, or values that do not go together.
    """

    language_sampling: float | str = option(
        "Draw languages uniformly (uniform), by size (size), by size^A (a number), or by a schedule of A such as "
        "linear:1:0.3 (cooldown).",
        "uniform",
    )
    cross_pairs: CrossPairs = option(
        "A cross-lingual batch has one language pair (single) or many (mixed).", "single"
    )
    negatives: Negatives = option(
        "Passages of a batch are in one language (one-language) or, in batches of both kinds, in many (mixed), which "
        "tells the language of negatives from that of positives.",
        "one-language",
    )
    false_negatives: FalseNegatives = option(
        "Passages that answer one query never meet in a batch (avoided), or the loss masks them (masked).",
        "avoided",
    )

    def __post_init__(self) -> None:
        check_choice("cross_pairs", self.cross_pairs, get_args(CrossPairs))
        check_choice("negatives", self.negatives, get_args(Negatives))
        check_choice("false_negatives", self.false_negatives, get_args(FalseNegatives))
        moves = self.exponent.kind != "constant"  # refuses what is no exponent
        for name in ("cross_pairs", "negatives"):
            if getattr(self, name) == "mixed" and moves:
                raise ValueError(
                    f"language_sampling: found {self.language_sampling!r} with {name} 'mixed', expected one exponent"
                )

    @property
    def exponent(self) -> RatioSchedule:
        """The exponent of language sampling over the training."""
        return _exponent(self.language_sampling)

    @property
    def label(self) -> str:
        """The language sampling as text, the same however it was given: uniform, size, an exponent or a schedule."""
        text = self.exponent.text
        return {"0": "uniform", "1": "size"}.get(text, text)


class HybridBatchSampler(Sampler[list[int]]):
    """Batches of pair positions for a ``DataLoader``'s ``batch_sampler``.

    Args:
        pairs: the training pairs.
        batch_size: pairs a batch and rank.
        ratio: share of cross-lingual batches: a number, a schedule, or a text that :meth:`RatioSchedule.parse` reads.
            In every window of steps their number differs from the sum of the ratios by less than one.
        steps: batches an epoch and rank; by default enough that every distinct query could be drawn once.
        seed: fixes the order, together with :meth:`set_epoch`.
        language_sampling: exponent a of p(language) ~ n^a, where n counts the pairs of the language (or
            language pair): ``"uniform"`` is 0, ``"size"`` is 1. A schedule such as ``"linear:1:0.3"`` moves it over the
            training, as temperature sampling with cooldown does (1 / a is the temperature; arXiv 2410.04579).
        cross_pairs: ``"single"``: a cross-lingual batch has one language pair; ``"mixed"``: many. The paper
            leaves this open.
        negatives: ``"one-language"``: the passages of a batch are in one language; ``"mixed"``: monolingual batches
            hold pairs of many languages, cross-lingual ones of many language pairs, whatever ``cross_pairs`` says.
        false_negatives: ``"avoided"``: no two pairs of one answer group (:attr:`PairSet.answer_groups`) in a batch, so
            that no query is in it twice and no passage that answers a query is its negative; ``"masked"``: allowed, for
            a loss that masks them by id.
        num_ranks: ranks among which consecutive batches are dealt out (accelerate's order). All ranks get
            batches of the same kind and languages at the same step, cut from one batch of
            ``batch_size * num_ranks`` pairs; where it holds fewer pairs than there are ranks, they are dealt out again.
        schedule_steps: steps over which a schedule runs; ``steps`` by default.

    A language with fewer pairs than a batch gives shorter batches. Within a pass over a language every pair
    comes once; the remainder that fills no batch is left for the next pass, whose order is new.

    Raises:
        ValueError: an argument out of range; a ratio above 0 without cross-lingual pairs, or below 1 without
            monolingual ones.
        TypeError: ``pairs`` is no :class:`PairSet`.
    """

    @renamed_arguments(groups="false_negatives")
    def __init__(
        self,
        pairs: PairSet,
        batch_size: int,
        *,
        ratio: float | str | RatioSchedule = 0.5,
        steps: int | None = None,
        seed: int = 0,
        language_sampling: float | str = "uniform",
        cross_pairs: CrossPairs = "single",
        negatives: Negatives = "one-language",
        false_negatives: FalseNegatives = "avoided",
        num_ranks: int = 1,
        schedule_steps: int | None = None,
    ) -> None:
        check_type("pairs", pairs, PairSet)
        for name, value in (
            ("batch_size", batch_size),
            ("num_ranks", num_ranks),
            ("steps", steps),
            ("schedule_steps", schedule_steps),
        ):
            if value is not None:
                check_at_least(name, value, 1)
        check_at_least("seed", seed, 0)
        if str(false_negatives) == "distinct":  # its name while the argument was called groups
            false_negatives = "avoided"
        options = SamplerOptions(language_sampling, cross_pairs, negatives, false_negatives)
        if not len(pairs):
            raise ValueError("pairs: found 0 pairs, expected at least 1")
        self.pairs = pairs
        self.batch_size = batch_size
        self.num_ranks = num_ranks
        self.schedule = RatioSchedule.parse(ratio)
        self.false_negatives = false_negatives
        self.seed = seed
        self.epoch = 0
        self.drop_last = False
        union = batch_size * num_ranks
        self.steps = steps if steps is not None else steps_of_epoch(pairs, union)
        self.schedule_steps = schedule_steps if schedule_steps is not None else self.steps
        self._union_size = union
        self._exponent = options.exponent
        self._monolingual, self._cross_lingual = _buckets(
            pairs,
            self._exponent.knots[0][1],
            mixed_monolingual=negatives == "mixed",
            mixed_cross_lingual="mixed" in (cross_pairs, negatives),
        )
        self._ratio_changes: list[tuple[int, float]] = []
        lowest, highest = self.schedule.bounds
        if highest > 0 and not self._cross_lingual:
            raise ValueError(
                f"ratio: found {self.schedule.label}, expected 0: no pair joins two of the languages "
                f"{', '.join(pairs.languages)}"
            )
        if lowest < 1 and not self._monolingual:
            raise ValueError(
                f"ratio: found {self.schedule.label}, expected 1: no pair is within one of the languages "
                f"{', '.join(pairs.languages)}"
            )
        self._buckets = [*self._monolingual, *self._cross_lingual]
        self._answers = pairs.answer_groups[pairs.passage_index]
        self._plan: _Plan | None = None
        self._orders: dict[int, tuple[int, int, NDArray[np.int64]]] = {}

    def __repr__(self) -> str:
        return (
            f"HybridBatchSampler({self.pairs!r}, batch_size={self.batch_size}, ratio={str(self.schedule)!r}, "
            f"steps={self.steps}, num_ranks={self.num_ranks})"
        )

    def __len__(self) -> int:
        """Batches an epoch, over all ranks."""
        return self.steps * self.num_ranks

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches()

    def batches(self, start_step: int = 0) -> Iterator[list[int]]:
        """Batches from ``start_step`` to the end of the epoch, those of one step for all ranks in a row."""
        for step in range(start_step, self.steps):
            yield from self.at(step)

    def at(self, step: int) -> list[list[int]]:
        """The batches of one step of this epoch, one for each rank.

        Raises:
            ValueError: the epoch has no such step.
        """
        if not 0 <= step < self.steps:
            raise ValueError(f"step: found {step}, expected 0 to {self.steps - 1}")
        plan = self._epoch_plan()
        index = int(plan.buckets[step])
        bucket = self._buckets[index]
        batches_a_pass = max(1, bucket.pass_size // self._union_size)
        cycle, slot = divmod(int(plan.occurrences[step]), batches_a_pass)
        order = self._order(index, cycle)
        rows = order[slot * self._union_size : (slot + 1) * self._union_size]
        if self.false_negatives == "avoided":
            _, first = np.unique(self._answers[rows], return_index=True)
            rows = rows[np.sort(first)]
        if len(rows) < self.num_ranks:
            rows = np.resize(rows, self.num_ranks)
        return [part.tolist() for part in np.array_split(rows, self.num_ranks)]

    def kind(self, step: int) -> BatchKind:
        """Whether the batches of a step of this epoch are monolingual or cross-lingual."""
        return (
            "cross-lingual" if self._epoch_plan().buckets[step] >= len(self._monolingual) else "monolingual"
        )

    def fillable(self) -> dict[str, int]:
        """Pairs that a batch over all ranks holds, for each language and language pair that batches are drawn from.

        Means, rounded, by ``"de"``, ``"de-en"`` (query language first) or, where batches mix them, ``"monolingual"``
        and ``"cross-lingual"``. They are below ``batch_size * num_ranks`` where there are too few pairs, or where under
        ``"avoided"`` too many of them have the same answers. O(pairs log pairs).
        """
        answers = self._answers if self.false_negatives == "avoided" else np.arange(len(self.pairs))
        lowest, highest = self.schedule.bounds
        drawn = [*(self._monolingual if lowest < 1 else ()), *(self._cross_lingual if highest > 0 else ())]
        return {bucket.label: round(bucket.mean_size(self._union_size, answers)) for bucket in drawn}

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch. Epochs differ in every draw; a schedule goes on across them."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._plan = None
            self._orders.clear()

    @property
    def ratio_changes(self) -> tuple[tuple[int, float], ...]:
        """(step, ratio) of every :meth:`set_ratio` so far; part of the sampler's state."""
        return tuple(self._ratio_changes)

    @ratio_changes.setter
    def ratio_changes(self, changes: Sequence[tuple[int, float]]) -> None:
        self._ratio_changes = []
        for step, ratio in changes:
            self.set_ratio(float(ratio), int(step))
        self._plan = None

    def set_ratio(self, ratio: float, from_step: int) -> None:
        """From a step of this epoch on, make ``ratio`` the probability of a cross-lingual batch (adaptive schedule).

        Batches before that step stay as they are.

        Raises:
            ValueError: the schedule is not adaptive, or the ratio is outside its bounds, or the step is before the last
                change.
        """
        low, high = self.schedule.bounds
        if self.schedule.kind != "adaptive" or not low <= ratio <= high:
            raise ValueError(f"ratio: found {ratio}, expected what {self.schedule.label} allows")
        if self._ratio_changes and from_step < self._ratio_changes[-1][0]:
            raise ValueError(f"from_step: found {from_step}, expected at least {self._ratio_changes[-1][0]}")
        self._ratio_changes.append((from_step, ratio))
        self._plan = None

    def ratio(self, step: int) -> float:
        """The probability that the batches of a step of this epoch are cross-lingual."""
        return float(self._ratios()[step])

    def _ratios(self) -> NDArray[np.float64]:
        ratios = self.schedule.at(self._progress())
        for step, ratio in self._ratio_changes:
            ratios[max(0, step) :] = ratio
        return ratios

    def _progress(self) -> NDArray[np.float64]:
        progress: NDArray[np.float64] = (self.epoch * self.steps + np.arange(self.steps)) / max(
            1, self.schedule_steps - 1
        )
        return progress

    def _epoch_plan(self) -> _Plan:
        if self._plan is None:
            cross = stratified_events(self._ratios(), self._phase(), self._asked_before())
            buckets = np.empty(self.steps, dtype=np.int64)
            for chosen, offset, part in (
                (~cross, 0, self._monolingual),
                (cross, len(self._monolingual), self._cross_lingual),
            ):
                if chosen.any():
                    draws = stratified_uniforms(self._rng(_BUCKET, offset), int(chosen.sum()), len(part))
                    buckets[chosen] = offset + self._draw(part, draws, np.flatnonzero(chosen))
            self._plan = _Plan(buckets, _occurrences(buckets))
        return self._plan

    def _phase(self) -> float:
        """Where the kinds of all epochs begin: a number in [0, 1) for each seed."""
        return float(np.random.default_rng((self.seed, _KIND)).random())

    def _asked_before(self) -> float:
        """Cross-lingual batches asked for in the epochs before this one; of an adaptive ratio, where it begins."""
        if self.schedule.kind == "constant":
            return self.epoch * self.steps * self.schedule.knots[0][1]
        before = np.arange(self.epoch * self.steps) / max(1, self.schedule_steps - 1)
        return float(self.schedule.at(before).sum())

    def _draw(
        self, part: list[_Bucket], draws: NDArray[np.float64], steps: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The bucket of ``part`` for each step, from its uniform draw."""
        if self._exponent.kind == "constant":
            edges = np.cumsum([bucket.weight for bucket in part])
            found: NDArray[np.int64] = np.searchsorted(edges, draws * edges[-1], side="right")
            return np.minimum(found, len(part) - 1)
        exponents = self._exponent.at(self._progress())[steps]
        sizes = np.array([len(bucket.rows) for bucket in part], dtype=np.float64)
        index: NDArray[np.int64] = np.empty(len(draws), dtype=np.int64)
        for place, (draw, exponent) in enumerate(zip(draws, exponents, strict=True)):
            edges = np.cumsum(sizes**exponent)
            index[place] = np.searchsorted(edges, draw * edges[-1], side="right")
        return np.minimum(index, len(part) - 1)

    def _order(self, index: int, cycle: int) -> NDArray[np.int64]:
        """Positions of a bucket's pairs in the order of one pass over it; the latest pass is kept."""
        kept = self._orders.get(index)
        if kept is None or kept[:2] != (self.epoch, cycle):
            rng = self._rng(_ORDER, index, cycle)
            kept = (self.epoch, cycle, self._buckets[index].order(rng, self._answers))
            self._orders[index] = kept
        return kept[2]

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, *stream))


def steps_of_epoch(pairs: PairSet, union_size: int) -> int:
    """Steps in which every distinct query could be drawn once, with ``union_size`` pairs a step over all ranks."""
    return max(1, -(-len(pairs.queries) // union_size))


@dataclass(frozen=True)
class _Plan:
    """For every step of an epoch: the bucket drawn, and how often it was drawn before."""

    buckets: NDArray[np.int64]
    occurrences: NDArray[np.int64]


@dataclass(frozen=True)
class _Bucket:
    """Pairs that may share a batch, their weight against other buckets, and how likely each enters a pass."""

    label: str
    rows: NDArray[np.int64]
    weight: float
    row_weights: NDArray[np.float64] | None = None

    @property
    def pass_size(self) -> int:
        if self.row_weights is None:
            return len(self.rows)
        return max(1, int(self.row_weights.sum()))

    def mean_size(self, size: int, answers: NDArray[np.int64]) -> float:
        """Pairs that batches of ``size``, slices of a pass, have on average, of an answer group one at most."""
        share = min(1.0, size / self.pass_size)
        _, group = np.unique(answers[self.rows], return_inverse=True)
        return float(np.minimum(np.bincount(group, self.row_weights) * share, 1.0).sum())

    def order(self, rng: np.random.Generator, answers: NDArray[np.int64]) -> NDArray[np.int64]:
        """A random order in which the c pairs of an answer group lie about 1/c of the pass apart.

        Pair i of a group's c pairs gets the key (i + u) / c, with u uniform and the same for the group: batches,
        being consecutive slices, then hold a group twice only where it is too large to be avoided.
        """
        rows = self.rows[rng.permutation(len(self.rows))]
        if self.row_weights is not None:
            # Systematic sampling: each pair is included with exactly its weight.
            # Madow 1949, doi:10.1214/aoms/1177729988.
            edges = np.cumsum(self.row_weights[np.searchsorted(self.rows, rows)])
            rows = rows[
                np.unique(np.searchsorted(edges, rng.random() + np.arange(self.pass_size), side="right"))
            ]
        _, group, counts = np.unique(answers[rows], return_inverse=True, return_counts=True)
        phase = rng.random(len(counts))[group]
        key = (_occurrences(group) + phase) / counts[group]
        ordered: NDArray[np.int64] = rows[np.argsort(key, kind="stable")]
        return ordered


def _buckets(
    pairs: PairSet, exponent: float, *, mixed_monolingual: bool, mixed_cross_lingual: bool
) -> tuple[list[_Bucket], list[_Bucket]]:
    """Monolingual buckets by language, and cross-lingual ones by ordered language pair; or one of all."""
    num_languages = len(pairs.languages)
    code = pairs.query_langs * num_languages + pairs.passage_langs
    order = np.argsort(code, kind="stable")
    codes, starts = np.unique(code[order], return_index=True)
    monolingual: list[_Bucket] = []
    cross_lingual: list[_Bucket] = []
    for value, rows in zip(codes, np.split(order, starts[1:]), strict=True):
        query_lang, passage_lang = divmod(int(value), num_languages)
        part = monolingual if query_lang == passage_lang else cross_lingual
        names = [pairs.languages[lang] for lang in dict.fromkeys((query_lang, passage_lang))]
        part.append(_Bucket("-".join(names), np.sort(rows), float(len(rows)) ** exponent))
    return (
        _mixed("monolingual", monolingual) if mixed_monolingual else monolingual,
        _mixed("cross-lingual", cross_lingual) if mixed_cross_lingual else cross_lingual,
    )


def _mixed(label: str, buckets: list[_Bucket]) -> list[_Bucket]:
    """One bucket of all, in which every pair is as likely as in its own."""
    if not buckets:
        return []
    rows = np.concatenate([bucket.rows for bucket in buckets])
    weights = np.concatenate(
        [np.full(len(bucket.rows), bucket.weight / len(bucket.rows)) for bucket in buckets]
    )
    ascending = np.argsort(rows)
    weights = weights[ascending] / weights.max()
    return [_Bucket(label, rows[ascending], 1.0, None if (weights == 1.0).all() else weights)]


def _exponent(language_sampling: float | str) -> RatioSchedule:
    """The exponent as a schedule over training."""
    named = {"uniform": 0.0, "size": 1.0}
    try:
        schedule = RatioSchedule.parse(
            named.get(language_sampling, language_sampling)
            if isinstance(language_sampling, str)
            else language_sampling
        )
    except ValueError:
        schedule = None
    if schedule is None or schedule.kind == "adaptive":
        raise ValueError(
            f"language_sampling: found {language_sampling!r}, expected 'uniform', 'size', an exponent in [0, 1] "
            "or a schedule of exponents such as linear:1:0.3"
        )
    return schedule


def _occurrences(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each value occurred before its place: [5, 7, 5, 5] -> [0, 0, 1, 2]; O(n log n)."""
    order = np.argsort(values, kind="stable")
    sorted_values = values[order]
    starts = np.flatnonzero(np.r_[True, sorted_values[1:] != sorted_values[:-1]]) if len(values) else order
    sizes = np.diff(np.r_[starts, len(values)])
    counts = np.empty(len(values), dtype=np.int64)
    counts[order] = np.arange(len(values)) - np.repeat(starts, sizes)
    return counts
