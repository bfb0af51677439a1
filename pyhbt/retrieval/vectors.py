"""The job of ``pyhbt encode``: a file of texts in, a file of vectors out; and the reader of such files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyhbt.data.texts import read_texts
from pyhbt.encoders import EncoderLike, TextKind, as_encoder
from pyhbt.files import check_file_target, write_atomically
from pyhbt.reading import map_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encode_file(
    encoder: EncoderLike,
    texts: str | Path,
    out: str | Path,
    *,
    kind: TextKind = "passage",
    field: str = "text",
    language: str | None = None,
    batch_size: int | None = None,
) -> tuple[int, int]:
    """Encode the lines of a text file, or one field of a JSONL file, into a .npy file; returns its shape.

    Folders above ``out`` are made.

    Raises:
        OSError: ``texts`` cannot be read, or ``out`` cannot be written; before anything is encoded.
        ValueError: a line that is no JSON object with that field; names file, line and field. Or ``out`` is not .npy.
    """
    out, encoder = check_file_target("out", out, ".npy"), as_encoder(encoder)
    strings = read_texts(texts, field)
    vectors = encoder.encode(strings, kind, language=language, batch_size=batch_size, progress=True).numpy()
    with write_atomically(out) as temporary, temporary.open("wb") as target:
        np.save(target, vectors)
    return vectors.shape[0], vectors.shape[1]


def map_vectors(path: Path) -> NDArray[Any]:
    """The vectors (rows, dim) of an .npy file, memory-mapped and read-only.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or holds another than a matrix of float32, float16 or int8.
    """
    vectors = map_array(path)
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16, np.int8):
        raise ValueError(
            f"{path}: found {vectors.dtype} of shape {vectors.shape}, expected float32, float16 or int8 (rows, dim)"
        )
    return vectors
