"""How an index comes to be: codes of an array that stays where it is, of blocks kept in memory, or in files."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from pyhbt.ops.codes import allocate, encode_into, mean_of_sample
from pyhbt.retrieval.index import files
from pyhbt.retrieval.index.names import Name, check_count
from pyhbt.retrieval.index.sources import BLOCK_ROWS, Source, blocks
from pyhbt.retrieval.index.storage import ArrayFiles, InMemory, Parts, encode_block


def check_block(block: torch.Tensor, parts: Parts) -> None:
    """Refuse a block that does not go on what there is.

    Raises:
        ValueError: another dim.
        TypeError: another dtype.
    """
    dim, dtype = parts.vectors.shape[1], parts.vectors.dtype
    if block.shape[1] != dim:
        raise ValueError(f"corpus: found dim {block.shape[1]}, expected {dim} (the dim of the index)")
    if block.dtype != dtype:
        raise TypeError(f"corpus: found dtype {block.dtype}, expected {dtype} (the dtype of the index)")


def refer_to(vectors: torch.Tensor, *, cosine: bool, progress: bool) -> Parts:
    """Codes of a matrix, which is not copied."""
    codes = allocate(len(vectors), mean_of_sample(vectors, cosine=cosine))
    with tqdm(total=len(vectors), desc="indexing", unit="passages", disable=not progress) as bar:
        step = BLOCK_ROWS if progress else max(1, len(vectors))
        for start in range(0, len(vectors), step):
            stop = min(len(vectors), start + step)
            encode_into(codes.rows(start, stop), vectors[start:stop], cosine=cosine, first_row=start)
            bar.update(stop - start)
    return Parts(vectors, codes)


def read_blocks(corpus: Source, *, cosine: bool, progress: bool) -> Parts:
    """Blocks, copied into memory with their codes.

    Raises:
        ValueError: no block, or one of another dim.
        TypeError: one of another dtype.
    """
    memory, parts = None, None
    with tqdm(desc="indexing", unit="passages", disable=not progress) as bar:
        for block in blocks(corpus):
            if memory is None or parts is None:
                parts = Parts(block.clone(), encode_block(block, None, cosine=cosine, first_row=0))
                memory = InMemory(parts, cosine=cosine)
            else:
                check_block(block, parts)
                memory.append(block)
            bar.update(len(block))
    if memory is None:
        raise ValueError("corpus: found no block, expected at least one")
    return memory.parts()


def build_files(
    corpus: Source, path: Path, ids: list[Name] | None, *, similarity: str, progress: bool
) -> Parts:
    """Blocks, written to a folder with their codes and mapped from there.

    Raises:
        ValueError: no block, one of another dim, or another number of ids than of passages.
        TypeError: one of another dtype.
    """
    parts, centre, count, cosine = None, None, 0, similarity == "cosine"
    with (
        files.new_folder(path) as folder,
        ArrayFiles(folder) as arrays,
        tqdm(desc="indexing", unit="passages", disable=not progress) as bar,
    ):
        for block in blocks(corpus):
            if parts is not None:
                check_block(block, parts)
            codes = encode_block(block, centre, cosine=cosine, first_row=count)
            parts = Parts(block, codes)
            centre = codes.centre if count + len(block) else None
            arrays.append_parts(parts)
            count += len(block)
            bar.update(len(block))
        if parts is None:
            raise ValueError("corpus: found no block, expected at least one")
        check_count(ids, count)
        files.write_rest(
            arrays,
            folder,
            passages=count,
            dtype=parts.vectors.dtype,
            similarity=similarity,
            codes=parts.codes,
            ids=ids,
        )
    return files.read(path, verify=False).parts
