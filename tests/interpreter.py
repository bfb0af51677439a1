"""A new Python interpreter, for what only a fresh process shows: environment variables, imports, a kill."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any


def command(code: str, *arguments: object) -> list[str]:
    """The command line that runs ``code``; start it in :data:`FOLDER`."""
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


FOLDER = sys.prefix
"""Where no Python source lies: in the source tree ``python -c`` would import ``pyhbt`` without its native module."""


def run_python(
    code: str, *arguments: object, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[Any]:
    """Run ``code`` with ``variables`` added to the environment; output is captured as text."""
    return subprocess.run(
        command(code, *arguments),
        cwd=FOLDER,
        env=os.environ | variables,
        check=check,
        capture_output=True,
        text=True,
    )
