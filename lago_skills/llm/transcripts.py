"""Recorded language-model answers: one append-only JSONL file, keyed by the hash of the exact request.

A key is the SHA-256 of the canonical JSON of the request (messages and schema, not the model), so the same
question has the same key whoever answers it. No secret is ever part of a request or a transcript.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from lago_skills.errors import ArtifactCorrupt, PlanError, TranscriptMissing


@dataclass(frozen=True)
class Request:
    """One question to a language model."""

    name: str
    """What it is for, such as `plan/push`; not part of the key."""
    prompt: str
    schema: dict[str, Any] = field(default_factory=dict[str, Any])

    def canonical(self) -> dict[str, Any]:
        """What is hashed and sent: one user message and the answer's JSON schema."""
        return {"messages": [{"role": "user", "content": self.prompt}], "schema": self.schema}

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Transcript:
    """One recorded exchange."""

    key: str
    name: str
    request: dict[str, Any]
    response: str
    model: str
    source: str
    """How the answer was got, such as `recorded by hand` or an endpoint's host name."""
    recorded_at: str
    usage: dict[str, int] = field(default_factory=dict[str, int])


class TranscriptFile:
    """An append-only file of transcripts; the last line with a key and model wins.

    Raises:
        ArtifactCorrupt: a line other than a torn last one is not a transcript, or its request does not hash to its key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._by_key: dict[str, list[Transcript]] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        lines = self.path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                transcript = Transcript(**cast("dict[str, Any]", json.loads(line)))
            except (ValueError, TypeError) as error:
                if number == len(lines):  # torn by a power cut before its newline was written: never acknowledged
                    continue
                raise ArtifactCorrupt(
                    f"line {number} of transcript file {str(self.path)!r} is not a transcript ({error}); "
                    "expected one JSON object; restore the file from version control"
                ) from error
            found = Request(
                name=transcript.name,
                prompt=transcript.request["messages"][0]["content"],
                schema=transcript.request["schema"],
            ).key
            if found != transcript.key:
                raise ArtifactCorrupt(
                    f"line {number} of transcript file {str(self.path)!r}: its request hashes to {found[:12]}, expected "
                    f"{transcript.key[:12]}; the line was edited; restore the file from version control"
                )
            self._by_key.setdefault(transcript.key, []).append(transcript)

    def __len__(self) -> int:
        return sum(len(found) for found in self._by_key.values())

    def all(self) -> Iterable[Transcript]:
        """Every transcript, in file order per key."""
        return (transcript for found in self._by_key.values() for transcript in found)

    def get(self, request: Request, model: str | None = None) -> Transcript | None:
        """The latest recorded answer to this request (of this model, if one is named), or None."""
        found = [t for t in self._by_key.get(request.key, []) if model in (None, t.model)]
        return found[-1] if found else None

    def replay(self, request: Request, study: str, model: str | None = None) -> Transcript:
        """The latest recorded answer to this request.

        Raises:
            TranscriptMissing: none is recorded; names the request, its prompt file and the recording commands.
        """
        transcript = self.get(request, model)
        if transcript is None:
            raise TranscriptMissing(
                f"no answer is recorded for request {request.name!r} (key {request.key[:12]}, prompt template "
                f"lago_skills/planner/prompt.md, expected in {str(self.path)!r}); record it with: "
                f"lago plan {study} --export requests.jsonl, then lago plan {study} --import responses.jsonl --model NAME"
            )
        return transcript

    def append(self, transcript: Transcript) -> None:
        """Write one transcript durably (fsync) before returning.

        Raises:
            PlanError: the response is empty.
        """
        if not transcript.response.strip():
            raise PlanError(
                f"the answer to request {transcript.name!r} is empty; expected a JSON playbook; record it again"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(asdict(transcript), ensure_ascii=False, sort_keys=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            written = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            os.ftruncate(descriptor, written.rfind(b"\n") + 1)  # a torn last line was never acknowledged
            os.write(descriptor, (line + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._by_key.setdefault(transcript.key, []).append(transcript)
