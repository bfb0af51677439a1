"""Rows and lines of files on a hub or in a folder: where they are, in which order, and what cannot be read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from pyhbt.data.hub import HubError, hub_errors, is_hub_name, is_local, locate, stream_lines, stream_rows
from tests.data.written import write


def test_sources_are_folders_or_hub_ids(tmp_path: Path) -> None:
    assert is_local(locate(str(tmp_path)))
    assert locate("owner/name") == "hf://datasets/owner/name"
    assert not is_local(locate("owner/name"))
    for bad in ("nothing", "./owner/name", "a/b/c", "../name"):
        with pytest.raises(FileNotFoundError, match="is neither a folder nor a hub id"):
            locate(bad)


def test_a_stream_may_be_left_early_and_skips_blank_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "\ufeffone\n\n two\u2028still two\nthree\n")
    lines = stream_lines([str(tmp_path / "a.txt")])
    assert [next(lines), next(lines)] == [
        (f"{tmp_path}/a.txt:1: ", "one"),
        (f"{tmp_path}/a.txt:3: ", " two\u2028still two"),
    ]


def test_files_come_in_order_and_gzip_is_unpacked(tmp_path: Path) -> None:
    for name, text in (
        ("b.txt", "third\n"),
        ("a.txt", "first\nsecond"),
        ("other", "not read\n"),
        ("odd [name]", "fifth\n"),
    ):
        write(tmp_path / name, text)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"vierte\n"))
    names = [f"{tmp_path}/*.txt", f"{tmp_path}/packed.txt.gz", f"{tmp_path}/odd [name]"]
    found = list(stream_lines(names))
    assert [line for _, line in found] == ["first", "second", "third", "vierte", "fifth"]
    assert found[1][0] == f"{tmp_path}/a.txt:2: "


def test_rows_of_parquet(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    rows = [{"n": number, "list": [{"text": "x"}] * number} for number in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    file = f"{tmp_path}/a.parquet"
    assert list(stream_rows("parquet", [file])) == [(f"{file}:{n + 1}: ", row) for n, row in enumerate(rows)]


def test_what_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    for pattern in (f"{tmp_path}/a.txt", f"{tmp_path}/*.txt"):
        with pytest.raises(FileNotFoundError, match="txt: no such file"):
            list(stream_lines([pattern]))
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: unreadable as parquet after row 0"):
        list(stream_rows("parquet", [f"{tmp_path}/a.parquet"]))
    (tmp_path / "a.txt").write_bytes(b"one\n\xff\n")
    with pytest.raises(ValueError, match=r"a\.txt:2: not UTF-8"):
        list(stream_lines([f"{tmp_path}/a.txt"]))


class UnreachedError(Exception):
    """As a client of the network has it."""

    __module__ = "httpx"


@pytest.mark.parametrize(
    "error",
    [
        UnreachedError("no name\nhere"),
        type("Derived", (UnreachedError,), {})("late"),
        ConnectionResetError("reset"),
        TimeoutError("slow"),
        OfflineModeIsEnabled("offline"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_network_raises_is_one_error_of_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def glob(*_: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.HfFileSystem, "glob", glob)
    with pytest.raises(HubError, match="^hf://datasets/o/n/f: cannot be read from the hub") as caught:
        list(stream_rows("text", ["hf://datasets/o/n/f"]))
    assert type(error).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bugs_are_not_the_hub() -> None:
    with pytest.raises(KeyError), hub_errors("x"):
        raise KeyError("ours")


def test_names_of_the_hub() -> None:
    assert all(map(is_hub_name, ("name", "owner/name", "O-w.n_er/na.me-1")))
    for name in ("", "a b", "a/b/c", "/a", "a/", "./a", "a--b", "a:b", "é/x", "a.git", "x" * 97, "\x1b"):
        assert not is_hub_name(name), name
