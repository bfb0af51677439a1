"""Fixtures of the operations' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def restore_threads() -> Iterator[None]:
    """The number of torch's threads is the former one afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
