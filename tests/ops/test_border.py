"""The border of the operations: numbers, strides and memory of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import ExactIndex
from pyhbt.ops import SearchFilter, contrastive_loss, ranks, search

QUERIES = np.random.default_rng(0).standard_normal((3, 8), dtype=np.float32)
CORPUS = np.random.default_rng(1).standard_normal((20, 8), dtype=np.float32)


def test_positions_where_a_mask_was_meant() -> None:
    allowed = np.array([0, 1] * 10)
    with pytest.raises(ValueError, match="allowed: found position 0 twice, expected each once .*mask.*bool"):
        search(QUERIES, CORPUS, 3, filter=SearchFilter(allowed=allowed))


@pytest.mark.parametrize(
    "value", ["no", 1, None, np.array([1, 2]), torch.eye(2).to_sparse(), object(), []], ids=type
)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda value: search(QUERIES, CORPUS, 2, similarity=value), "similarity"),
        (lambda value: search(QUERIES, CORPUS, 2, screening=value), "screening"),
        (lambda value: contrastive_loss(QUERIES, CORPUS, reduction=value), "reduction"),
        (lambda value: contrastive_loss(QUERIES, CORPUS, symmetric=value), "symmetric"),
    ],
)
def test_options_of_another_type(call: Callable[[Any], Any], name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name}: found .*expected"):
        call(value)


@pytest.mark.parametrize("value", ["0.1", True, [0.1], 1j, torch.eye(1).to_sparse()], ids=repr)
def test_numbers_of_another_type(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^temperature: found .*expected"):
        contrastive_loss(QUERIES, CORPUS, temperature=value)
    with pytest.raises(TypeError, match=r"^margin: found .*expected a number"):
        contrastive_loss(QUERIES, CORPUS, margin=value)


def strided(rows: Any, kind: str) -> Any:
    """The same numbers in odd memory."""
    n, dim = rows.shape
    if kind == "one row, odd stride":
        buffer = np.zeros(n * 100 + 64, dtype=np.uint8)
        view = np.ndarray(rows.shape, rows.dtype, buffer, strides=(dim * rows.itemsize + 1, rows.itemsize))
        view[:] = rows
        return view
    if kind == "unaligned":
        view = np.frombuffer(bytearray(rows.nbytes + 1), rows.dtype, rows.size, offset=1).reshape(rows.shape)
        view[:] = rows
        return view
    if kind == "backwards":
        return rows[::-1, ::-1].copy()[::-1, ::-1]
    if kind == "columns":
        return np.asfortranarray(rows)
    if kind == "slices":
        wide = np.zeros((n * 2, dim * 3), rows.dtype)
        wide[::2, ::3] = rows
        return wide[::2, ::3]
    return np.broadcast_to(rows[:1], rows.shape)


KINDS = ["one row, odd stride", "unaligned", "backwards", "columns", "slices", "zero stride"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rows", [0, 1, 2, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_strides(kind: str, rows: int, dtype: Any) -> None:
    odd = strided(CORPUS[:rows].astype(dtype), kind)
    plain = odd.copy()
    for given in (odd, torch.from_numpy(plain).expand(rows, 8)):
        for found, expected in zip(search(QUERIES, given, 4), search(QUERIES, plain, 4), strict=True):
            np.testing.assert_array_equal(found, expected)
    index, expected_index = ExactIndex(odd).search(odd, 2), ExactIndex(plain).search(plain, 2)
    np.testing.assert_array_equal(index[1], expected_index[1])
    targets = np.zeros((rows, 1), dtype=np.int64)
    if rows:
        ones = strided(targets, "one row, odd stride") if rows == 1 else targets
        np.testing.assert_array_equal(ranks(odd, odd, ones), ranks(plain, plain, targets))
    np.testing.assert_array_equal(contrastive_loss(odd, odd), contrastive_loss(plain, plain))


@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 1)])
def test_odd_strides_of_tensors(shape: tuple[int, int]) -> None:
    memory = torch.randn(400)
    for strides in ((7, 3), (0, 1), (1, 0), (0, 0), (13, 1)):
        odd = memory.as_strided(shape, strides)
        plain = odd.clone(memory_format=torch.contiguous_format)
        for found, expected in zip(search(odd, odd, 1), search(plain, plain, 1), strict=True):
            assert torch.equal(found, expected)
        assert torch.equal(contrastive_loss(odd, odd), contrastive_loss(plain, plain))
        inputs = odd.detach().requires_grad_(), plain.detach().requires_grad_()
        for x in inputs:
            contrastive_loss(x, x).backward()
        assert inputs[0].grad is not None
        assert inputs[1].grad is not None
        assert torch.equal(inputs[0].grad, inputs[1].grad)


@pytest.mark.parametrize(
    "call", [lambda x: search(x, x, 1), lambda x: contrastive_loss(x, x), lambda x: ExactIndex(x)]
)
def test_sparse_tensors_are_refused(call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="found a tensor of layout torch.sparse_coo, expected torch.strided"):
        call(torch.eye(3).to_sparse())


VECTORS = """
import sys
import numpy as np
import torch
from pyhbt import ExactIndex
folder, kind = sys.argv[1:]
corpus = np.arange(24, dtype=np.float32).reshape(6, 4)
np.save(folder + "/c.npy", corpus)
if kind == "opened":
    index = ExactIndex(corpus, path=folder + "/index")
