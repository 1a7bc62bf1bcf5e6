"""Requests and answers as files, in the Batch API's line format; also the way through any chat window."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from lago_skills.errors import PlanError
from lago_skills.llm.config import LiveConfig, ResponseFormat
from lago_skills.llm.reply import Completion, Unreadable, ending, read_reply
from lago_skills.llm.transcripts import Request, TranscriptFile, answered, append_line

DATED = r"(-\d{4}-\d{2}-\d{2}|-\d{4,8}|[:@][\w.-]+)?"
"""What stands behind a model's name where an answer names its version."""


def chat_body(request: Request, response_format: ResponseFormat = "schema") -> dict[str, Any]:
    """The body of a chat completion request, without a model: messages and how the answer is wanted."""
    body: dict[str, Any] = {"messages": request.canonical()["messages"]}
    if request.schema and response_format == "schema":
        schema = {"name": request.name.partition("/")[0], "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.schema and response_format == "object":
        body["response_format"] = {"type": "json_object"}
    return body


def export_requests(requests: Sequence[Request], path: Path, config: LiveConfig | None = None) -> None:
    """Write requests as a Batch API input file: `custom_id` is the request's name and key.

    A request that is there several times is to be answered as often: its lines are numbered.

    Raises:
        PlanError: the file cannot be written.
    """
    config = config or LiveConfig()
    settings: dict[str, Any] = {config.cap_parameter or "max_completion_tokens": config.max_answer_tokens}
    if config.temperature is not None:
        settings["temperature"] = config.temperature
    lines: list[str] = []
    count: Counter[str] = Counter()
    for request in requests:
        count[request.key] += 1
        number = f"~{count[request.key]}" if count[request.key] > 1 else ""
        body = {
            **({"model": config.model} if config.model else {}),
            **chat_body(request, config.response_format),
            **settings,
        }
        line = {
            "custom_id": f"{request.name}{number}#{request.key}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body,
        }
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise PlanError(
            f"requests file {str(path)!r} cannot be written ({error.strerror}); expected a file in a folder that exists; make the folder, or "
            "name another"
        ) from error


def remember_exported(requests: Sequence[Request], transcripts: Path) -> None:
    """Keep requests beside the transcripts: answers to them count, whatever has changed when they come back."""
    known = {request.key for request in exported(transcripts)}
    for request in {each.key: each for each in requests if each.key not in known}.values():
        path = _exported_file(transcripts)
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, json.dumps(asdict(request)))


def exported(transcripts: Path) -> list[Request]:
    """Requests that were written to files, each once."""
    path = _exported_file(transcripts)
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [Request(**json.loads(line)) for line in lines if line.strip() and line.endswith("}")]


def _exported_file(transcripts: Path) -> Path:
    return transcripts.with_name(transcripts.name + ".exported")


@dataclass(frozen=True)
class Imported:
    """What a responses file brought."""

    n_recorded: int
    problems: tuple[str, ...]
    """Lines that brought nothing, a sentence each."""


@dataclass(frozen=True)
class _Answer:
    key: str
    completion: Completion
    model: str


def import_responses(
    path: Path,
    open_requests: Sequence[Request],
    transcripts: TranscriptFile,
    model: str | None,
    source: str,
    aliases: Sequence[str] = (),
) -> Imported:
    """Record the answers of a Batch API output file; those that are good although other lines are not.

    What an answer says is not judged here: a bad answer is recorded too, and repaired.

    Args:
        path: the file; a byte-order mark, any line ends and any order will do.
        open_requests: what may be answered, a request as often as it lacks answers.
        transcripts: where answers are recorded.
        model: who answered; needed where lines do not name it, as those of a chat window do not.
        source: how the answers were got.
        aliases: names that the study knows models by: an answer of `name-2026-01-01` is recorded as one of `name`.

    Raises:
        PlanError: the file cannot be read.
    """
    lacking = Counter(request.key for request in open_requests)
    requests = {request.key: request for request in open_requests}
    taken: dict[str, list[int]] = {}
    problems: list[str] = []
    n = 0
    for number, raw in _lines(path):
        try:
            answer = _answer(raw, model, aliases)
        except _BadLine as bad:
            problems.append(f"line {number} of {path.name}: {bad}")
            continue
        if lacking[answer.key] < 1:
            problems.append(f"line {number} of {path.name}: {_unwanted(answer.key, taken, requests, transcripts)}")
            continue
        lacking[answer.key] -= 1
        taken.setdefault(answer.key, []).append(number)
        request, completion = requests[answer.key], answer.completion
        transcripts.append(
            answered(request, completion.text, answer.model, source, completion.usage, reply=_whole(completion))
        )
        n += 1
    return Imported(n, tuple(problems))


