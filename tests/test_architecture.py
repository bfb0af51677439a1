"""The house: rooms in one order, imports that point down, no circle, a test file for every module, one version."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pyhbt

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyhbt"

# From the top down: what stands in a room may import from its own room and from any below it.
ORDER = (
    "cli",
    "integrations",
    "study",
    "mining",
    "training",
    "evaluation",
    "retrieval",
    "encoders",
    "data",
    "options",
    "ops",
    "seals",
    "files",
    "reading",
    "arguments",
    "visible",
)
FLOOR = {room: floor for floor, room in enumerate(reversed(ORDER))}
MODULES = {
    ".".join(("pyhbt", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def offered() -> dict[str, str]:
    """Name that a room's stub hands on -> the module that has it."""
    found = {}
    for stub in PACKAGE.rglob("__init__.pyi"):
        package = ".".join(("pyhbt", *stub.relative_to(PACKAGE).parts[:-1]))
        for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{package}.{alias.name}": f"{package}.{node.module}" for alias in node.names}
    return found


HOME = offered()


def imports(module: str) -> Iterator[str]:
    """The modules of the package that a module imports anywhere, for its types too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == "pyhbt":
                while name not in MODULES:  # a name in a module, or one that a room hands on
                    name = HOME.get(name) or name.rsplit(".", 1)[0]
                yield name


def room(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


GRAPH = {module: {name for name in imports(module) if name != module} for module in MODULES}


def test_every_room_has_its_floor() -> None:
    assert {room(module) for module in MODULES} - {""} == set(ORDER)
    assert len(ORDER) <= 16
    assert sum(path.parent == PACKAGE for path in MODULES.values()) - 1 <= 6, "modules outside rooms"


def test_imports_point_down() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in GRAPH.items()
        for name in names
        if room(module) and room(name) and FLOOR[room(name)] > FLOOR[room(module)]
    ]
    assert wrong == []
    between = {(room(module), room(name)) for module, names in GRAPH.items() for name in names}
    assert len({(above, below) for above, below in between if above and below and above != below}) <= 70


def test_no_circle() -> None:
    assert set(TopologicalSorter(GRAPH).static_order()) == MODULES.keys()


def test_rooms_say_what_they_are_for_and_name_what_they_offer() -> None:
    for name in ORDER:
        face = PACKAGE / name / "__init__.py"
        if face.is_file():
            assert ast.get_docstring(ast.parse(face.read_text(encoding="utf-8"))), name


def test_every_module_has_a_test_file_by_its_name() -> None:
    missing = [
        str(file)
        for module, path in MODULES.items()
        if path.stem not in ("__init__", "__main__")
        if not (ROOT / (file := _test_file(path))).is_file()
    ]
    assert missing == []


def _test_file(module: Path) -> Path:
    """``pyhbt/room/_name.py`` -> ``tests/room/test_name.py``."""
    return Path("tests", *module.relative_to(PACKAGE).parts[:-1], f"test_{module.stem.removeprefix('_')}.py")


def test_only_ops_reaches_the_native_module() -> None:
    users = {room(module) for module in MODULES if "_core" in MODULES[module].read_text(encoding="utf-8")}
    assert users <= {"ops"}


def test_one_version() -> None:
    from pyhbt import _core

    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert pyhbt.__version__ == declared[1] == _core.build_info()["version"]
    assert f"## {declared[1]}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", sorted(pyhbt.__all__))
def test_public_names_exist(name: str) -> None:
    assert getattr(pyhbt, name) is not None


def test_there_is_no_other_public_name() -> None:
    assert not hasattr(pyhbt, "nonsense")
    assert set(pyhbt.__all__) - {"__version__"} <= set(dir(pyhbt))
