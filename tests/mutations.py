"""Damage to files: what broken disks, cut downloads and wrong editors do, by a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import TypeAlias

Mutation: TypeAlias = Callable[[bytes, random.Random], bytes]


def _place(content: bytes, rng: random.Random) -> int:
    return rng.randrange(len(content) + 1)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def empty(content: bytes, rng: random.Random) -> bytes:
    return b""


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_early(content: bytes, rng: random.Random) -> bytes:
    """In the first bytes, where headers are."""
    return flip(content[:128], rng) + content[128:]


def zeros(content: bytes, rng: random.Random) -> bytes:
    start, size = _place(content, rng), rng.choice([1, 16, 512])
    return content[:start] + bytes(min(size, len(content) - start)) + content[start + size :]


def leave_out(content: bytes, rng: random.Random) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + rng.choice([1, 2, 10, 100]) :]


def repeat(content: bytes, rng: random.Random) -> bytes:
    start, size = _place(content, rng), rng.choice([1, 10, 100, 1000])
    return content[: start + size] + content[start:]


def insert(content: bytes, rng: random.Random) -> bytes:
    start = _place(content, rng)
    pieces = [
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\n\n",
        b'"',
        b"{",
        b"]",
        b",",
        b"\t",
        b"NaN",
        b"null",
    ]
    pieces += [
        b"-1",
        b"1e999",
        b"9" * 30,
        b"9" * 5000,
        b"\\ud800",
        "é".encode("latin-1"),
        bytes(rng.randbytes(9)),
    ]
    return content[:start] + rng.choice(pieces) + content[start:]


def swap_numbers(content: bytes, rng: random.Random) -> bytes:
    """A decimal number becomes another one."""
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    if not places:
        return flip(content, rng)
    place = rng.choice(places)
    other = rng.choice(
        [
            b"-7",
            b"0",
            b"1e400",
            b"NaN",
            b"99999999999999999999",
            b"0.5",
            b"true",
            b"[1]",
            b'"x"',
            b"2147483648",
        ]
    )
    return content[:place] + other + content[place + 1 :]


def swap_sizes(content: bytes, rng: random.Random) -> bytes:
    """Eight bytes become a large size."""
    start = _place(content[:256] if rng.random() < 0.5 else content, rng)
    size = struct.pack("<Q", rng.choice([2**31, 2**40, 2**62, 2**63, 2**64 - 1]))
    return content[:start] + size + content[start + 8 :]


def nest(content: bytes, rng: random.Random) -> bytes:
    """Brackets deeper than any parser recurses."""
    start = _place(content, rng) if rng.random() < 0.5 else 0
    return content[:start] + rng.choice([b"[", b'{"a":']) * 200_000 + content[start:]


def another_kind(content: bytes, rng: random.Random) -> bytes:
    kinds = [
        b"PK\x03\x04",
        b"\x1f\x8b\x08\0",
        b"\x93NUMPY\x01\0",
        b"PAR1",
        b"<html>",
        b"version https://git-lfs",
        b"\x80\x04.",
    ]
    return rng.choice(kinds) + content[rng.choice([0, 4, len(content)]) :]


def shuffle_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    rng.shuffle(lines)
    return b"\n".join(lines)


MUTATIONS: tuple[Mutation, ...] = (
    cut,
    empty,
    flip,
    flip_early,
    zeros,
    leave_out,
    repeat,
    insert,
    swap_numbers,
    swap_sizes,
    nest,
    another_kind,
    shuffle_lines,
)
