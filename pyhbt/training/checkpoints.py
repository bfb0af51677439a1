"""Which checkpoints are whole. A checkpoint counts once its manifest is there, written last, and its files fit it.

The manifest lists every file of the folder with its size and SHA-256. A training that was killed, or whose disk was
full, leaves a folder without manifest; a damaged file does not fit. Resuming takes the latest whole checkpoint and
says what it passed over. Cost: one reading of the files (about a second a gigabyte).
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError

from pyhbt.seals import MANIFEST, fault

_OPTIMIZER = "optimizer.pt"

WRITE_ERRORS = (
    OSError,
    RuntimeError,
    SafetensorError,
)  # torch and safetensors have their own for a full disk

logger = logging.getLogger(__name__)


class CheckpointError(OSError):
    """A checkpoint could not be written, or none can be read; the message names the last good one."""


def check(checkpoint: Path) -> None:
    """Refuse a checkpoint that is not whole.

    Raises:
        CheckpointError: it is unfinished or damaged; says how.
    """
    wrong = fault(checkpoint)
    if wrong is not None:
        raise CheckpointError(f"{checkpoint}: {wrong}")


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, whole or not, the latest step first."""
    found = []
    for path in folder.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and path.is_dir():
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found, reverse=True)]


def to_resume(folder: Path) -> list[Path]:
    """The checkpoints of a folder from which a training is to go on, whole or not, the latest step first.

    Raises:
        FileNotFoundError: there is none.
    """
    found = checkpoints(folder)
    if not found:
        raise FileNotFoundError(f"{folder}: no checkpoint to resume from")
    return found


def last_whole(folder: Path) -> Path | None:
    """The latest whole checkpoint; a warning for every later one that is not."""
    passed: list[str] = []
    for path in checkpoints(folder):
        wrong = fault(path)
        if wrong is None:
            for warning in passed:
                logger.warning("%s; resuming from %s", warning, path.name)
            return path
        passed.append(f"{path}: {wrong}")
    for warning in passed:
        logger.warning("%s; no checkpoint before it is whole", warning)
    return None


def last_in_words(folder: Path) -> str:
    """The latest sealed checkpoint, for a message."""
    for path in checkpoints(folder):
        if (path / MANIFEST).is_file():
            return f"the last good checkpoint is {path.name}"
    return "there is no good checkpoint"


def resumable(checkpoint: Path) -> bool:
    """Whether the optimizer's state was saved too."""
    return (checkpoint / _OPTIMIZER).is_file()


def discard(checkpoint: Path) -> None:
    """Remove a checkpoint; the manifest goes first, so that half a folder never looks whole."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def keep_last(folder: Path, limit: int | None, best: str | None = None) -> None:
    """Discard the checkpoints sealed first until ``limit`` are left (None or 0: keep all), as the Trainer does.

    The last one and ``best``, a path, are kept, though they be more than ``limit``; those without a seal are not.
    """
    if not limit or limit < 0:
        return
    found = checkpoints(folder)
    sealed = [path for path in found if (path / MANIFEST).is_file()]
    sealed.sort(key=lambda path: (path / MANIFEST).stat().st_mtime_ns, reverse=True)
    first = [*sealed[:1], *(path for path in sealed[1:] if best and path.resolve() == Path(best).resolve())]
    others = [path for path in sealed if path not in first]
    keep = [*first, *others[: max(0, limit - len(first))]]
    for path in found:
        if path not in keep:
            discard(path)
