"""A Sphinx extension: the reference is made from the public names of the rooms when the docs are built.

Every room of pyhbt/ gets a page below reference/rooms, with all that its ``__all__`` names (a module: what is public in
it). The page reference/command-line gets the options of each command from its options. So neither can forget a name.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import pyhbt
from pyhbt.options import Option, options_of

MEASURES = {
    "pyhbt.evaluation": ("bias", "metrics", "preference"),
    "pyhbt.study": (
        "statistics.contrasts",
        "statistics.multiple",
        "statistics.noninferiority",
        "statistics.convergence",
        "statistics.response",
        "statistics.factors",
        "statistics.power",
    ),
    "pyhbt.training": ("adaptive",),
}
"""Modules whose functions a room does not hand on, but which are of use by themselves."""

_NOTE = "This page is made from the code when the docs are built.\n"


def rooms() -> list[str]:
    """The packages and modules right below pyhbt, by name; those with an underscore are private."""
    found = (f"pyhbt.{module.name}" for module in pkgutil.iter_modules(pyhbt.__path__))
    return sorted(name for name in found if not name.split(".")[1].startswith("_"))


def parts(room: str) -> Iterator[tuple[str, list[str]]]:
    """(module, public names of it) of a room: the room itself, or, where it hands on nothing, what lies in it."""
    module = importlib.import_module(room)
    if room == "pyhbt.cli":
        return  # its public face is the command line
    if hasattr(module, "__all__"):
        yield room, list(module.__all__)
    elif hasattr(module, "__path__"):
        for inner in sorted(found.name for found in pkgutil.iter_modules(module.__path__)):
            if not inner.startswith("_"):
                yield from parts(f"{room}.{inner}")
    else:
        yield room, _own_names(module)
    for name in MEASURES.get(room, ()):
        measures = importlib.import_module(f"{room}.{name}")
        yield f"{room}.{name}", _own_names(measures)


def _own_names(module: types.ModuleType) -> list[str]:
    """Public functions and classes that a module defines, in its order."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def homes() -> dict[str, str]:
    """Name that a package hands on -> its full name where it is written."""
    found: dict[str, str] = {}
    root = Path(pyhbt.__file__).parent
    for face in [*root.rglob("__init__.pyi"), *root.rglob("__init__.py")]:
        package = ".".join(("pyhbt", *face.relative_to(root).parts[:-1]))
        for node in ast.parse(face.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                source = f"{package}.{node.module}" if node.level else node.module
                if source.startswith("pyhbt"):
                    found |= {f"{package}.{name.name}": f"{source}.{name.name}" for name in node.names}
    return found


# pages of rooms


def write_pages(app: Sphinx) -> None:
    """Write the pages of the rooms below reference/rooms, those that changed, and remove those of rooms that went."""
    folder = Path(app.srcdir) / "reference" / "rooms"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"pyhbt": _top_page()} | {room.split(".")[1]: _room_page(room) for room in rooms()}
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def _top_page() -> str:
    """What ``pyhbt`` hands on, with the room that each name is explained in."""
    written = homes()
    lines = [
        _title("pyhbt"),
        inspect.getdoc(pyhbt) or "",
        "",
        _NOTE,
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    lines += ["   * - name", "     - room", "     - what it is"]
    for name in sorted(pyhbt.__all__, key=str.lower):
        if name == "__version__":
            lines += ["   * - ``pyhbt.__version__``", "     -", "     - The version, a text."]
            continue
        target = written[f"pyhbt.{name}"]
        room = target.split(".")[1]
        lines.append(f"   * - :obj:`pyhbt.{name} <{target}>`")
        lines.append(f"     - :doc:`{room}`")
        lines.append(f"     - {_summary(getattr(pyhbt, name))}")
    return "\n".join(lines) + "\n"


def _room_page(room: str) -> str:
    module = importlib.import_module(room)
    lines = [_title(room), inspect.getdoc(module) or "", "", _NOTE, f".. py:module:: {room}", ""]
    if room == "pyhbt.cli":
        lines += ["The commands and their options: :doc:`../command-line`.", ""]
    for part, names in parts(room):
        if part != room:
            lines += [_title(part, "-"), inspect.getdoc(importlib.import_module(part)) or "", ""]
            lines += [f".. py:module:: {part}", ""]
        for name in names:
            lines += _entry(part, name)
    lines += _modules(module)
    return "\n".join(lines) + "\n"


def _entry(module: str, name: str) -> list[str]:
    """The directive that documents one name."""
    value = getattr(importlib.import_module(module), name)
    full = f"{module}.{name}"
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        options = ["   :members:"]
        if hasattr(value, "_fields"):  # a named tuple, whose fields say nothing
            options.append(f"   :exclude-members: {', '.join(value._fields)}")
        return [f".. {kind}:: {full}", *options, ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {full}", ""]
    return _data(full, value)


def _data(full: str, value: Any) -> list[str]:
    """A constant or an alias of a type, with the text below it in the source."""
    home, _, name = homes().get(full, full).rpartition(".")
    said = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name), [])
    shown = value if isinstance(value, (str, int, float, tuple)) else None
    lines = [f".. py:data:: {full}"]
    if get_origin(value) is not None:
        lines.append(f"   :type: {str(value).replace('typing.', '').replace('~', '')}")
    elif shown is not None:
        lines.append(f"   :value: {shown!r}")
    elif isinstance(value, Mapping):
        said = said or ["", f"By name: {', '.join(f'``{key}``' for key in value)}."]
    return [*lines, "", *(f"   {line}" for line in said), ""]


