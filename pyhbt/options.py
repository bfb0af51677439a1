"""Options as fields of dataclasses: named, typed, defaulted and explained once.

A field made by :func:`option` is an argument of its class, an option of the command line (``--learning-rate``) and a
name in a configuration file (``learning_rate: 1e-4``) at once. Classes may hold one another; in options and files their
options stand side by side. Values are read from text and from YAML or JSON alike by the type of the field: numbers,
``int | None``, ``Literal``, tuples (separated by commas), paths, mappings (``NAME=VALUE``, one a time).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pyhbt.arguments import check_choice
from pyhbt.files import write_atomically
from pyhbt.reading import naming

_C = TypeVar("_C")

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}


@dataclass(frozen=True)
class About:
    """What is said of an option beside its name, type and default."""

    help: str
    unset: str | None = None
    """The default in words, where it is worked out later."""
    name: str | None = None
    """Its name as an option and in files, where that differs from the field's."""
    also: tuple[str, ...] = ()
    """Other names that are read."""
    read: Callable[[Any], Any] | None = None
    """Makes the value, where the type does not say how."""
    write: Callable[[Any], Any] | None = None
    """Plain data of a value, where it is none."""
    positional: bool = False
    """An argument of the command rather than an option."""
    saved: bool = True
    """Whether it is part of a saved configuration."""


def option(help: str, default: Any = MISSING, **about: Any) -> Any:
    """A dataclass field that is an option; ``about`` are the fields of :class:`About`. Without default: required."""
    metadata = {"option": About(help, **about)}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """One option of a class, its own or of a class that it holds."""

    field: str
    type: Any
    default: Any
    about: About
    owner: type
    """The class whose field it is."""

    @property
    def name(self) -> str:
        """Its name in files, with underscores, and as an option, with dashes."""
        return self.about.name or self.field

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that is read."""
        return self.name, *self.about.also

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a ``Literal``; empty for other types."""
        kind = _present(self.type)
        return get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def flag(self) -> bool:
        """Whether it is on or off."""
        return _present(self.type) is bool

    @property
    def repeated(self) -> bool:
        """Whether it is a mapping, given name by name."""
        return get_origin(_present(self.type)) in (dict, Mapping)

    @property
    def default_in_words(self) -> str:
        """What holds where nothing is given."""
        if self.about.unset is not None:
            return self.about.unset
        if self.default is MISSING:
            return "required"
        plain = self.plain(self.default)
        if isinstance(plain, list):
            return ",".join(map(str, plain)) or "none"
        return "none" if plain in (None, {}) else str(plain).lower() if self.flag else str(plain)

    def read(self, value: Any) -> Any:
        """The value of the field from a text or from plain data.

        Raises:
            ValueError: it is of another kind; names the option, shows what was found and expected.
        """
        if self.about.read is not None:
            return self.about.read(value)
        return _read(value, self.type, self.name)

    def plain(self, value: Any) -> Any:
        """The value as YAML and JSON hold it."""
        if self.about.write is not None and value is not None:
            return self.about.write(value)
        if isinstance(value, tuple):
            return list(value)
        if isinstance(value, Mapping):
            return dict(value)
        return str(value) if isinstance(value, Path) else value


def options_of(cls: type) -> tuple[Option, ...]:
    """The options of a dataclass: its own in the order of its fields, then those of classes that it holds."""
    hints = typing.get_type_hints(cls)
    own: list[Option] = []
    held: list[Option] = []
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            held += options_of(typing.cast(type, hints[field.name]))
        elif "option" in field.metadata:
            default = field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            own.append(Option(field.name, hints[field.name], default, field.metadata["option"], cls))
    return (*own, *held)


def build(cls: type[_C], values: Mapping[str, Any]) -> _C:
    """An object of ``cls`` from its options by field name, side by side; classes that it holds are built too.

    Raises:
        ValueError: a required option is missing, or what the class refuses.
        TypeError: an unknown name.
    """
    known = {option.field for option in options_of(cls)}
    for name in values:
        if name not in known:
            raise TypeError(f"{name}: no option of {cls.__name__}{did_you_mean(name, known)}")
    return _build(cls, values)


def _build(cls: type[_C], values: Mapping[str, Any]) -> _C:
    hints = typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if dataclasses.is_dataclass(hints[field.name]):
            given[field.name] = _build(typing.cast(type, hints[field.name]), values)
        elif field.name in values:
            given[field.name] = values[field.name]
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{field.name}: missing, expected a value")
    return cls(**given)


