"""Files that may be damaged: values, or one error that names it; nothing is unpickled, no room made for nothing."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pyhbt.reading import map_array, naming, read_arrays, read_json, read_shapes, read_tensors

READERS: dict[str, Callable[[Path], Any]] = {
    "json": read_json,
    "safetensors": read_tensors,
    "shapes": read_shapes,
    "npy": map_array,
    "npz": read_arrays,
}


def npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 100_000, b"{}" * 3, b"\x93NUMPY\x01\0v\0{", b"PK\x03\x04x"]
)
def test_damage_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: damaged, expected .*[(]") as error:
        READERS[name](path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_missing_file(read: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path / "none")):
        read(tmp_path / "none")


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_as_they_were(order: Any, tmp_path: Path) -> None:
    one = np.arange(12, dtype=np.float64).reshape(3, 4).copy(order)
    np.savez_compressed(tmp_path / "a.npz", one=one, none=np.empty((0, 3)), words=np.array(["a", "bé"]))
    found = read_arrays(tmp_path / "a.npz")
    assert sorted(found) == ["none", "one", "words"]
    np.testing.assert_array_equal(found["one"], one)
    assert found["words"].tolist() == ["a", "bé"]
    assert found["none"].shape == (0, 3)
    np.save(tmp_path / "a.npy", one)
    np.testing.assert_array_equal(map_array(tmp_path / "a.npy"), one)


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 31, 1 << 31), (-1,), (1 << 62, 4)])
def test_no_room_is_made_for_what_is_not_there(shape: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy_header(shape) + b"1234")
    with pytest.raises(ValueError, match="a.npy: damaged"):
        map_array(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy_header(shape) + b"1234")
    with pytest.raises(ValueError, match="a.npz: damaged"):
        read_arrays(tmp_path / "a.npz")


def test_an_archive_that_says_it_holds_more_than_it_can(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = npy_header((1 << 40,), "|u1")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header + b"1234")
        member = archive.getinfo("a.npy")
        member.file_size = len(header) + (1 << 40)
    with pytest.raises(ValueError, match="a.npz: damaged"):
        read_arrays(path)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_nothing_is_unpickled(kind: str, tmp_path: Path) -> None:
    array = np.array([Bomb(tmp_path / "gone off")], dtype=object)
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, array=array)
    with pytest.raises(ValueError, match=f"{path}: damaged"):
        READERS[kind](path)
    path.write_bytes(pickle.dumps(array))
    with pytest.raises(ValueError, match=f"{path}: damaged"):
        READERS[kind](path)
    assert not (tmp_path / "gone off").exists()


def test_tensors_and_their_shapes(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, 3)}, tmp_path / "w.safetensors")
    assert read_shapes(tmp_path / "w.safetensors") == {"a": (2, 3)}
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")["a"], torch.ones(2, 3))


def test_an_error_that_names_the_file_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"^{tmp_path} said$"), naming(tmp_path, "x"):
        raise TypeError(f"{tmp_path} said")
    for error in (KeyError("y"), KeyError(str(tmp_path)), ValueError("y\nz")):
        with pytest.raises(ValueError, match="damaged, expected x [(]"), naming(tmp_path, "x"):
            raise error
