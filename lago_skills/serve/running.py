"""A service at an address, until somebody stops it. The only door to uvicorn."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from lago_skills.errors import ServiceError, StudyError
from lago_skills.serve.access import Access, check_address
from lago_skills.serve.app import AT_ONCE_BYTES, MOST_BYTES, Doors, application
from lago_skills.serve.frames import answering
from lago_skills.serve.service import Service
from lago_skills.serve.site import Site

log = logging.getLogger("lago.serve")
PORT = 8765
STOP_S = 5
"""How long answers at work may take after the service was told to stop."""
BACKLOG = 4096


@dataclass(frozen=True)
class Where:
    """The address of a service."""

    host: str = "127.0.0.1"
    port: int = PORT
    """0: any that is free."""
    unix_socket: Path | None = None
    """Instead of host and port."""
    certificate: Path | None = None
    """Of TLS, in PEM, with its key."""
    key: Path | None = None

    def __post_init__(self) -> None:
        """Check that a certificate has its key.

        Raises:
            StudyError: one is there without the other, or a file is not there.
        """
        if (self.certificate is None) != (self.key is None):
            raise StudyError(
                "found one of --tls-certificate and --tls-key; expected both, PEM files; add the other one"
            )
        for file in (self.certificate, self.key):
            if file is not None and not file.is_file():
                raise StudyError(f"found no file {str(file)!r}; expected a PEM file for TLS; correct the path")


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def serve(
    service: Service,
    where: Where,
    access: Access,
    ready: Callable[[str], None] = lambda address: None,
    most_bytes: int = MOST_BYTES,
    site: Site | None = None,
) -> None:
    """Answer until SIGTERM or Ctrl-C; `ready` hears the address. With a site, its pages are served too.

    Raises:
        StudyError: others could ask without a token.
        ServiceError: the address is taken, or not of this machine.
    """
    if where.unix_socket is None:
        check_address(where.host, access)
    listening = _listening(where)
    address = _address(where, listening)
    doors = Doors(service, access, most_bytes)
    config = uvicorn.Config(
        application(doors, site),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        ws=answering(doors.at_once, AT_ONCE_BYTES),
        ws_max_size=most_bytes,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=STOP_S,
        **_tls(where),
    )
    before = signal.signal(signal.SIGTERM, _stopped)  # uvicorn stops gracefully, then hands the signal on
    try:
        _Server(config, lambda: ready(address)).run([listening])
    except (KeyboardInterrupt, SystemExit):
        log.info("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)
        listening.close()
        if where.unix_socket is not None:
            where.unix_socket.unlink(missing_ok=True)


def _stopped(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _tls(where: Where) -> dict[str, Any]:
    if where.certificate is None:
        return {}
    return {"ssl_certfile": str(where.certificate), "ssl_keyfile": str(where.key)}


def _listening(where: Where) -> socket.socket:
    try:
        if where.unix_socket is not None:
            _remove_stale(where.unix_socket)
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(str(where.unix_socket))
            where.unix_socket.chmod(0o600)  # this user alone
        else:
            family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
            listening = socket.socket(
                family, socket.SOCK_STREAM, socket.IPPROTO_TCP
            )  # else asyncio leaves Nagle's delay on
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((where.host, where.port))
        listening.listen(BACKLOG)
    except OSError as error:
        place = str(where.unix_socket) if where.unix_socket is not None else f"{where.host}:{where.port}"
        raise ServiceError(
            f"cannot listen at {place} ({error.strerror or error}); expected a free address of this machine; choose another one (--port 0 takes any that is free)"
        ) from error
    return listening


def _remove_stale(path: Path) -> None:
    """A socket's file that nobody listens at any more."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)


def _address(where: Where, listening: socket.socket) -> str:
    if where.unix_socket is not None:
        return f"unix:{where.unix_socket}"
    host = f"[{where.host}]" if ":" in where.host else where.host
    return f"{'https' if where.certificate is not None else 'http'}://{host}:{listening.getsockname()[1]}"
