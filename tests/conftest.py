"""Fixtures for real data and real models, which are never part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{what}: set {variable} to their folder to run this test")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"{what}: {variable}={value} is not a folder")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with xquad-r/, afriqa/, ... ; environment variable PYHBT_DATA."""
    return _folder("PYHBT_DATA", "real data sets")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder with Hugging Face checkpoints; environment variable PYHBT_MODELS."""
    return _folder("PYHBT_MODELS", "real encoders")
