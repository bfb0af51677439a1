"""Commands made from options: every option of a class is an option, and a name in a ``--config`` file.

What is given on the command line comes before what the file says, and that before the defaults.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args, get_origin

import typer

from pyhbt.arguments import check_at_least
from pyhbt.options import Option, option, options_of, read_config, read_values

Given: TypeAlias = Mapping[str, Any]
"""Values by field name, of the options that were given."""

# click's UsageError; typer has carried a click of its own since 0.26, so it is reached through a subclass
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]

_CONFIG_HELP = "YAML or JSON file of these options by name; what the command line says comes first."
_PANELS = {
    "TrainingConfig": "Training",
    "SamplerOptions": "Batches",
    "Objective": "Objective",
    "StudyConfig": "Study",
}
_METAVARS = {int: "INTEGER", float: "NUMBER", Path: "PATH"}


def command(cls: type, run: Callable[[Given], None]) -> Callable[..., None]:
    """``run`` as a command that takes the options of a class; its docstring is the help."""
    known = options_of(cls)

    def called(config: Path | None = None, **options: Any) -> None:
        given = saved_values(cls, config) if config is not None else {}
        for item in known:
            value = options[item.field]
            if value is not None and value != []:
                given[item.field] = _read(item, value)
        for item in known:
            if item.default is MISSING and item.about.unset is None and item.field not in given:
                raise USAGE_ERROR(f"Missing {_hint(item)}.")
        run(given)

    parameters = [_parameter(item) for item in known]
    config = Annotated[Path | None, typer.Option("--config", help=_CONFIG_HELP, metavar="FILE")]
    parameters.append(inspect.Parameter("config", _KEYWORD, default=None, annotation=config))
    called.__name__, called.__doc__ = run.__name__, run.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def saved_values(cls: type, path: Path) -> dict[str, Any]:
    """Values by field name, of the options that a file gives; a saved None is an option that was not given.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_config` and :func:`read_values` do.
    """
    given = read_values(cls, read_config(path), str(path))
    for item in options_of(cls):
        if item.default is None and given.get(item.field, "") is None:
            del given[item.field]
    return given


def threads_option() -> Any:
    """CPU threads of a command."""
    return option("CPU threads.", None, unset="torch's", saved=False)


def check_given(options: Any, *names: str) -> None:
    """Refuse options that are given and below 1.

    Raises:
        ValueError: one is; names it.
    """
    for name in names:
        if getattr(options, name) is not None:
            check_at_least(name, getattr(options, name), 1)


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _parameter(item: Option) -> inspect.Parameter:
    """What typer makes an option or an argument of; without a value it is None."""
    about: dict[str, Any] = {
        "help": f"{item.about.help} Default: {item.default_in_words}.",
        "show_default": False,
        "rich_help_panel": _PANELS.get(item.owner.__name__),
    }
    kind: Any = str
    if item.flag:
        kind = bool
    elif item.choices:
        about["metavar"] = f"[{'|'.join(item.choices)}]"
        about["autocompletion"] = _completion(item.choices)
    else:
        about["metavar"] = _metavar(item)
    if item.about.positional:
        about["metavar"] = item.name.upper()
        declared: Any = typer.Argument(**about)
    else:
        declared = typer.Option(*_flags(item), **about)
    optional = list[str] if item.repeated else kind
    return inspect.Parameter(
        item.field, _KEYWORD, default=None, annotation=Annotated[optional | None, declared]
    )


def _flags(item: Option) -> list[str]:
    flags = [f"--{name.replace('_', '-')}" for name in item.names]
    return [f"{flag}/--no-{flag.removeprefix('--')}" for flag in flags] if item.flag else flags


def _metavar(item: Option) -> str:
    if item.repeated:
        return "NAME=VALUE"
    kinds = [kind for kind in get_args(item.type) or (item.type,) if kind is not type(None)]
    return _METAVARS.get(kinds[0], "TEXT") if len(kinds) == 1 and get_origin(kinds[0]) is None else "TEXT"


def _completion(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def _read(item: Option, value: Any) -> Any:
    try:
        return item.read(value)
    except (TypeError, ValueError) as error:
        raise USAGE_ERROR(f"Invalid value for {_hint(item).split(' ', 1)[1]}: {error}") from None


def _hint(item: Option) -> str:
    if item.about.positional:
        return f"argument '{item.name.upper()}'"
    return f"option '{_flags(item)[0].split('/')[0]}'"
