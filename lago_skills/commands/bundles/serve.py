"""`lago serve`: a bundle's guidance for other processes, machines and languages."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from lago_skills.errors import StudyError


def serve_command(options: argparse.Namespace) -> None:
    """Serve until somebody stops it.

    Raises:
        StudyError: others could ask without a token.
    """
    from lago_skills.serve.access import Access
    from lago_skills.serve.running import Where, serve
    from lago_skills.serve.service import Service

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("lago").setLevel(logging.INFO)
    access = Access(_token(options.token_file))
    where = Where(options.host, options.port, options.unix_socket, options.tls_certificate, options.tls_key)
    service = Service(options.bundle, options.library, options.unfamiliar)
    tasks = service.bundle.tasks

    def ready(address: str) -> None:
        _say(f"serving {options.bundle} ({service.bundle.digest[:12]}, {len(tasks)} tasks) at {address}")
        _say("websocket at /, HTTP at /v1/act, described at /openapi.json; Ctrl-C stops")

    serve(service, where, access, ready, options.max_bytes)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("LAGO_TOKEN") or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"found no token in {str(file)!r} ({error}); expected a file with one; correct the path"
        ) from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
