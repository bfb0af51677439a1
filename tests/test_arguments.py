"""The words of refusals, and arguments under their former names."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from pyhbt.arguments import check_at_least, check_choice, check_type, renamed_arguments, renamed_fields


@renamed_arguments(colour="shade")
def painted(shade: str, *, coats: int = 1) -> tuple[str, int]:
    return shade, coats


@renamed_fields(colour="shade")
@dataclass(frozen=True)
class Paint:
    shade: str
    coats: int = 1


@pytest.mark.parametrize("value", [0, -1, 0.5, math.nan])
def test_too_small(value: float) -> None:
    with pytest.raises(ValueError, match=rf"coats: found {value}, expected at least 1"):
        check_at_least("coats", value, 1)


def test_large_enough() -> None:
    check_at_least("coats", 1, 1)
    check_at_least("coats", math.inf, 1)


def test_choice() -> None:
    check_choice("shade", "red", ("red", "blue"))
    with pytest.raises(ValueError, match="shade: found 'green', expected one of red, blue"):
        check_choice("shade", "green", ("red", "blue"))


def test_old_name_of_an_argument() -> None:
    with pytest.warns(DeprecationWarning, match="colour is called shade now") as caught:
        assert painted(colour="red", coats=2) == ("red", 2)  # type: ignore[call-arg]
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match="colour: given together with shade"):
        painted("red", colour="blue", shade="red")  # type: ignore[call-arg, misc]


def test_new_name_of_an_argument_is_silent() -> None:
    assert painted("red") == painted(shade="red") == ("red", 1)


def test_old_name_of_a_field() -> None:
    with pytest.warns(DeprecationWarning, match="colour is called shade now") as caught:
        paint = Paint(colour="red")  # type: ignore[call-arg]
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="colour is called shade now") as caught:
        assert paint.colour == paint.shade == "red"  # type: ignore[attr-defined]
    assert caught[0].filename == __file__
    assert Paint("red", 2) == Paint(shade="red", coats=2)


def test_types() -> None:
    check_type("pairs", [], list)
    with pytest.raises(TypeError, match="pairs: found list, expected dict"):
        check_type("pairs", [], dict)
