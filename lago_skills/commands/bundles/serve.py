"""`lago serve`: a bundle's guidance for other processes, machines and languages, and the explorer's pages."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lago_skills.errors import StudyError

if TYPE_CHECKING:
    from lago_skills.explorer.doors import Explorer
    from lago_skills.serve.access import Access
    from lago_skills.serve.service import Service
    from lago_skills.stages.workspace import Workspace


def serve_command(options: argparse.Namespace) -> None:
    """Serve until somebody stops it.

    Raises:
        StudyError: others could ask without a token, or nothing can be edited.
    """
    from lago_skills.serve.access import Access
    from lago_skills.serve.running import Where, serve
    from lago_skills.serve.service import Service

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("lago").setLevel(logging.INFO)
    access = Access(_token(options.token_file))
    where = Where(options.host, options.port, options.unix_socket, options.tls_certificate, options.tls_key)
    space = _study(options)
    library = options.library or (space.library if space is not None and options.edit else None)
    service = Service(options.bundle, library, options.unfamiliar)
    tasks = service.bundle.tasks
    writers = Access(access.token or secrets.token_urlsafe()) if options.edit else None
    site = None if options.no_pages else _explorer(service, access, space, library, writers)

    def ready(address: str) -> None:
        _say(f"serving {options.bundle} ({service.bundle.digest[:12]}, {len(tasks)} tasks) at {address}")
        _say("websocket at /, HTTP at /v1/act, described at /openapi.json; Ctrl-C stops")
        if writers is not None and access.token is None:
            _say(f"pages, to look and to edit: {address}/#token={writers.token}")
        elif site is not None:
            _say(f"pages: {address}/")

    serve(service, where, access, ready, options.max_bytes, site)


def _study(options: argparse.Namespace) -> Workspace | None:
    if options.study is None:
        return None
    from lago_skills.stages.workspace import open_workspace
    from lago_skills.study import study_path

    root = options.root.resolve()
    return open_workspace(root, study_path(options.study, root).resolve())


def _explorer(
    service: Service, access: Access, space: Workspace | None, library: Path | None, writers: Access | None
) -> Explorer:
    from lago_skills.explorer.doors import Explorer

    study = None
    if space is not None:
        from lago_skills.explorer.records import FollowedStudy

        study = FollowedStudy(space)
    if writers is None:
        return Explorer(service, access, study)
    if library is None:
        raise StudyError(
            "found --edit and a bundle, whose copy of its library is frozen; expected a library that can be changed; add --library FOLDER, or --study STUDY"
        )
    from lago_skills.explorer.writing import LibraryWriter

    return Explorer(service, access, study, LibraryWriter(library, space), writers)


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
