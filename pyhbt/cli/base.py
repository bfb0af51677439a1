"""What commands begin with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyhbt.encoders import Encoder


def set_up(threads: int | None) -> None:
    """Threads as asked for; no progress bars of libraries between our own."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if threads is not None:
        torch.set_num_threads(threads)
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first rank speaks
        from pyhbt.cli.terminal import console

        console.quiet = True


def training_length(model: Encoder) -> int | None:
    """Tokens kept of a text in a training that does not say."""
    return None if model.training_length is None else min(model.training_length, model.max_length)
