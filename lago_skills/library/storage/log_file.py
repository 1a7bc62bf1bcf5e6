"""SQLite's write-ahead log as bytes: whether a committed part of it is damaged, and the pages that it still holds.

SQLite stops reading its log at the first frame whose checksum fails, and says nothing: right for a torn tail (a frame that
was being written when the power went, of a change that nobody was told of), but damage in the middle takes every
acknowledged change after it along, while `integrity_check` answers "ok" and a checkpoint merges the part before. Nothing in
SQLite reads on, so these lines do. Each checksum goes on from the one before: a good frame after a bad one shows that the
bad one was whole once.

Source: "WAL-mode File Format", sections 1 to 4 of the SQLite documentation.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lago_skills.library.storage.schema import PAGE_SIZE

HEADER = 32
FRAME_HEADER = 24
BIG_ENDIAN = 1
"""The bit of the log's first number that says in which byte order its checksums were taken."""


class Frame(NamedTuple):
    """One page of the database as the log has it."""

    page: int
    commits: bool
    """Whether a transaction ends with it."""
    data: bytes
    intact: bool


def frames(log: Path) -> list[Frame]:
    """All frames up to the last intact one that ends a transaction, damaged ones included; none without a log."""
    raw = log.read_bytes() if log.exists() else b""
    if len(raw) < HEADER:
        return []
    order = ">u4" if raw[3] & BIG_ENDIAN else "<u4"
    salts, before = raw[16:24], raw[24:32]
    written: list[Frame] = []
    for start in range(HEADER, len(raw) - FRAME_HEADER - PAGE_SIZE + 1, FRAME_HEADER + PAGE_SIZE):
        head, data = raw[start : start + FRAME_HEADER], raw[start + FRAME_HEADER : start + FRAME_HEADER + PAGE_SIZE]
        page, n_pages = struct.unpack(">II", head[:8])
        intact = head[8:16] == salts and _checksum(head[:8] + data, before, order) == head[16:]
        written.append(Frame(page, n_pages > 0, data, intact))
        before = head[16:]
    ends = [i for i, frame in enumerate(written) if frame.intact and frame.commits]
    return written[: ends[-1] + 1] if ends else []  # then a torn tail, or what is left of an earlier log


def damage(log: Path) -> int:
    """Number of damaged frames in the part of a log that was written whole."""
    return sum(not frame.intact for frame in frames(log))


def apply(log: Path, database: Path) -> None:
    """Write the intact pages of a log over a copy of its database."""
    with database.open("r+b") as stream:
        for frame in frames(log):
            if frame.intact:
                stream.seek((frame.page - 1) * PAGE_SIZE)
                stream.write(frame.data)


def _checksum(data: bytes, before: bytes, order: str) -> bytes:
    """Fletcher-like sums over pairs of 32-bit words: s0 += x0 + s1; s1 += x1 + s0, modulo 2^32."""
    first, second = struct.unpack(">II", before)
    for even, odd in np.frombuffer(data, order).reshape(-1, 2).tolist():
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)
