"""Checks of arguments in the same words everywhere, and names that arguments had before.

Every room checks what it is given once, at its border: the message names the argument, what was found and what was
expected.
"""

from __future__ import annotations

import difflib
import functools
import numbers
import operator
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")
_C = TypeVar("_C", bound=type)


def check_at_least(name: str, value: float, least: float) -> None:
    """Refuse a number that is too small, or not a number.

    Raises:
        ValueError: ``value`` is below ``least`` or NaN.
    """
    if not value >= least:
        raise ValueError(f"{name}: found {value}, expected at least {least}")


def whole_number(name: str, value: Any, least: int) -> int:
    """``value`` as an int, where it is one by ``__index__`` (NumPy's integers too, but no truth value).

    Raises:
        TypeError: it is no whole number: a float, even 5.0, a string, None, True.
        ValueError: it is below ``least``.
    """
    try:
        if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        number = operator.index(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: found {_shown(value)}, expected a whole number, at least {least}") from None
    if number < least:
        raise ValueError(f"{name}: found {number}, expected at least {least}")
    return number


def real_number(name: str, value: Any) -> float:
    """``value`` as a float, where it is a number (NumPy's too, but no truth value); it may be NaN or infinite.

    Raises:
        TypeError: it is no number, such as a string, None or an array.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: found {_shown(value)}, expected a number")
    return float(value)


def _shown(value: object) -> str:
    """Short, whatever it is."""
    plain = value is None or isinstance(value, (bool, int, float, str))
    return repr(value) if plain else type(value).__name__


def check_seed(name: str, seed: int) -> None:
    """Refuse a seed that NumPy's or torch's generators do not take.

    Raises:
        ValueError: it is below 0 or above 2^32 - 1.
    """
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"{name}: found {seed}, expected at least 0 and at most {(1 << 32) - 1}")


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Refuse what is none of ``choices``.

    Raises:
        ValueError: it is another.
    """
    if not any(isinstance(value, type(choice)) and value == choice for choice in choices):
        raise ValueError(f"{name}: found {_shown(value)}, expected one of {', '.join(map(str, choices))}")


def check_names(name: str, values: object) -> None:
    """Refuse what is no tuple or list of strings, such as one string, whose letters would be read; O(values).

    Raises:
        TypeError: it is none.
    """
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{name}: found {type(values).__name__}, expected a tuple of strings")
    for place, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(f"{name}[{place}]: found {type(value).__name__}, expected a string")


def check_type(name: str, value: object, kind: type) -> None:
    """Refuse what is no instance of ``kind``.

    Raises:
        TypeError: it is another.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name}: found {type(value).__name__}, expected {kind.__name__}")


def did_you_mean(found: str, choices: Iterable[str]) -> str:
    """``; did you mean 'ja'?``, or nothing where no choice is near."""
    near = difflib.get_close_matches(found, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def renamed_arguments(
    *, both: bool = False, **new_names: str
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """A decorator: keyword arguments under the old names ``old="new"`` are taken for one release, with a warning.

    With ``both`` the old name comes first where both are given, as ``dataclasses.replace`` gives them.

    Raises:
        TypeError: an argument given under both names, without ``both``.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for old, new in new_names.items():
                if old in kwargs:
                    if new in kwargs and not both:
                        raise TypeError(
                            f"{old}: given together with {new}, its name now; expected one of them"
                        )
                    _warn(old, new, stacklevel=3)
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return called

    return decorate


def renamed_fields(**new_names: str) -> Callable[[_C], _C]:
    """The same for a dataclass: its constructor takes the old names, and its attributes are found under them."""

    def decorate(cls: _C) -> _C:
        cls.__init__ = renamed_arguments(both=True, **new_names)(cls.__init__)  # type: ignore[misc]
        for old, new in new_names.items():
            setattr(cls, old, _renamed_property(old, new))
        return cls

    return decorate


def _renamed_property(old: str, new: str) -> property:
    def value(instance: Any) -> Any:
        _warn(old, new, stacklevel=3)
        return getattr(instance, new)

    return property(value, doc=f"The name that ``{new}`` had before.")


def _warn(old: str, new: str, stacklevel: int) -> None:
    warnings.warn(
        f"{old} is called {new} now; the old name goes with the next release",
        DeprecationWarning,
        stacklevel=stacklevel,
    )
