"""A fuzz of the operations' border: what is right gives the right answer, all else an error that names the argument.

Arguments are drawn one by one, mostly right, each together with whether it is; embeddings are small whole numbers, so
that every score is exact and the oracle is a line of NumPy.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyhbt import ExactIndex
from pyhbt.ops import SearchFilter, contrastive_loss, ranks, search

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of NumPy and torch, about what is drawn
]
FUZZ = settings(max_examples=3000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
NAMES = (
    "queries|corpus|passages|vectors|k|similarity|screening|filter|positives|temperature|symmetric|query_groups|"
    "passage_groups|margin|weights|reduction|targets"
)
OURS = re.compile(rf"^({NAMES})(\.\w+)?(\[\d+\])?: .*expected")


class Drawn(NamedTuple):
    """An argument, and its numbers, or None where it is not right."""

    value: Any
    numbers: Any


JUNK: list[Any] = [
    None,
    "3",
    b"dot",
    2.5,
    float("nan"),
    float("inf"),
    -1,
    0,
    2**70,
    True,
    1j,
    object(),
    [],
    [[1.0, 2.0]],
    {},
    slice(2),
    np.float32(2),
    np.array(3),
    np.array([1, 2]),
    np.array(["a", "b"]),
    np.array([None, 1]),
    torch.tensor([1, 2]),
    torch.tensor(2.0),
    torch.tensor([[1.0]]).to_sparse(),
    torch.empty(2, device="meta"),
    np.float32,
]
LAYOUTS = ["plain", "fortran", "strided", "read-only", "deep", "flat", "parameter", "subclass"]
junk = st.sampled_from(JUNK)
rarely = st.integers(0, 7).map(lambda x: x == 0)


@st.composite
def embeddings(draw: st.DrawFn, rows: int, dim: int, more: tuple[Any, ...] = ()) -> Drawn:
    """``more``: further dtypes that are right, as for the loss, which takes any number."""
    if draw(rarely):
        return Drawn(draw(junk), None)
    if draw(rarely):
        rows, dim = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    seed = draw(st.integers(0, 2**32 - 1))
    numbers = np.random.default_rng(seed).integers(-3, 4, (rows, dim)).astype(np.float64)
    right = dim > 0
    if not more and draw(rarely) and numbers.size:
        numbers.flat[seed % numbers.size] = draw(st.sampled_from([np.nan, np.inf, -np.inf, -0.0]))
        right = right and bool(np.isfinite(numbers).all())
    array, also = _in_memory(draw, numbers, more)
    return Drawn(array, _numbers(array) if right and also else None)


def _in_memory(draw: st.DrawFn, numbers: Any, more: tuple[Any, ...]) -> tuple[Any, bool]:
    """The numbers in memory of some kind, and whether the operations take it."""
    right: list[Any] = [np.float32, np.float16, torch.float32, torch.float16, torch.bfloat16, *more]
    wrong: list[Any] = [
        np.float64,
        np.int64,
        np.uint8,
        np.complex64,
        ">f4",
        object,
        "U3",
        torch.int32,
        torch.float64,
    ]
    float8, int8 = [torch.float8_e4m3fn, torch.float8_e5m2], [np.int8, torch.int8]
    if more:
        wrong += [*float8, *int8]
    elif np.isfinite(numbers).all():  # search reads bytes too, which do not hold what is not finite
        right += [*float8, *int8]
    wrong = [dtype for dtype in [*wrong, torch.complex64, torch.bool] if dtype not in more]
    good = not draw(rarely)
    dtype = draw(st.sampled_from(right if good else wrong))
    if isinstance(dtype, torch.dtype):
        array: Any = torch.from_numpy(numbers).to(dtype)
    else:
        array = numbers.astype(dtype)
    layout = draw(
        st.sampled_from(["plain", "fortran", "strided", "read-only", "deep", "flat", "parameter", "subclass"])
    )
    if layout == "fortran":
        array = array.T.clone().T if isinstance(array, torch.Tensor) else np.asfortranarray(array)
    elif layout == "strided" and array.ndim == 2:
        shape = len(array), 2 * array.shape[1]
        wide = (
            torch.zeros(shape, dtype=dtype)
            if isinstance(array, torch.Tensor)
            else np.zeros(shape, array.dtype)
        )
        wide[:, ::2] = array
        array = wide[:, ::2]
    elif layout == "read-only" and isinstance(array, np.ndarray):
        array.setflags(write=False)
    elif layout == "deep":
        array, good = array[None], False
    elif layout == "flat":
        array, good = array.reshape(-1), False
    elif layout == "parameter" and isinstance(array, torch.Tensor) and array.is_floating_point():
        array = torch.nn.Parameter(array)
    elif layout == "subclass" and isinstance(array, np.ndarray):
        array = np.ma.masked_array(array)
    return array, good


def _numbers(array: Any) -> Any:
    return (
        array.detach().double().numpy() if isinstance(array, torch.Tensor) else np.asarray(array, np.float64)
    )


@st.composite
def integers(draw: st.DrawFn, shape: tuple[int, ...], least: int, end: int) -> Drawn:
    """(rows,) or likewise int64, of which some lie outside ``least`` and below ``end``."""
    if draw(rarely):
        return Drawn(draw(junk), None)
    right = True
    if draw(rarely):
        shape, right = (shape[0] + 1, *shape[1:]), False
    dtype: Any = np.int64
    if draw(rarely):
        dtype, right = draw(st.sampled_from([np.int32, np.float32, np.uint64, np.bool_])), False
    outside = draw(rarely)
    numbers = np.random.default_rng(draw(st.integers(0, 999))).integers(least, max(end, least + 1), shape)
    if outside and numbers.size:
        numbers.flat[0] = draw(st.sampled_from([least - 1, end, 2**62, -(2**62)]))
    right = right and bool(((numbers >= least) & (numbers < end)).all())
    array = numbers.astype(dtype)
    value = torch.from_numpy(array) if draw(st.booleans()) and dtype != np.uint64 else array
    return Drawn(value, numbers if right else None)


def group_ids(rows: int) -> st.SearchStrategy[Drawn]:
    """(rows,), of which any int64 is right."""
    drawn = integers((rows,), -1, 3)
    return drawn.map(lambda one: Drawn(one.value, one.value) if is_ids(one.value, rows) else one)


def is_ids(value: Any, rows: int) -> bool:
    return getattr(value, "dtype", None) in (np.int64, torch.int64) and tuple(value.shape) == (rows,)


def one_of(*right: Any, also: Callable[[Any], bool] = lambda value: False) -> st.SearchStrategy[Drawn]:
    """One of these, or junk; ``also`` says which junk is right too."""

    def judged(value: Any) -> Drawn:
        plain = value is None or isinstance(value, (bool, str, int, float))
        same = plain and any(type(value) is type(other) and value == other for other in right)
        return Drawn(value, (value,) if same or also(value) else None)

    return st.tuples(
        rarely, st.sampled_from(right).map(lambda value: Drawn(value, (value,))), junk.map(judged)
    ).map(lambda drawn: drawn[2] if drawn[0] else drawn[1])


def is_count(value: Any) -> bool:
    """Whether it stands for a whole number from 1."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return False
    try:
        return operator.index(value) >= 1
    except (TypeError, ValueError):
        return False


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.complexfloating))


