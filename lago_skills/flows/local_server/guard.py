"""Runs beside the project's Prefect server and stops it when no command holds the lease any more. See `lago_skills.flows.local_server.server`."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

POLL_S = 0.3
PR_SET_PDEATHSIG = 1


def main(home: Path, port: int) -> None:
    """Start the server, wait for the last command to end, stop the server."""
    url = f"http://127.0.0.1:{port}/api"
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_UI_API_URL": url, "PREFECT_API_URL": url},
        stdin=subprocess.DEVNULL,
        preexec_fn=_end_with_parent,
    )
    record = home / "server.json"
    try:
        record.write_text(json.dumps({"url": url, "pid": server.pid, "guard": os.getpid()}), encoding="utf-8")
        with (home / "lease").open("r+") as lease:
            _wait_until_unused(lease, server)
            _stop(server)
            _forget(record)  # while the lease is still held: a new command waits for this
    finally:
        _stop(server)
        _forget(record)


def _forget(record: Path) -> None:
    """Remove the record of this guard's server, not that of another one."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(record.read_text(encoding="utf-8")).get("guard") == os.getpid():
            record.unlink(missing_ok=True)


def _end_with_parent() -> None:
    """Have Linux end the server if its guard is killed; elsewhere the next command does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_unused(lease: IO[str], server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        time.sleep(POLL_S)
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
