"""One project-local Prefect server, started when none is configured, reused by concurrent commands, and gone after them.

Every command that needs the server holds a shared lock on `.prefect/lease`. A small guard process started with the server
waits until it can take that lock alone, which means that no command is left, not even a killed one; then it stops the
server. So nothing is left behind, and two commands at the same time share one server.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lago_skills.errors import ServerError

START_TIMEOUT_S = 180.0
LOCAL = ("127.0.0.1", "localhost", "::1")
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLIENT_METRICS_ENABLED": "false",
}


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Never through a proxy to this machine itself."""
    local = urllib.parse.urlsplit(url).hostname in LOCAL
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


def unusable_proxies() -> list[str]:
    """Variables that name a proxy of a kind that Prefect's HTTP client does not speak, such as SOCKS."""
    names = [name for each in PROXIES for name in (each, each.lower())]
    return [
        name for name in names if urllib.parse.urlsplit(os.environ.get(name) or "http:").scheme not in ("http", "https")
    ]


def healthy(api_url: str, timeout_s: float = 2.0) -> bool:
    """Whether a Prefect server answers at that address."""
    try:
        with _opener(api_url).open(f"{api_url}/health", timeout=timeout_s) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False


def loopback_works() -> bool:
    """Whether this machine can talk to itself; it cannot in a network namespace whose loopback is down."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=2),
        ):
            return True
    except OSError:
        return False


@contextmanager
def prefect_server(root: Path) -> Generator[str]:
    """The address of a Prefect server for the duration of the block, with Prefect's settings pointed at it.

    `PREFECT_API_URL` is used where it is set; else the project's own server, started if need be.

    Raises:
        ServerError: the configured server does not answer, or the local one does not start.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    for name in ("NO_PROXY", "no_proxy"):  # Prefect's client must not look for this machine behind a proxy either
        os.environ[name] = ",".join(dict.fromkeys([*filter(None, os.environ.get(name, "").split(",")), *LOCAL]))
    for name in unusable_proxies():  # its client would fail on them even where it needs no proxy
        del os.environ[name]
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        if not healthy(configured, timeout_s=10):
            raise ServerError(
                f"no Prefect server answers at PREFECT_API_URL={configured!r}; expected one that is up; start it, or unset "
                "the variable to use the project's own"
            )
        yield configured
        return
    home = root / ".prefect"
    home.mkdir(exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    with (home / "lease").open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_SH)  # waits for a guard that is just stopping its server
        with (home / "start.lock").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            url = _running(home) or _start(home)
        os.environ["PREFECT_API_URL"] = url
        try:
            yield url
        finally:
            del os.environ["PREFECT_API_URL"]
            fcntl.flock(lease, fcntl.LOCK_UN)
            _wait_for_guard(home, lease)


def _running(home: Path) -> str | None:
    try:
        url = str(json.loads((home / "server.json").read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError):
        return None
    return url if healthy(url) else None


def _start(home: Path) -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("w") as log:
        guard = subprocess.Popen(
            [sys.executable, "-m", "flows.local_server.guard", str(home), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if healthy(url):
            return url
        if guard.poll() is not None:
            break
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guard.pid, signal.SIGKILL)  # the guard leads a group of its own, the server is in it
    raise ServerError(
        f"the local Prefect server did not start within {START_TIMEOUT_S:.0f} s; expected it at {url!r}; "
        f"see {str(home / 'server.log')!r}"
    )


def _wait_for_guard(home: Path, lease: IO[str], timeout_s: float = 15.0) -> None:
    """Wait until the guard has stopped the server, unless another command still needs it."""
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another command holds it, or the guard is on its way out
    fcntl.flock(lease, fcntl.LOCK_UN)
    deadline = time.monotonic() + timeout_s
    while (home / "server.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