def is_finite(value: Any) -> bool:
    return is_number(value) and bool(np.isfinite(float(value)))


def is_temperature(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.layout == torch.strided and value.numel() == 1 and value.is_floating_point()
    return is_finite(value) and value > 0


@st.composite
def weights(draw: st.DrawFn, rows: int) -> Drawn:
    if draw(rarely):
        return Drawn(draw(junk), None)
    kind, length = draw(st.sampled_from(["f2", "f4", "f8", "i8"])), rows + draw(rarely)
    value = np.ones(length, kind)
    return Drawn(value, value if kind != "i8" else None)


def refused(call: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether the call raises, and then by name; else what it returns."""
    try:
        found = call()
    except (ValueError, TypeError) as error:
        words = f"{type(error).__name__}: {error}"
        if not OURS.match(str(error)):
            raise AssertionError(words) from error
        return True, words
    return False, found


def outcome(call: Callable[[], Any], drawn: dict[str, Drawn], fits: bool) -> Any:
    """What the call returns where all is right and fits together; else None, and it must have been refused."""
    wrong = [name for name, one in drawn.items() if one.numbers is None]
    failed, found = refused(call)
    assert failed == (bool(wrong) or not fits), (wrong, fits, found)
    return None if failed else found


def scores_of(queries: Any, corpus: Any, cosine: bool) -> Any:
    """(nq, n); of the cosine what orders passages, exactly: the square of the score with its sign, as a fraction."""
    dots = queries @ corpus.T
    if not cosine:
        return dots
    lengths = (corpus**2).sum(1)
    return np.where(lengths > 0, dots * np.abs(dots) / np.where(lengths > 0, lengths, 1), 0.0)


whole_k = one_of(1, 2, 5, np.int64(3), np.uint8(2), torch.tensor(4), 2**40, also=is_count)


@st.composite
def filters(draw: st.DrawFn, nq: int, n: int) -> tuple[Drawn, Any]:
    """A filter, and what it allows (nq, n)."""
    everything = np.ones((nq, n), bool)
    if draw(st.booleans()):
        return Drawn(None, (None,)), everything
    if draw(rarely):
        return Drawn(draw(junk.filter(lambda value: value is not None)), None), everything
    parts: dict[str, Any] = {}
    allowed, right = everything.copy(), True
    if draw(st.booleans()):
        chosen = draw(integers((n,), 0, 2))
        if chosen.numbers is None:
            parts["allowed"], right = chosen.value, chosen.value is None
            if getattr(chosen.value, "ndim", 0) == 1:
                return Drawn(
                    SearchFilter(**parts), "unknown"
                ), everything  # some of these are right: positions
        else:
            parts["allowed"] = chosen.numbers.astype(bool)
            allowed &= parts["allowed"]
    if draw(st.booleans()):
        of_passages, of_queries = draw(integers((n,), 0, 3)), draw(integers((nq, 2), -1, 3))
        parts |= {"passage_partitions": of_passages.value, "query_partitions": of_queries.value}
        if of_passages.numbers is None or of_queries.numbers is None:
            return Drawn(SearchFilter(**parts), "unknown"), everything  # some of these are right: others' ids
        allowed &= (of_passages.numbers[None, :, None] == of_queries.numbers[:, None]).any(2)
    if draw(st.booleans()):
        excluded = draw(integers((nq, 2), -1, n))
        parts["exclude"] = excluded.value
        if excluded.numbers is None:
            right = right and excluded.value is None
        else:
            for query, passages in enumerate(excluded.numbers):
                allowed[query, passages[passages >= 0]] = False
    return Drawn(SearchFilter(**parts), (True,) if right else None), allowed


@FUZZ
@given(st.data())
def test_search(data: st.DataObject) -> None:
    nq, n, dim = (data.draw(st.integers(1, most)) for most in (7, 40, 9))
    queries, corpus = data.draw(embeddings(nq, dim)), data.draw(embeddings(n, dim))
    k, similarity = data.draw(whole_k), data.draw(one_of("dot", "cosine"))
    filter, allowed = data.draw(filters(nq, n))
    screening = data.draw(one_of("auto", "int8", "float32"))
    indexed = data.draw(st.booleans())

    def call() -> Any:
        if indexed:
            index = ExactIndex(corpus.value, similarity=similarity.value)
            return index.search(queries.value, k.value, filter=filter.value)
        options = {"similarity": similarity.value, "filter": filter.value, "screening": screening.value}
        return search(queries.value, corpus.value, k.value, **options)

    drawn = {"queries": queries, "corpus": corpus, "k": k, "similarity": similarity, "filter": filter}
    if not indexed:
        drawn["screening"] = screening
    fits = queries.numbers is not None and corpus.numbers is not None
    fits = fits and queries.numbers.shape[1] == corpus.numbers.shape[1]
    given_filter = filter.value is not None
    if fits and given_filter and (len(queries.numbers), len(corpus.numbers)) != allowed.shape:
        return  # a filter for other sizes; other tests
    if filter.numbers == "unknown":
        refused(call)
        return
    found = outcome(call, drawn, fits)
    if found is None:
        return
    scores, indices = (np.asarray(x) for x in found)
    truth = scores_of(queries.numbers, corpus.numbers, similarity.value == "cosine")
    if not given_filter:
        allowed = np.ones(truth.shape, bool)
    for row in range(len(truth)):
        order = [int(i) for i in np.argsort(-truth[row], kind="stable") if allowed[row, i]]
        kept = min(int(k.value), max(1, truth.shape[1]))
        expected = (order + [-1] * kept)[:kept]
        if similarity.value == "dot":
            assert indices[row].tolist() == expected
            assert scores[row].tolist() == [
                float(np.float32(truth[row, i])) if i >= 0 else -np.inf for i in expected
            ]
        else:  # equal fractions of other numbers may be rounded apart
            np.testing.assert_allclose(
                [truth[row, i] if i >= 0 else -np.inf for i in indices[row]],
                [truth[row, i] if i >= 0 else -np.inf for i in expected],
                rtol=1e-12,
            )


@FUZZ
@given(st.data())
def test_ranks(data: st.DataObject) -> None:
    nq, n, dim = (data.draw(st.integers(1, most)) for most in (7, 40, 9))
    queries, corpus = data.draw(embeddings(nq, dim)), data.draw(embeddings(n, dim))
    targets = data.draw(integers((nq, 3), -1, n))
    if targets.numbers is None and getattr(targets.value, "shape", None) == (nq,):
        return  # one target a query is right too
    similarity = data.draw(one_of("dot", "cosine"))
    drawn = {"queries": queries, "corpus": corpus, "targets": targets, "similarity": similarity}
    fits = all(one.numbers is not None for one in drawn.values())
    fits = fits and queries.numbers.shape[1] == corpus.numbers.shape[1]
    fits = fits and len(queries.numbers) == nq and (targets.numbers < len(corpus.numbers)).all()
    found = outcome(
        lambda: ranks(queries.value, corpus.value, targets.value, similarity=similarity.value), drawn, fits
    )
    if found is None or similarity.value == "cosine":
        return
    truth = scores_of(queries.numbers, corpus.numbers, cosine=False)
    for row, wanted in enumerate(targets.numbers):
        order = np.argsort(-truth[row], kind="stable").tolist()
        assert np.asarray(found)[row].tolist() == [order.index(t) + 1 if t >= 0 else 0 for t in wanted]


@FUZZ
@given(st.data())
def test_contrastive_loss(data: st.DataObject) -> None:
    n, m, dim = data.draw(st.integers(1, 7)), data.draw(st.integers(7, 12)), data.draw(st.integers(1, 9))
    more = (torch.float64, np.float64)
    queries, passages = data.draw(embeddings(n, dim, more)), data.draw(embeddings(m, dim, more))
    options = {
        "temperature": data.draw(
            one_of(0.05, 1, 2.0, np.float32(0.5), torch.tensor(1.0), also=is_temperature)
        ),
        "similarity": data.draw(one_of("dot", "cosine")),
        "symmetric": data.draw(one_of(True, False)),
        "margin": data.draw(one_of(None, 0.5, -1, np.float64(0), also=is_finite)),
        "reduction": data.draw(one_of("mean", "sum", "none")),
    }
    if data.draw(st.booleans()):
        options["positives"] = data.draw(integers((n,), -1, m))
    if data.draw(st.booleans()):
        options["weights"] = data.draw(weights(n))
    if data.draw(rarely):
        options |= {"query_groups": data.draw(group_ids(n)), "passage_groups": data.draw(group_ids(m))}
    drawn = {"queries": queries, "passages": passages, **options}
    optional = ("positives", "weights", "query_groups", "passage_groups")
    for name in optional:
        if name in drawn and drawn[name].value is None:
            drawn[name] = Drawn(None, (None,))
    values = {name: one.value for name, one in options.items()}
    found = _loss_outcome(queries, passages, values, drawn)
    if found is None:
        return
    plain = {"similarity", "temperature", "reduction"}
    if any(values.get(name) is not None for name in {*values} - plain - {"symmetric"}) or values["symmetric"]:
        return  # their values are looked at elsewhere
    q, p = torch.from_numpy(queries.numbers), torch.from_numpy(passages.numbers)
    if values["similarity"] == "cosine":
        q, p = (torch.nn.functional.normalize(x, eps=1e-12) for x in (q, p))
    logits = q @ p.T / float(values["temperature"])
    truth = torch.nn.functional.cross_entropy(logits, torch.arange(len(q)), reduction=values["reduction"])
    if len(q):
        largest = float(logits.abs().max()) + 1
        found = (
            found.detach().double()
            if isinstance(found, torch.Tensor)
            else torch.from_numpy(np.asarray(found))
        )
        torch.testing.assert_close(found.double(), truth, rtol=1e-5, atol=1e-5 * largest)


def _loss_outcome(queries: Drawn, passages: Drawn, values: dict[str, Any], drawn: dict[str, Drawn]) -> Any:
    known = queries.numbers is not None and passages.numbers is not None
    fits = known and queries.numbers.shape[1] == passages.numbers.shape[1]
    if known:
        rows, others = len(queries.numbers), len(passages.numbers)
        sizes = {"positives": rows, "query_groups": rows, "passage_groups": others, "weights": rows}
        for name, size in sizes.items():
            if values.get(name) is not None and drawn[name].numbers is not None:
                fits = fits and len(drawn[name].numbers) == size
        positives = values.get("positives")
        if positives is None:
            fits = fits and others >= rows
        elif drawn["positives"].numbers is not None:
            fits = fits and bool((drawn["positives"].numbers < others).all())
        fits = fits and (values.get("query_groups") is None) == (values.get("passage_groups") is None)
    return outcome(lambda: contrastive_loss(queries.value, passages.value, **values), drawn, fits)
