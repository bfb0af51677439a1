"""Nothing heavy is imported before it is used: what a fresh interpreter has loaded after each entry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.interpreter import run_python

HEAVY = (
    "transformers",
    "datasets",
    "babel",
    "matplotlib",
    "typer",
    "sentence_transformers",
    "scipy",
    "jinja2",
)


def loaded(code: str, *arguments: object) -> list[str]:
    """The heavy modules that ``code`` has loaded at its end."""
    done = run_python(
        f"import sys\n{code}\nprint(*[name for name in {HEAVY} if name in sys.modules])", *arguments
    )
    return str(done.stdout).splitlines()[-1].split()


@pytest.mark.parametrize("name", ["contrastive_loss", "search", "ranks", "ExactIndex", "SearchFilter", "knn"])
def test_operations_import_torch_and_numpy(name: str) -> None:
    assert loaded(f"import pyhbt; pyhbt.{name}") == []


def test_the_package_imports_nothing() -> None:
    assert loaded("import pyhbt") == []
    assert loaded("import pyhbt.data.registry, pyhbt.study.arms, pyhbt.evaluation.names") == []


def test_search_of_vectors_on_the_command_line(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(4, dtype=np.float32))
    code = """
from pyhbt.cli import main
sys.argv = ["pyhbt", "search", sys.argv[1] + "/v.npy", sys.argv[1] + "/v.npy", "--out", sys.argv[1] + "/run"]
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
"""
    assert loaded(code, tmp_path) == ["typer"]  # the command line itself
    assert (tmp_path / "run").is_file()


def test_local_pairs_need_no_reader_of_the_hub(tmp_path: Path) -> None:
    row = '{"query": "q", "passage": "p", "query_lang": "en", "passage_lang": "en"}\n'
    (tmp_path / "pairs.jsonl").write_text(row)
    assert loaded("import pyhbt.data; pyhbt.data.load_pairs(sys.argv[1])", tmp_path / "pairs.jsonl") == []


def test_every_public_name_is_found_lazily() -> None:
    found = run_python(
        "import pyhbt; print(len(pyhbt.__all__), 'torch' in __import__('sys').modules)"
    ).stdout.split()
    assert int(found[0]) > 20
    assert found[1] == "False"
