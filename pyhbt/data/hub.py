"""Rows of files on the Hugging Face hub or in a local folder of the same layout, streamed.

Files are named one by one (no loading scripts, which ``datasets`` 4 gave up) and read as a stream, those of the hub
through ``datasets``: nothing is cached on disk, and a reader that has what it needs stops the transfer.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pyhbt.data.records import read_lines
from pyhbt.data.rows import read_parquet


class HubError(OSError):
    """The hub refuses, does not have it, or cannot be reached."""


_CLIENTS = {"httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp", "huggingface_hub"}


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """In the block, whatever the hub's client and its transport raise becomes one kind of error.

    Raises:
        HubError: ``what``, and the reason.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (ConnectionError, TimeoutError)) and not any(
            cls.__module__.split(".")[0] in _CLIENTS for cls in type(error).__mro__
        ):
            raise
        said = " ".join(str(error).split())[:300]
        raise HubError(f"{what} ({type(error).__name__}: {said})") from error


def is_hub_name(name: str) -> bool:
    """Whether the hub could have a repository of that name: ``name`` or ``owner/name``; nothing is asked of it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # which it hands on

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def locate(source: str) -> str:
    """The root that files of ``source`` are named under: a local folder, or ``hf://datasets/`` and a hub id.

    Raises:
        FileNotFoundError: neither a folder nor an id of the form ``owner/name``.
    """
    if Path(source).is_dir():
        return str(Path(source).absolute())
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not source.startswith("."):
        return f"hf://datasets/{source}"
    raise FileNotFoundError(f"source: {source!r} is neither a folder nor a hub id (owner/name)")


def is_local(root: str) -> bool:
    """Whether a root of :func:`locate`, or a file below it, is on this machine."""
    return not root.startswith("hf://")


def stream_rows(
    form: Literal["text", "parquet"], files: Sequence[str]
) -> Iterator[tuple[str, dict[str, object]]]:
    """``(where, row)`` of every row of ``files`` (paths or ``hf://`` urls, globs allowed), in order.

    The rows of ``text`` are lines, in a column of that name. Local files are read without any request, and without a
    folder to write to.

    Raises:
        FileNotFoundError: a file is missing or a glob matches nothing.
        ValueError: a file cannot be read in that form.
    """
    for file in (found for pattern in files for found in _matches(pattern)):
        if not is_local(file):
            yield from _remote_rows(form, file)
        elif form == "parquet":
            yield from ((where, dict(row)) for where, row in read_parquet(Path(file)))
        else:
            for where, line in read_lines(file, keep_blank=True):
                yield where, {"text": line}


def _remote_rows(form: Literal["text", "parquet"], file: str) -> Iterator[tuple[str, dict[str, object]]]:
    with hub_errors(f"{file}: cannot be read from the hub"):
        yield from _streamed(form, file)


def _streamed(form: Literal["text", "parquet"], file: str) -> Iterator[tuple[str, dict[str, object]]]:
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    # Not load_dataset, which asks the hub to count a download.
    read = {"text": Dataset.from_text, "parquet": Dataset.from_parquet}[form]
    number = 0
    try:
        for number, row in enumerate(read(file, streaming=True), start=1):
            yield f"{file}:{number}: ", dict(row)
    except (DatasetGenerationError, ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = error.__cause__ or error
        raise ValueError(f"{file}: unreadable as {form} after row {number}: {reason}") from error


def _matches(pattern: str) -> list[str]:
    """The files that a path, an ``hf://`` url or a glob (``*`` in the last part) stands for, sorted."""
    if not is_local(pattern):
        from huggingface_hub import HfFileSystem

        with hub_errors(f"{pattern}: cannot be read from the hub"):
            found = [f"hf://{name}" for name in sorted(HfFileSystem().glob(pattern))]
    elif "*" in pattern:
        found = sorted(str(path) for path in Path(pattern).parent.glob(Path(pattern).name))
    else:
        found = [pattern] if Path(pattern).is_file() else []
    if not found:
        raise FileNotFoundError(f"{pattern}: no such file")
    return found


def stream_lines(files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """``(where, line)`` of every line of text files that is not blank; gzip is unpacked on the way."""
    for where, row in stream_rows("text", files):
        line = str(row["text"]).removeprefix("\ufeff")
        if line.strip():
            yield where, line