def _modules(module: types.ModuleType) -> list[str]:
    """What each module of a room is for, by the first line of its text; nothing is imported."""
    if not hasattr(module, "__path__"):
        return []
    root = Path(module.__path__[0])
    lines = [_title("Modules", "-"), "What lies in the room, by the first line of each module:", ""]
    for path in sorted(root.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        inner = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix("__init__").strip(".")
        if inner and text:
            lines += [f"``{inner}``", f"   {_first_paragraph(text)}", ""]
    return lines


def _title(text: str, mark: str = "=") -> str:
    return f"{text}\n{mark * len(text)}\n"


def _summary(value: Any) -> str:
    return _first_paragraph(inspect.getdoc(value) or "")


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


# the page of commands


def fill_command_line(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the options of the commands at the end of reference/command-line."""
    if name == "reference/command-line":
        source[0] += "".join(_commands())


def _commands() -> Iterator[str]:
    from pyhbt import cli

    for registered in cli.app.registered_commands:
        run = registered.callback
        assert run is not None
        yield f"\n## pyhbt {run.__name__}\n\n{inspect.getdoc(run) or ''}\n\n"
        options = getattr(cli, f"{run.__name__.title()}Command", None)
        if options is None:
            yield from _arguments(run)
            continue
        known = options_of(options)
        for owner in dict.fromkeys(item.owner for item in known):
            if owner is not options:
                yield f"From `{owner.__module__}.{owner.__qualname__}`:\n\n"
            yield _list(item for item in known if item.owner is owner)
        yield "`--config FILE`: a YAML or JSON file of these options; what the command line says comes first.\n"


def _list(options: Iterator[Option]) -> str:
    lines: list[str] = []
    for item in options:
        words = item.default_in_words
        default = words if words == "required" else f"default: {words}"
        lines += [
            f"{_options(item)}",
            f": {_plain(item.about.help)}",
            f"  *{_type_in_words(item)}; {_plain(default)}*",
            "",
        ]
    return "\n".join(lines) + "\n"


def _options(item: Option) -> str:
    if item.about.positional:
        return f"`{item.name.upper()}`"
    flags = [f"--{name.replace('_', '-')}" for name in item.names]
    if item.flag:
        flags += [f"--no-{name.replace('_', '-')}" for name in item.names]
    return ", ".join(f"`{flag}`" for flag in flags)


def _type_in_words(item: Option) -> str:
    if item.choices:
        return " or ".join(f"`{choice}`" for choice in item.choices)
    if item.repeated:
        return "`NAME=VALUE`, many times"
    return _in_words(item.type)


def _in_words(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_in_words(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        return f"list: {_in_words(get_args(kind)[0])}, …"
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    words = {bool: "on or off", int: "whole number", float: "number", str: "text", Path: "path"}
    return words.get(kind) or typing.cast(str, getattr(kind, "__name__", str(kind))).lower()


def _arguments(run: Any) -> Iterator[str]:
    """The arguments of a command without options, as typer is told of them."""
    for parameter in inspect.signature(run, eval_str=True).parameters.values():
        about = get_args(parameter.annotation)[1]
        yield f"`{parameter.name.upper()}`: {about.help} Default: {parameter.default}.\n\n"


def _plain(text: str) -> str:
    """The text without meaning to Markdown."""
    return re.sub(r"([*_<\[\]])", r"\\\1", text)


# references to names by another of their names


def resolve_handed_on(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """A reference to ``pyhbt.search`` or ``pyhbt.data.pairs.load_pairs`` finds the entry in the room."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    domain, forward = env.get_domain("py"), homes()
    names = {target, forward.get(target, target)}
    names |= {name for name, home in forward.items() if home in names}
    names |= {name for name, home in forward.items() if home in names}
    for name in sorted(names - {target}):
        if name in domain.objects:
            role = node["reftype"]
            return domain.resolve_xref(env, node["refdoc"], app.builder, role, name, node, content)
    return None


# what autodoc reads


def shorten_defaults(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: Any, result: Any
) -> Any:
    """Defaults of options that are long as objects are shown in words."""
    if what != "class" or not dataclasses.is_dataclass(value) or not signature:
        return None
    if not any("option" in field.metadata for field in dataclasses.fields(value)):
        return None
    for item in options_of(typing.cast(type, value)):
        shown = repr(item.default)
        if len(shown) > 80:
            signature = signature.replace(shown, f"({item.default_in_words})")
    return signature, result


def skip_former_names(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Names that an attribute had before are read, but are no part of the reference."""
    former = isinstance(value, property) and (value.__doc__ or "").startswith("The name that ``")
    return True if former else None


class _Attributes:
    """Keeps napoleon from taking what comes before a colon in the text of an attribute for its type."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}

    def before(self, app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
        if what in ("attribute", "data", "property"):
            self._texts[name] = list(lines)

    def after(self, app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
        if what in ("attribute", "data", "property"):
            lines[:] = self._texts.pop(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    attributes = _Attributes()
    app.connect("autodoc-process-docstring", attributes.before, priority=400)  # napoleon has 500
    app.connect("autodoc-process-docstring", attributes.after, priority=600)
    app.connect("autodoc-process-signature", shorten_defaults)
    app.connect("autodoc-skip-member", skip_former_names)
    app.connect("builder-inited", write_pages)
    app.connect("source-read", fill_command_line)
    app.connect("missing-reference", resolve_handed_on)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
