"""The job of ``pyhbt encode``: a file of texts in, a file of vectors out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pyhbt.encoders import Encoder, TextKind
from pyhbt.files import write_atomically


def encode_file(
    encoder: Encoder,
    texts: Path,
    out: Path,
    *,
    kind: TextKind = "passage",
    field: str = "text",
    language: str | None = None,
    batch_size: int | None = None,
) -> tuple[int, int]:
    """Encode the lines of a text file, or one field of a JSONL file, into a .npy file; returns its shape.

    Raises:
        ValueError: a line that is no JSON object with that field; names file, line and field.
    """
    strings = _read_texts(texts, field)
    vectors = encoder.encode(strings, kind, language=language, batch_size=batch_size, progress=True).numpy()
    with write_atomically(out) as temporary, temporary.open("wb") as target:
        np.save(target, vectors)
    return vectors.shape[0], vectors.shape[1]


def _read_texts(path: Path, field: str) -> list[str]:
    with path.open(encoding="utf-8") as stream:  # str.splitlines would split at U+2028 too
        lines = [line.removesuffix("\n") for line in stream]
    if path.suffix != ".jsonl":
        return lines
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            text = json.loads(line)[field]
        except (json.JSONDecodeError, KeyError, TypeError):
            text = None
        if not isinstance(text, str):
            raise ValueError(f"{path}:{number}: {field}: expected a JSON object with this text field")
        texts.append(text)
    return texts
