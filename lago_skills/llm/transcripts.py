"""Recorded language-model answers: one append-only JSONL file, keyed by the hash of the exact request.

A key is the SHA-256 of the canonical JSON of the request (messages and schema, not the model), so the same
question has the same key whoever answers it. No secret is ever part of a request or a transcript.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from lago_skills.errors import ArtifactCorrupt, TranscriptMissing

HUMAN, SEARCH = "human", "search"
"""Who changes a model's playbook, as the model of a transcript: a person, or a search of its numbers in episodes of the task."""
EDITORS = frozenset({HUMAN, SEARCH})


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


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
        return _sha256(self.canonical())

    @property
    def custom_id(self) -> str:
        """Name and key: how an answer in a batch file says what it answers."""
        return f"{self.name}#{self.key}"


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
    parent: str | None = None
    """For a person's edit, the `id` of the answer that was edited."""
    reply: dict[str, Any] = field(default_factory=dict[str, Any])
    """All that came back, as it came: reasoning, why the answer ended, who answered; empty where a person brought the text alone."""
    attempt: str = ""
    """Name of the attempt in the journal of spending; empty where nothing was asked over a network."""
    cap: int = 0
    """How many tokens of answer had been asked for at most; 0 where that is not known."""

    @property
    def id(self) -> str:
        """What this very answer is called: a hash of key, model, response and parent; 16 hex digits."""
        return _sha256([self.key, self.model, self.response, self.parent])[:16]

    @property
    def tokens(self) -> int:
        """Tokens that the exchange cost, as the endpoint counted them; 0 where nobody did."""
        return self.usage.get("total_tokens", 0)


def answered(
    request: Request,
    response: str,
    model: str,
    source: str,
    usage: dict[str, int] | None = None,
    parent: str | None = None,
    *,
    reply: dict[str, Any] | None = None,
    attempt: str = "",
    cap: int = 0,
) -> Transcript:
    """The transcript of a request answered just now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    text = response.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be stored
    whole = json.loads(json.dumps(reply or {}, ensure_ascii=False).encode("utf-8", "replace"))
    asked = request.canonical()
    return Transcript(
        request.key, request.name, asked, text, model, source, now, usage or {}, parent, whole, attempt, cap
    )


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
        lines = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                transcript = Transcript(**cast("dict[str, Any]", json.loads(line)))
                key = _sha256(transcript.request)
            except (ValueError, TypeError) as error:
                if number == len(lines):  # torn by a power cut before its newline was written: never acknowledged
                    continue
                raise ArtifactCorrupt(
                    f"line {number} of transcript file {str(self.path)!r} is not a transcript ({error}); "
                    "expected one JSON object; restore the file from version control"
                ) from error
            if key != transcript.key:
                raise ArtifactCorrupt(
                    f"line {number} of transcript file {str(self.path)!r}: its request hashes to {key[:12]}, expected "
                    f"{transcript.key[:12]}; the line was edited; restore the file from version control"
                )
            self._by_key.setdefault(transcript.key, []).append(transcript)

    def __len__(self) -> int:
        return sum(len(transcripts) for transcripts in self._by_key.values())

    def all(self) -> Iterable[Transcript]:
        """Every transcript, in file order per key."""
        return (transcript for transcripts in self._by_key.values() for transcript in transcripts)

    def models(self) -> list[str]:
        """Names of the models that answered anything; who edits is left out."""
        return sorted({transcript.model for transcript in self.all()} - EDITORS)

    def answers(self, request: Request, model: str | None = None) -> list[Transcript]:
        """Every recorded answer of a model to this request, oldest first; edits are left out."""
        return [t for t in self._by_key.get(request.key, []) if t.model not in EDITORS and model in (None, t.model)]

    def named(self, name: str) -> list[Transcript]:
        """Every answer to a request of that name, whatever it said, oldest first; edits are left out."""
        return [t for t in self.all() if t.name == name and t.model not in EDITORS]

    def different(self, request: Request, model: str | None = None) -> list[Transcript]:
        """As `answers`, but of those that say the same only the latest."""
        latest = {(t.model, t.response): t for t in self.answers(request, model)}
        return sorted(latest.values(), key=self.answers(request, model).index)

    def edits(self, request: Request) -> list[Transcript]:
        """Edits of answers to this request, by people and by searches, oldest first."""
        return [t for t in self._by_key.get(request.key, []) if t.model in EDITORS]

    def get(self, request: Request, model: str | None = None) -> Transcript | None:
        """The latest recorded answer to this request (of this model, if one is named), or None."""
        answers = self.answers(request, model)
        return answers[-1] if answers else None

    def replay(self, request: Request, study: str, model: str | None = None) -> Transcript:
        """The latest recorded answer to this request.

        Raises:
            TranscriptMissing: none is recorded; names the request, its prompt file and the recording commands.
        """
        transcript = self.get(request, model)
        if transcript is None:
            raise TranscriptMissing(
                f"no answer{f' of model {model!r}' * (model is not None)} is recorded for request {request.name!r} (key "
                f"{request.key[:12]}, prompt template lago_skills/planner/prompt.md, expected in {str(self.path)!r}); "
                f"record it with: lago plan {study} --live, or lago plan {study} --export requests.jsonl, then "
                f"lago plan {study} --import responses.jsonl --model NAME"
            )
        return transcript

    def append(self, transcript: Transcript) -> None:
        """Write one transcript durably (fsync) before returning; several processes may append to one file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entries = {k: v for k, v in asdict(transcript).items() if v or k not in ("reply", "attempt", "cap")}
        line = json.dumps(entries, ensure_ascii=False, sort_keys=True)
        append_line(self.path, line)
        self._by_key.setdefault(transcript.key, []).append(transcript)


def append_line(path: Path, line: str) -> None:
    """Append one line durably; a torn last line, which was never acknowledged, is cut off first."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
        data = memoryview((line + "\n").encode())
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
