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
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from lago_skills.errors import ServerError

START_TIMEOUT_S = 180.0
CORES = "lago-cores"
"""Name of the global concurrency limit that all flows of a server share."""
LOCAL = ("127.0.0.1", "localhost", "::1")
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLIENT_METRICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,orphans",  # at each start: events of more than a week ago, what runs left that were removed
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
    except (OSError, ValueError, HTTPException):  # the last where something else answers there, which is not HTTP
        return False


def _require_version(api_url: str) -> None:
    """Refuse a server that Prefect's client here does not speak to: of another major version, or older than the client.

    Raises:
        ServerError: it is one.
    """
    here = metadata.version("prefect")
    try:
        with _opener(api_url).open(f"{api_url}/admin/version", timeout=10) as answer:
            there = str(json.loads(answer.read()))
    except (OSError, ValueError) as error:
        there = f"none that can be read ({type(error).__name__})"
    parts = [tuple(int(part) for part in re.findall(r"\d+", each)[:2]) for each in (here, there)]
    if parts[0][:1] != parts[1][:1] or parts[1] < parts[0]:
        raise ServerError(
            f"found version {there} of the Prefect server at PREFECT_API_URL={api_url!r}; expected {here}, as is installed here, or a later {parts[0][0]}.x; "
            "upgrade the server, or unset the variable to use the project's own"
        )


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


class PrefectServer:
    """A Prefect server for the duration of a block: the one at `PREFECT_API_URL` where that is set, else the project's own.

    The project's own is started in the background, so that work can begin before it is up.
    """

    def __init__(self, root: Path, *, logs: bool = False) -> None:
        """`logs`: whether Prefect's own log lines go to standard error."""
        self._quiet = {name: value for name, value in QUIET.items() if not (logs and "LOGGING" in name)}
        self._home = root / ".prefect"
        self._configured = os.environ.get("PREFECT_API_URL")
        self._lease: IO[str] | None = None
        self._url: str | None = self._configured
        self._error: ServerError | None = None
        self._thread = threading.Thread(target=self._start, daemon=True)

    def __enter__(self) -> Self:
        """Point Prefect's settings at the project, and begin to start its server.

        Raises:
            ServerError: the configured server does not answer, or is of another version.
        """
        os.environ.update({name: value for name, value in self._quiet.items() if name not in os.environ})
        for name in ("NO_PROXY", "no_proxy"):  # Prefect's client must not look for this machine behind a proxy either
            os.environ[name] = ",".join(dict.fromkeys([*filter(None, os.environ.get(name, "").split(",")), *LOCAL]))
        for name in unusable_proxies():  # its client would fail on them even where it needs no proxy
            del os.environ[name]
        if self._configured:
            if not healthy(self._configured, timeout_s=10):
                raise ServerError(
                    f"no Prefect server answers at PREFECT_API_URL={self._configured!r}; expected one that is up; start it, or unset "
                    "the variable to use the project's own"
                )
            _require_version(self._configured)
            return self
        self._home.mkdir(exist_ok=True)
        os.environ["PREFECT_HOME"] = str(self._home)
        self._lease = (self._home / "lease").open("w")
        self._thread.start()
        return self

    def _start(self) -> None:
        assert self._lease is not None
        try:
            fcntl.flock(self._lease, fcntl.LOCK_SH)  # waits for a guard that is just stopping its server
            with (self._home / "start.lock").open("w") as starting:
                fcntl.flock(starting, fcntl.LOCK_EX)
                self._url = _running(self._home) or _start(self._home)
        except ServerError as error:  # handed over to whoever waits
            self._error = error
        except Exception as error:
            self._error = ServerError(
                f"the local Prefect server could not be started ({type(error).__name__}: {error}); expected it to; see {str(self._home / 'server.log')!r}"
            )

    @property
    def up(self) -> bool:
        """Whether it is there already, or has failed to start."""
        return self._url is not None or self._error is not None

    def wait(self) -> str:
        """The address of its API, as soon as it is up; Prefect's settings are pointed at it.

        Raises:
            ServerError: it does not start.
        """
        if self._lease is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._url is not None
        os.environ["PREFECT_API_URL"] = self._url
        if (
            "prefect" in sys.modules
        ):  # it has read its settings, without this address: it would start a server of its own
            from prefect.context import refresh_global_settings_context

            refresh_global_settings_context()
        return self._url

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the project's server go: its guard stops it once no command needs it any more."""
        if self._lease is None:
            return
        os.environ.pop("PREFECT_API_URL", None)
        self._lease.close()


def _running(home: Path) -> str | None:
    try:
        record = json.loads((home / "server.json").read_text(encoding="utf-8"))
        url, server, guard = str(record["url"]), int(record["pid"]), int(record["guard"])
    except (OSError, ValueError, KeyError):
        return None
    if not Path(f"/proc/{guard}").exists() and Path("/proc/self").exists():  # nobody would ever stop it
        with contextlib.suppress(OSError):
            if b"prefect" in Path(f"/proc/{server}/cmdline").read_bytes():
                os.kill(server, signal.SIGTERM)
        return None
    return url if healthy(url) else None


def _free_places(url: str) -> None:
    """Nobody is at work on a server that has just started: free the places that commands held on it when they were killed."""
    body = json.dumps({"active_slots": 0}).encode()
    request = urllib.request.Request(
        f"{url}/v2/concurrency_limits/{CORES}", body, {"content-type": "application/json"}, method="PATCH"
    )
    with contextlib.suppress(OSError), _opener(url).open(request, timeout=10):
        pass  # a limit that was never used is not there


def _start(home: Path) -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("w") as log:
        guard = subprocess.Popen(
            [sys.executable, "-m", "lago_skills.flows.local_server.guard", str(home), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if healthy(url):
            _free_places(url)
            return url
        if guard.poll() is not None:
            break
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guard.pid, signal.SIGKILL)  # the guard leads a group of its own, the server is in it
    ended = "ended while it was starting" if guard.returncode is not None else f"took more than {START_TIMEOUT_S:.0f} s"
    raise ServerError(
        f"found that the local Prefect server {ended}; expected it at {url!r}; see {str(home / 'server.log')!r}, or move {str(home)!r} away "
        "to begin with a new one"
    )
