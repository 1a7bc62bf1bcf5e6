"""SQLite's write-ahead log as bytes: whether a committed part of it is damaged, and the pages it holds.

SQLite itself stops reading its log at the first frame whose checksum fails, which is right for a torn tail (a frame that
was being written when the power went, and that nobody was told of) and silent about damage in the middle. Frames of one log
share two salts, and are written in order: a bad frame with good salts after it was whole once.

Source: "WAL-mode File Format", sections 1 to 4 of the SQLite documentation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HEADER, FRAME_HEADER = 32, 24
MAGIC_LITTLE, MAGIC_BIG = 0x377F0682, 0x377F0683


@dataclass(frozen=True)
class Frame:
    """One page image of the log."""

    page: int
    commit_pages: int
    """Size of the database in pages after a commit; 0 inside a transaction."""
    data: bytes
    intact: bool


def frames(path: Path) -> list[Frame]:
    """The frames of a log in order, damaged ones marked; none for a missing log or one with an unreadable head."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    if len(raw) < HEADER:
        return []
    magic, _, page_size, _ = struct.unpack(">IIII", raw[:16])
    if magic not in (MAGIC_LITTLE, MAGIC_BIG) or page_size < 512:
        return []
    order = "<u4" if magic == MAGIC_LITTLE else ">u4"
    salts = raw[16:24]
    seed = struct.unpack(">II", raw[24:32])
    found: list[Frame] = []
    for start in range(HEADER, len(raw) - FRAME_HEADER - page_size + 1, FRAME_HEADER + page_size):
        head = raw[start : start + FRAME_HEADER]
        data = raw[start + FRAME_HEADER : start + FRAME_HEADER + page_size]
        page, commit_pages = struct.unpack(">II", head[:8])
        stored = struct.unpack(">II", head[16:24])
        if head[8:16] != salts:
            found.append(Frame(page, commit_pages, data, intact=False))
            continue
        found.append(Frame(page, commit_pages, data, _checksum(head[:8] + data, seed, order) == stored))
        seed = stored  # each checksum goes on from the one before, as it is written there
    last = max((i for i, frame in enumerate(found) if frame.intact), default=-1)
    return found[: last + 1]  # what follows is a torn tail, or left over from an earlier log


def damage(path: Path) -> int:
    """Number of damaged frames in the part of a log that was written whole."""
    return sum(not frame.intact for frame in frames(path))


def _checksum(data: bytes, seed: tuple[int, int], order: str) -> tuple[int, int]:
    """Fletcher-like sums over pairs of 32-bit words: s0 += x0 + s1; s1 += x1 + s0, modulo 2^32."""
    first, second = seed
    for word in np.frombuffer(data, order).astype(np.uint32).reshape(-1, 2).tolist():
        first = (first + word[0] + second) & 0xFFFFFFFF
        second = (second + word[1] + first) & 0xFFFFFFFF
    return first, second


def apply(database: Path, log: Path) -> None:
    """Write the intact pages of a log over a copy of its database, and let the log go."""
    pages = {frame.page: frame.data for frame in frames(log) if frame.intact}
    with database.open("r+b") as stream:
        for page, data in pages.items():
            stream.seek((page - 1) * len(data))
            stream.write(data)
    log.unlink(missing_ok=True)
