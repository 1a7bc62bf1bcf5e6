"""One writer at a time, across processes and threads; the others wait for a limited time and are told who holds them up."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from lago_skills.errors import LibraryBusy

LOCK_FILE = "writer.lock"
POLL_S = 0.002


@contextmanager
def write_lock(folder: Path, timeout_s: float) -> Generator[None]:
    """Hold a library for writing. The lock goes with the process, however it ends.

    Raises:
        LibraryBusy: another writer held it all the time.
        OSError: the lock file cannot be opened.
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + timeout_s
        while not lock_descriptor(descriptor, blocking=False):  # a FileLock by path costs as much as the change
            if time.monotonic() >= deadline:
                raise LibraryBusy(
                    f"library {str(folder)!r}: found {_holder(descriptor)} writing to it for {timeout_s:g} s; expected it to "
                    "finish; wait for it, or allow more time (timeout_s, --timeout)"
                )
            time.sleep(POLL_S)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    """Leave word of who holds the lock; for people only, so a full disk does not matter."""
    with contextlib.suppress(OSError):
        note = json.dumps({"pid": os.getpid(), "command": " ".join(sys.argv)[:200]}).encode()
        os.pwrite(descriptor, note, 0)
        os.ftruncate(descriptor, len(note))


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {note['pid']} ({note['command'].strip() or 'python'})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
