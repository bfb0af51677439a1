"""Fixtures for real data and real models, which are never part of the repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest

hypothesis.settings.register_profile("pyhbt", deadline=None)  # a first call may load torch
hypothesis.settings.load_profile("pyhbt")

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is loaded: processors are divided among the workers
    _threads = (psutil.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _threads)))


@pytest.hookimpl(optionalhook=True)  # there is none without -n
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay together: they share what a module's fixtures make."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


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
