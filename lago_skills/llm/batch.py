"""Requests and answers as files, in the Batch API's line format; also the way through any chat window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from lago_skills.errors import PlanError
from lago_skills.llm.transcripts import Request, TranscriptFile, answered


def chat_body(request: Request) -> dict[str, Any]:
    """The body of a chat completion request, without a model: messages and structured output."""
    body: dict[str, Any] = {"messages": request.canonical()["messages"]}
    if request.schema:
        schema = {"name": request.name.partition("/")[0], "strict": True, "schema": request.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def export_requests(requests: list[Request], path: Path, model: str | None = None) -> None:
    """Write requests as a Batch API input file: `custom_id` is the request's name and key."""
    lines = [
        json.dumps(
            {
                "custom_id": request.custom_id,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {**({"model": model} if model else {}), **chat_body(request)},
            },
            ensure_ascii=False,
        )
        for request in requests
    ]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def import_responses(
    path: Path, open_requests: list[Request], transcripts: TranscriptFile, model: str | None, source: str
) -> int:
    """Record answers from a Batch API output file; returns how many. All are recorded or none.

    What an answer says is not judged here: a bad answer is recorded too, and repaired. `model` is needed where the lines
    do not name it, as those of a chat window do not.

    Raises:
        PlanError: the file cannot be read, or a line is not an answer to an open request.
    """
    by_key = {request.key: request for request in open_requests}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise PlanError(
            f"responses file {str(path)!r} cannot be read ({error}); expected JSON lines in the Batch API's format"
        ) from error
    answers = [_answer(line, str(path), model) for line in lines]
    for key, *_ in answers:
        if key not in by_key:
            raise PlanError(
                f"responses file {str(path)!r} answers a request with key {key[:12]!r} that is not open; expected one of "
                f"{[request.name for request in open_requests]}; export the requests again and answer those"
            )
        del by_key[key]
    requests = {request.key: request for request in open_requests}
    for key, text, name, usage in answers:
        transcripts.append(answered(requests[key], text, name, source, usage))
    return len(answers)


def _answer(line: Any, where: str, model: str | None) -> tuple[str, str, str, dict[str, int]]:
    try:
        if line.get("error"):
            raise PlanError(
                f"responses file {where!r}: {line.get('custom_id')!r} holds an error ({str(line['error'])[:200]}); expected "
                "an answer; remove the line, and ask that request again"
            )
        body = line["response"]["body"]
        text = body["choices"][0]["message"]["content"]
        key = str(line["custom_id"]).rpartition("#")[2]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise PlanError(
            f"responses file {where!r}: a line lacks custom_id or response.body.choices[0].message.content; "
            "expected the Batch API's format; download or write the file again"
        ) from error
    if not isinstance(text, str):
        raise PlanError(f"responses file {where!r}: found content {text!r}; expected text; answer that request again")
    name = model or body.get("model")
    if not isinstance(name, str) or not name:
        raise PlanError(
            f"responses file {where!r}: found no model's name; expected who answered; import it with --model NAME"
        )
    return key, text, name, token_usage(body)


def token_usage(body: dict[str, Any]) -> dict[str, int]:
    """The token counts of a chat completion; empty where there are none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return {}
    counts = cast("dict[str, Any]", usage)
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: counts[name] for name in names if type(counts.get(name)) is int and counts[name] >= 0}