elif kind == "bfloat16":
    half = torch.from_numpy(corpus).bfloat16()
    ExactIndex(half).save(folder + "/index")
    index = ExactIndex.open(folder + "/index")
else:
    given = np.load(folder + "/c.npy", mmap_mode="r") if kind == "mapped" else corpus
    given.flags.writeable = False
    index = ExactIndex(iter([given]) if kind == "block" else given)
try:
    index.vectors[2] = 0
except ValueError as error:
    print("refused", error)
if kind == "opened":
    assert np.array_equal(ExactIndex.open(folder + "/index", verify=True).vectors, corpus)
index.add(index.vectors)
assert isinstance(index.vectors, torch.Tensor)
assert len(index) == 12
assert np.array_equal(corpus, np.arange(24).reshape(6, 4))
assert np.array_equal(np.load(folder + "/c.npy"), corpus)
"""


@pytest.mark.parametrize("kind", ["opened", "bfloat16", "mapped", "read-only", "block"])
def test_writing_to_the_vectors_of_an_index(kind: str, tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", VECTORS, str(tmp_path), kind], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused") == (kind in ("opened", "mapped", "read-only"))


FORKED = """
import os, sys
import torch
from pyhbt import ExactIndex
from pyhbt.ops import contrastive_loss, ranks, search

torch.set_num_threads(2)
x = torch.randn(3000, 64)
index = ExactIndex(x)
truth = search(x, x, 3)[1]

class Searches(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, row):
        torch.set_num_threads(2)
        return index.search(x[row : row + 1], 3)[1][0]

if sys.argv[1] == "loader":
    loader = torch.utils.data.DataLoader(Searches(), num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), truth[:4])
else:
    child = os.fork()
    if child == 0:
        assert torch.equal(search(x, x, 3)[1], truth)
        assert torch.equal(index.search(x, 3)[1], truth)
        assert (ranks(x, x, truth[:, 0]) == 1).all()
        contrastive_loss(x, x)
        ExactIndex(x)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert torch.equal(search(x, x, 3)[1], truth)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("how", ["fork", "loader"])
def test_a_forked_process_does_not_hang(how: str, tmp_path: Any) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr


INTERRUPTED = """
import os, signal, sys, threading, time
import torch
from pyhbt.ops import contrastive_loss

torch.set_num_threads(2)
n, reduction, symmetric = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
x = torch.randn(n, 256)
q, p = x.clone().requires_grad_(), x.flip(0).requires_grad_()
small = contrastive_loss(x[:50], x[:50])

def interrupt():
    time.sleep(1)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

sent = []
threading.Thread(target=interrupt).start()
try:
    contrastive_loss(q, p, reduction=reduction, symmetric=symmetric).sum().backward()
    raise SystemExit("not interrupted")
except KeyboardInterrupt:
    late = time.monotonic() - sent[0]
assert late < 1.5, late
assert torch.equal(contrastive_loss(x[:50], x[:50]), small)
"""


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_large_loss_answers_ctrl_c(symmetric: bool, tmp_path: Any) -> None:
    command = [sys.executable, "-c", INTERRUPTED, "60000", "mean", str(symmetric)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
