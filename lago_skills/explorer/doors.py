"""The explorer as a site of the guidance service: its pages, its documents, and what changes something."""

from __future__ import annotations

import gzip
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, cast

from lago_skills.errors import ApprovalOutdated, LagoError, LibraryConflict, SkillChanged, StudyError
from lago_skills.explorer import documents
from lago_skills.explorer.pages import content_type, page_files, policy
from lago_skills.explorer.source import Json, Records, Source
from lago_skills.serve.access import Access
from lago_skills.serve.service import Service
from lago_skills.serve.site import Answered, Asked

JSON = "application/json"
MOST_BYTES = 64_000_000
"""Of documents that are kept ready."""
SMALL = 1000
"""Bytes that are not worth packing."""
SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
log = logging.getLogger("lago.explorer")


class Writer(Protocol):
    """Whoever changes something."""

    def do(self, what: str, fields: Json, source: Source) -> Json:
        """Do one thing, and say what came of it.

        Raises:
            LagoError: it cannot be done; says why.
        """
        ...


Study = Callable[[], tuple[Hashable, Records]]
"""The study as it is now, with what tells it from how it was before."""


class Explorer:
    """Answers browsers. Documents are made when they are asked for, and kept while what they are made of stays as it is.

    Args:
        service: whose bundle is looked at.
        access: who may look.
        study: the one behind the bundle, if it is on this machine.
        writer: changes the library and the study; without one, nothing is.
        writers: who may change something; None where nobody may.
    """

    def __init__(
        self,
        service: Service,
        access: Access,
        study: Study | None = None,
        writer: Writer | None = None,
        writers: Access | None = None,
    ) -> None:
        self._service, self._access, self._study = service, access, study
        self._writer, self._writers = writer, writers
        self._guard = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()

    def __call__(self, asked: Asked) -> Answered | None:
        """The answer to a request; None where there is no such page."""
        if asked.method in ("GET", "HEAD"):
            name = asked.path or "index.html"
            if name.startswith("data/"):
                return self._document(name.removeprefix("data/"), asked)
            content = page_files().get(name)
            return None if content is None else self._page(name, content, asked)
        if asked.method == "POST" and asked.path.startswith("do/"):
            return self._done(asked.path.removeprefix("do/"), asked)
        return None

    def _page(self, name: str, content: bytes, asked: Asked) -> Answered:
        headers = {**SAFE, "Content-Security-Policy": policy(name)}
        if name.startswith("vendor/") or name.endswith(".js"):
            headers["Access-Control-Allow-Origin"] = "*"  # the map's frame has no origin of its own
        return self._packed(content, content_type(name), headers, asked)

    def _packed(
        self, content: bytes, kind: str, headers: Mapping[str, str], asked: Asked, status: int = 200
    ) -> Answered:
        if len(content) > SMALL and "gzip" in asked.headers.get("accept-encoding", ""):
            packed = gzip.compress(content, 6)
            return Answered(packed, kind, status, {**headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
        return Answered(content, kind, status, headers)

    # -- looking -------------------------------------------------------------------------------------------------------

    def _document(self, name: str, asked: Asked) -> Answered:
        problem = self._access.problem(asked.headers)
        if problem is not None:
            return self._refusal(*problem)
        with self._service.using() as held:
            stamp, records = self._study() if self._study is not None else ("", None)
            source = Source(held.bundle, records, self._writer is not None)
            if name == "state":
                state = {"bundle": source.bundle.digest, "change": source.version()[1], "study": str(stamp)}
                return Answered(json.dumps(state).encode(), JSON, 200, SAFE)
            key = (name, source.version(), stamp)
            packed = self._kept.get(key) if name not in documents.OF_A_STUDY else None
            if packed is None:
                try:
                    said = documents.compact(documents.document(source, name))
                except LagoError as error:
                    return self._refusal(404 if isinstance(error, StudyError | LibraryConflict) else 503, str(error))
                packed = gzip.compress(said.encode(), 6)
                self._keep(key, packed)
        if "gzip" in asked.headers.get("accept-encoding", ""):
            return Answered(packed, JSON, 200, {**SAFE, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
        return Answered(gzip.decompress(packed), JSON, 200, SAFE)

    def _keep(self, key: tuple[Any, ...], packed: bytes) -> None:
        with self._guard:
            self._kept[key] = packed
            while sum(map(len, self._kept.values())) > MOST_BYTES:
                self._kept.popitem(last=False)

    # -- changing ------------------------------------------------------------------------------------------------------

    def _done(self, what: str, asked: Asked) -> Answered:
        if self._writer is None or self._writers is None:
            return self._refusal(
                403,
                "found a change, and a service that only shows; expected one that was started with --edit; start it so",
            )
        problem = self._writers.problem(asked.headers)
        if problem is not None:
            return self._refusal(*problem)
        try:
            sent: Any = json.loads(asked.body or b"{}")
            if not isinstance(sent, dict):
                return self._refusal(400, "found no JSON object; expected one with the fields of the change; send one")
            fields = cast("Json", sent)
            with self._service.using() as held:
                records = self._study()[1] if self._study is not None else None
                source = Source(held.bundle, records, edits=True)
                said = self._writer.do(what, fields, source)
        except (ValueError, UnicodeDecodeError):
            return self._refusal(400, "found a body that is no JSON; expected a JSON object; correct it")
        except LagoError as error:
            conflict = isinstance(error, SkillChanged | ApprovalOutdated)
            return self._refusal(409 if conflict else 422, str(error))
        return self._packed(documents.compact(said).encode(), JSON, SAFE, asked)

    def _refusal(self, status: int, sentence: str) -> Answered:
        headers = {**SAFE, "WWW-Authenticate": "Bearer"} if status == 401 else SAFE
        return Answered(json.dumps({"error": sentence}).encode(), JSON, status, headers)