def values_of(config: Any) -> dict[str, Any]:
    """Every option of an object by field name, those of objects that it holds beside its own."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and "option" not in field.metadata:
            found |= values_of(value)
        elif "option" in field.metadata:
            found[field.name] = value
    return found


def changed(config: _C, **values: Any) -> _C:
    """The same with some options changed, wherever they are held; checks run again."""
    return build(type(config), values_of(config) | values)


def plain_values(config: Any) -> dict[str, Any]:
    """The options of an object by name as YAML and JSON hold them, as :func:`write_config` writes them."""
    values = values_of(config)
    kept = [option for option in options_of(type(config)) if option.about.saved]
    return {option.name: option.plain(values[option.field]) for option in kept}


def read_values(cls: type, given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Field name -> value, from plain data by name; dashes and underscores are the same.

    Raises:
        ValueError: an unknown name, a name twice, or a value of the wrong kind; names ``source`` and option.
    """
    by_name = {name: option for option in options_of(cls) for name in option.names}
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name not in by_name:
            raise ValueError(f"{source}: {key}: unknown{did_you_mean(name, by_name)}")
        option = by_name[name]
        if option.field in found:
            raise ValueError(f"{source}: {key}: given twice, expected once")
        try:
            found[option.field] = option.read(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source}: {error}") from None
    return found


def read_config(path: Path) -> dict[str, Any]:
    """The plain data of a YAML or JSON file, by name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, or holds no mapping; names the file and, where it is known, the line.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with naming(path, "JSON" if path.suffix == ".json" else "YAML"):
        text = path.read_text(encoding="utf-8-sig")
        try:
            found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
            raise ValueError(f"{where}: not YAML ({getattr(error, 'problem', None) or error})") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path}: found {type(found).__name__}, expected names and values")
    return found


def write_config(path: Path, values: Mapping[str, Any], comment: str) -> None:
    """Write plain data by name as YAML that :func:`read_config` reads back, below a line of comment."""
    import yaml

    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)
    with write_atomically(path) as temporary:
        temporary.write_text(f"# {comment}\n{text}", encoding="utf-8")


def documented(cls: type[_C]) -> type[_C]:
    """A class decorator: the options join the docstring as ``Args``, so that they are explained once."""
    own = [field for field in dataclasses.fields(cls) if "option" in field.metadata]  # type: ignore[arg-type]
    described = [f"    {field.name}: {field.metadata['option'].help}" for field in own]
    cls.__doc__ = "\n".join([(cls.__doc__ or "").rstrip(), "", "Args:", *described, ""])
    return cls


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a message about an unknown name; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def parse_word(text: str) -> Any:
    """A value from the command line where nothing says its type: a number, true, none, JSON, or the text itself."""
    if text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _present(kind: Any) -> Any:
    """The type without None."""
    if get_origin(kind) in (Union, types.UnionType):
        rest = [part for part in get_args(kind) if part is not type(None)]
        return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007  # made at run time
    return kind


def _read(value: Any, kind: Any, name: str) -> Any:
    if value is None and type(None) in get_args(kind):
        return None
    kind = _present(kind)
    origin = get_origin(kind)
    if origin is Literal:
        check_choice(name, value, get_args(kind))
        return value
    if origin in (Union, types.UnionType):
        return _first_that_reads(value, get_args(kind), name)
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            parts = [parts]
        stripped = [part.strip() if isinstance(part, str) else part for part in parts]
        return tuple(_read(part, get_args(kind)[0], name) for part in stripped if part != "")
    if origin in (dict, Mapping):
        return _mapping(value, name)
    return _scalar(value, kind, name)


def _first_that_reads(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    for kind in kinds:
        try:
            return _read(value, kind, name)
        except ValueError:
            continue
    raise ValueError(
        f"{name}: found {value!r}, expected {' or '.join(_EXPECTED.get(kind, 'another') for kind in kinds)}"
    )


def _scalar(value: Any, kind: Any, name: str) -> Any:
    try:
        if kind is bool:
            if isinstance(value, str):
                value = {"true": True, "false": False}[value.strip().lower()]
            if isinstance(value, bool):
                return value
        elif kind is int:
            is_number = isinstance(value, int) and not isinstance(value, bool)
            if (isinstance(value, str) or is_number) and abs(int(value)) < 1 << 63:  # what libraries take
                return int(value)
        elif kind is float:
            if not isinstance(value, bool):
                return float(value)
        elif isinstance(value, (str, Path)) or (kind is str and isinstance(value, (int, float))):
            return kind(value)
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"{name}: found {value!r}, expected {_EXPECTED[kind]}")


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    found: dict[str, Any] = {}
    for item in [value] if isinstance(value, str) else value:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{name}: found {item!r}, expected NAME=VALUE")
        found[key.strip()] = parse_word(text)
    return found
