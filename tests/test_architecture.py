"""Imports point down only; the version has one value."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pyhbt

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pyhbt"

# From the top; a module may import from its own layer's package and from any layer below.
LAYERS = (
    {"cli"},
    {"terminal", "doctor"},
    {"searching", "mining", "integrations"},
    {"study", "report", "scoring", "plots", "findings"},
    {"training", "evaluation", "results", "statistics"},
    {"trainer", "centring", "sharded", "arms"},
    {"objectives", "drawing", "gradient_cache", "adaptive"},
    {"collate", "index", "similar", "candidates"},
    {"encoders", "sampling", "ops", "augmentation"},
    {"model_card"},
    {"vocabulary", "bias"},
    {"schedules", "metrics", "data", "checkpoints"},
    {"files", "_core", "packing", "distributed", "code_switching", "tally"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pyhbt":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("pyhbt.")}
    return found & RANK.keys() | {name for name in found if (PACKAGE / f"{name}.py").is_file()}


def test_imports_point_down() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if module == "__init__":
            continue
        assert module in RANK, f"{module} is in no layer"
        for imported in imports(path) - {module}:
            same_view = {module, imported} <= {"report", "plots", "findings"} or {module, imported} <= {
                "results",
                "statistics",
            }
            if RANK[imported] <= RANK[module] and not same_view:
                wrong.append(f"{path.relative_to(ROOT)} imports {imported}")
    assert wrong == []


def test_only_ops_reaches_the_native_module() -> None:
    users = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py") if "_core" in imports(path)}
    assert users <= {"ops"}


def test_one_version() -> None:
    from pyhbt import _core

    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert pyhbt.__version__ == declared[1] == _core.build_info()["version"]
    assert f"## {declared[1]}" in (ROOT / "CHANGELOG.md").read_text()


def test_public_names_exist() -> None:
    for name in pyhbt.__all__:
        assert getattr(pyhbt, name) is not None
    assert set(pyhbt.__all__) <= set(dir(pyhbt))
    assert not hasattr(pyhbt, "nonsense")
