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
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from lago_skills.errors import EndpointError, LagoError
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.live import Event, LiveClient
from lago_skills.llm.secret_values import Secrets
from lago_skills.llm.transcripts import Request, TranscriptFile

LOCK_POLL_S = 0.05
ROUNDS = 2
"""How often different answers are asked for, before those that there are have to do."""


def ask(
    requests: list[Request],
    config: LiveConfig,
    transcripts: Path,
    report: Callable[[Event], None],
    wanted: Mapping[str, int] | None = None,
) -> None:
    """Have requests answered and recorded in a transcript file; returns when each is answered or has failed.

    Args:
        requests: what to ask.
        config: of whom.
        transcripts: where answers are recorded.
        report: is called with what happens.
        wanted: how many different answers of this model a request shall have in the end, by its key; 1 where nothing is said.

    Raises:
        EndpointError: the asker could not start, or ended before its work.
    """
    job = job_of(requests, config, transcripts, wanted)
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


def job_of(
    requests: list[Request], config: LiveConfig, transcripts: Path, wanted: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """What the asker is sent."""
    return {
        "transcripts": str(transcripts.resolve()),
        "config": config.model_dump(),
        "requests": [asdict(request) for request in requests],
        "wanted": dict(wanted or {}),
    }


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


@contextlib.contextmanager
def _held(path: Path, report: Callable[[Event], None], gone: Callable[[], bool]) -> Generator[bool]:
    """Hold the lock of a transcript file; False when the command went away while we waited for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(path.name + ".lock"), poll_interval=LOCK_POLL_S)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        report(Event("note", "", "waiting for the answers that an earlier command still has on their way"))
        try:
            lock.acquire(cancel_check=gone)
        except Timeout:
            yield False
            return
    try:
        yield True
    finally:
        lock.release()


def open_requests(
    requests: Sequence[Request], wanted: Mapping[str, int], transcripts: TranscriptFile, model: str | None
) -> list[Request]:
    """What is still to be asked, a request as often as it lacks answers."""
    lacking = {each.key: wanted.get(each.key, 1) - len(transcripts.different(each, model)) for each in requests}
    return [request for request in requests for _ in range(lacking[request.key])]


def unexpected(error: Exception, secrets: Secrets | None) -> str:
    """A fault of ours, with its traceback and without the key."""
    text = "".join(traceback.format_exception(error))
    return secrets.removed_from(text) if secrets else f"{type(error).__name__} before the endpoint's settings were read"


def answer_job(job: Mapping[str, Any], report: Callable[[Event], None], gone: Callable[[], bool]) -> None:
    """Have the requests of a job answered; ends with an event `done` or `crashed`, whatever happens."""
    client: LiveClient | None = None
    try:
        path = Path(job["transcripts"])
        with _held(path, report, gone) as held:
            if not held:
                return
            transcripts = TranscriptFile(path)  # read under the lock: an earlier asker may just have written
            config, wanted = LiveConfig(**job["config"]), job["wanted"]
            requests = [Request(r["name"], r["prompt"], r["schema"]) for r in job["requests"]]
            for _ in range(ROUNDS):
                client = LiveClient(config, transcripts, report, gone)
                client.judge_what_came_back()
                todo = open_requests(requests, wanted, transcripts, config.model)
                if todo:
                    asyncio.run(client.ask(todo))
                if not todo or client.failed or gone():
                    break
            _say_what_lacks(requests, wanted, transcripts, config.model, report)
        report(Event("done", ""))
    except LagoError as error:
        report(Event("crashed", "", str(error)))
    except OSError as error:
        report(
            Event(
                "crashed",
                "",
                f"found a file that cannot be used ({error}); expected to write beside {job['transcripts']}; free the place",
            )
        )
    except Exception as error:  # the command shows it; there is no terminal here
        report(Event("crashed", "", unexpected(error, client.secrets if client else None)))


def _say_what_lacks(
    requests: Sequence[Request],
    wanted: Mapping[str, int],
    transcripts: TranscriptFile,
    model: str | None,
    report: Callable[[Event], None],
) -> None:
    """Say where a model had no more to say, although different answers were wanted."""
    for request in dict.fromkeys(each.name for each in open_requests(requests, wanted, transcripts, model)):
        known = [each for each in transcripts.named(request) if each.model == model]
        if known:
            text = f"{len({each.response for each in known})} different answers; a temperature above 0 under [plan.live] brings more"
            report(Event("note", request, text))


def main() -> None:
    """Read a job from standard input, detach, ask, report events on standard output."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    if os.fork():
        os._exit(0)
    answer_job(job, _leave(sys.stdout), _watch(sys.stdin))


if __name__ == "__main__":
    main()
