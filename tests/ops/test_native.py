"""The border between Python and the native modules: what they take, they take by name."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pyhbt
from pyhbt.ops._native import core
from pyhbt.ops.codes import allocate, matrix
from pyhbt.ops.dtypes import DTYPES
from tests.emulated import emulated_kernels

STUB = Path(pyhbt.__file__).parent / "_core.pyi"
CUDA_STRUCTS = {
    "Where": "device stream",
    "Panel": "dots rows columns row_factor column_factor positives query_groups passage_groups limit",
    "PanelSums": "row_partials row_tickets row_logsumexp column_partials",
    "PanelGradient": "row_reference row_weight own column_logsumexp column_weight gain out dtype",
    "LossRows": (
        "rows columns positives query_groups passage_groups row_weights temperature temperature_at margin share "
        "refused scores logsumexp losses row_factor column_factor limit reference weight own"
    ),
    "LossTotals": "moments loss_rows loss temperature",
    "ScoreTile": (
        "scores queries first columns code_error query_size passage_size passage_error passage_scale"
    ),
    "Lists": "passages scores counts scored lost queries capacity",
    "Targets": "scores passages low high count beaten",
}
ROWS = torch.ones(2, 3)


def stubbed_structs() -> dict[str, tuple[str, ...]]:
    """The members of each TypedDict of the stub, but for what the module hands out."""
    classes = (node for node in ast.parse(STUB.read_text("utf-8")).body if isinstance(node, ast.ClassDef))
    return {
        node.name: tuple(ast.unparse(field.target) for field in node.body if isinstance(field, ast.AnnAssign))
        for node in classes
        if node.name not in ("BuildInfo", "RangeFound")
    }


def test_dtypes_have_one_table() -> None:
    expected = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
    assert expected == DTYPES
    assert tuple(DTYPES.values()) == core.DTYPES


def test_the_cuda_module_has_the_same_dtypes() -> None:
    assert emulated_kernels().module.DTYPES == core.DTYPES


def test_the_stub_has_the_names_of_the_module() -> None:
    assert stubbed_structs() == core.STRUCTS


def test_structs_of_the_cuda_module() -> None:
    shared = {name: core.STRUCTS[name] for name in ("Matrix", "Filter")}
    own = {name: tuple(names.split()) for name, names in CUDA_STRUCTS.items()}
    structs = emulated_kernels().module.STRUCTS
    assert structs == {**shared, **own}


@pytest.fixture(params=["core", "cuda"])
def take(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], None]:
    """Hands a Matrix to one of the modules, which does no more than read it."""
    if request.param == "core":
        codes = allocate(len(ROWS), torch.zeros(3))

        def encode(rows: Any) -> None:
            core.encode(
                rows=rows,
                cosine=False,
                centre=codes.centre.data_ptr(),
                direction=codes.direction.data_ptr(),
                out=codes.native_out(),
                first_row=0,
                threads=1,
            )

        return encode
    norms = torch.empty(len(ROWS), dtype=torch.float64)
    where = {"device": 0, "stream": 0}
    module = emulated_kernels().module
    return lambda rows: module.exact_norms(where=where, rows=rows, norms=norms.data_ptr())


def without(given: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key != name}


@pytest.mark.parametrize("name", core.STRUCTS["Matrix"])
def test_a_missing_name_is_refused(name: str, take: Callable[..., None]) -> None:
    rows = dict(matrix(ROWS))
    take(rows)
    message = f"Matrix: found no {name}, expected address, dtype, rows, dim, stride"
    with pytest.raises(TypeError, match=message):
        take(without(rows, name))
    with pytest.raises(TypeError, match=message):
        take(without(rows, name) | {f"{name}s": rows[name]})


def test_a_name_too_many_is_refused(take: Callable[..., None]) -> None:
    with pytest.raises(TypeError, match="Matrix: found 'width', expected address, dtype"):
        take({**matrix(ROWS), "width": 3})


@pytest.mark.parametrize(
    "rows",
    [None, (ROWS.data_ptr(), "float32", 2, 3, 3), ROWS.data_ptr()],
    ids=["nothing", "places", "an address"],
)
def test_places_are_refused(rows: Any, take: Callable[..., None]) -> None:
    with pytest.raises(TypeError):
        take(rows)


@pytest.mark.parametrize(
    ("error", "message", "given"),
    [
        (TypeError, "Matrix: rows: found '3', expected another type", {"rows": "3"}),
        (TypeError, "Matrix: rows: found 3.5, expected another type", {"rows": 3.5}),
        (TypeError, "Matrix: address: found None, expected another type", {"address": None}),
        (TypeError, "Matrix: address: found -1, expected another type", {"address": -1}),
        (TypeError, "Matrix: dtype: found 0, expected another type", {"dtype": 0}),
        (
            ValueError,
            "dtype: found 'float64', expected one of float32, float16, bfloat16",
            {"dtype": "float64"},
        ),
    ],
)
def test_values_of_another_kind(
    error: type[Exception], message: str, given: dict[str, Any], take: Callable[..., None]
) -> None:
    with pytest.raises(error, match=message):
        take({**matrix(ROWS), **given})


def test_arguments_of_functions_have_names_too() -> None:
    scores, indices = torch.empty(2, 1), torch.empty(2, 1, dtype=torch.int64)
    arguments: Any = {
        "queries": matrix(ROWS),
        "corpus": matrix(ROWS),
        "codes": None,
        "cosine": False,
        "filter": None,
        "screening": "auto",
        "threads": 1,
    }
    results: Any = {
        "k": 1,
        "scores": scores.data_ptr(),
        "indices": indices.data_ptr(),
        "exact_scores": 0,
    }
    core.search(arguments, **results)
    assert indices.tolist() == [[0], [0]]
    for name in arguments:
        with pytest.raises(TypeError, match=f"SearchArguments: found no {name}"):
            core.search(without(arguments, name), **results)  # type: ignore[arg-type]
    for name in results:
        with pytest.raises(TypeError):
            core.search(arguments, **without(results, name))
    for wrong in ({"queries": None}, {"filter": (0, 0, 0, 0, 0, 0)}, {"threads": "1"}, {"codes": {}}):
        with pytest.raises(TypeError):
            core.search(arguments | wrong, **results)
    with pytest.raises(TypeError):
        core.search(arguments, *results.values())
    with pytest.raises(ValueError, match="screening: found 'int4', expected one of auto, int8, float32"):
        core.search(arguments | {"screening": "int4"}, **results)
