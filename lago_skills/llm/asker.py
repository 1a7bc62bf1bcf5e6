"""The process that asks an endpoint, apart from the command that started it, so that no paid answer is lost.

`lago plan --live` starts it, reads its events and may be killed at any moment: the asker then sends nothing new, waits
for the answers on their way, records them and ends. The next command waits for it (one asker per transcript file).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from lago_skills.errors import EndpointError, LagoError
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.live import Event, LiveClient
from lago_skills.llm.transcripts import Request, TranscriptFile

LOCK_POLL_S = 0.05


def ask(requests: list[Request], config: LiveConfig, transcripts: Path, report: Callable[[Event], None]) -> None:
    """Have requests answered and recorded in a transcript file; returns when each is answered or has failed.

    Raises:
        EndpointError: the asker could not start, or ended before its work.
    """
    job = {
        "transcripts": str(transcripts.resolve()),
        "config": config.model_dump(),
        "requests": [asdict(request) for request in requests],
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "lago_skills.llm.asker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C at the terminal is for the command, not for the asker
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    last = ""
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            event = Event(**json.loads(line))
            last = event.kind
            if event.kind == "crashed":
                raise EndpointError(event.text)
            if event.kind != "done":
                report(event)
    except BrokenPipeError:
        pass
    finally:
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        process.wait()  # the launcher; the asker itself has been let go
    if last != "done":
        raise EndpointError(
            "found that the process which asks the endpoint ended early; expected it to finish; run the same command again "
            "(what was answered is recorded)"
        )


def _leave(stream: IO[str]) -> Callable[[Event], None]:
    def report(event: Event) -> None:
        try:
            stream.write(json.dumps(asdict(event)) + "\n")
            stream.flush()
        except (BrokenPipeError, ValueError):
            return  # the command is gone; the answers on their way are still recorded

    return report


def _watch(stream: IO[str]) -> Callable[[], bool]:
    """Whether the command that started us has gone: its end of our standard input is closed then."""
    gone = threading.Event()

    def read() -> None:
        while stream.read(1):
            pass
        gone.set()

    threading.Thread(target=read, daemon=True).start()
    return gone.is_set


def _hold(path: Path, report: Callable[[Event], None], gone: Callable[[], bool]) -> FileLock | None:
    """The lock of a transcript file, held; None when the command went away while we waited for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock"), poll_interval=LOCK_POLL_S)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        report(Event("note", "", "waiting for the answers that an earlier command still has on their way"))
        try:
            lock.acquire(cancel_check=gone)
        except Timeout:
            return None
    return lock


def main() -> None:
    """Read a job from standard input, detach, ask, report events on standard output."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    if os.fork():
        os._exit(0)
    report = _leave(sys.stdout)
    gone = _watch(sys.stdin)
    try:
        path = Path(job["transcripts"])
        lock = _hold(path, report, gone)
        if lock is None:
            return
        transcripts = TranscriptFile(path)  # read under the lock: an earlier asker may just have written
        config = LiveConfig(**job["config"])
        requests = [Request(r["name"], r["prompt"], r["schema"]) for r in job["requests"]]
        open_requests = [request for request in requests if transcripts.get(request, config.model) is None]
        client = LiveClient(config, transcripts, report, gone)
        asyncio.run(client.ask(open_requests))
        report(Event("done", ""))
    except LagoError as error:
        report(Event("crashed", "", str(error)))
    except Exception:  # the command shows it; there is no terminal here
        report(Event("crashed", "", traceback.format_exc()))


if __name__ == "__main__":
    main()