def _whole(completion: Completion) -> dict[str, Any]:
    """The reply, where it says more than the text."""
    told = set(completion.body) - {"choices"}
    return completion.body if told else {}


class _BadLine(Exception):
    """A line that is no answer."""


def _lines(path: Path) -> list[tuple[int, bytes]]:
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise PlanError(
            f"responses file {str(path)!r} cannot be read ({error.strerror}); expected JSON lines in the Batch API's format; name the file that "
            "holds them"
        ) from error
    # Only a line feed ends a line: other line ends, such as U+2028, may stand inside of a string.
    return [(number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]


def _answer(raw: bytes, model: str | None, aliases: Sequence[str]) -> _Answer:
    try:
        line: Any = json.loads(raw)
    except ValueError as error:
        raise _BadLine(
            f"found no JSON in UTF-8 ({error}); expected one object a line; correct the line or download the file again"
        ) from error
    if not isinstance(line, dict) or "custom_id" not in line:
        raise _BadLine("found no custom_id; expected the Batch API's format; download or write the file again")
    entries = cast("dict[str, Any]", line)
    name, _, key = str(entries["custom_id"]).rpartition("#")
    name = name or key
    response: Any = entries.get("response")
    body: Any = cast("dict[str, Any]", response).get("body") if isinstance(response, dict) else None
    if entries.get("error"):
        raise _BadLine(f"request {name!r} failed: {_message(entries['error'])}; ask it again")
    status: Any = cast("dict[str, Any]", response).get("status_code", 200) if isinstance(response, dict) else None
    try:
        reply = read_reply(json.dumps(body).encode("utf-8", "replace"))
    except Unreadable as error:
        raise _BadLine(
            f"request {name!r}: found no response.body.choices[0].message.content ({error}); expected the Batch API's format; write the line again"
        ) from error
    if not isinstance(reply, Completion) or (isinstance(status, int) and status >= 400):
        said = reply.text if isinstance(reply, Completion) else reply.message
        raise _BadLine(f"request {name!r} failed with status {status}: {said[:500]}; ask it again")
    if not reply.text.strip() and ending(reply.body, 0) is None:
        raise _BadLine(f"request {name!r}: found an answer without text; expected text; answer it again")
    served: Any = reply.body.get("model")
    who = model or (served if isinstance(served, str) else "")
    if not who:
        raise _BadLine(f"request {name!r}: found no model's name; expected who answered; import it with --model NAME")
    known = [each for each in aliases if re.fullmatch(re.escape(each) + DATED, who)]
    alias = who if model else max(known, key=len, default=who)
    return _Answer(key, reply, alias)


def _message(error: Any) -> str:
    fields = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    return str(fields.get("message") or cast("object", error))[:500]


def _unwanted(key: str, taken: dict[str, list[int]], requests: dict[str, Request], transcripts: TranscriptFile) -> str:
    if key in taken:
        return f"request {requests[key].name!r} is answered twice, in line {taken[key][0]} too; the first counts; remove one of them"
    if known := [each for each in transcripts.all() if each.key == key]:
        return (
            f"request {known[0].name!r} is answered already, by {known[-1].model}; the recorded answer stays; for another one: lago plan STUDY "
            f"--again {known[0].name.removeprefix('plan/')} --export"
        )
    names = sorted({request.name for request in requests.values()})
    return (
        f"found an answer to a request with key {key[:12]!r} that is not open; expected one of {names[:5]}{' and others' * (len(names) > 5)}; "
        "export the requests again and answer those"
    )
