"""What an endpoint sent back: the text of a chat completion wherever it is, how it ended, what it cost; or the error it says.

Servers wrap the same thing in many ways: content as text or as parts, the answer in the field of the reasoning or of a tool call, a stream
that nobody asked for, an error with HTTP status 200, an object with a tail. What can be read is read, and it is said where it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

CUT = "cut off"
"""How an answer ended that is longer than was asked for."""
CUT_OFF = ("length", "max_tokens", "model_length")
FILTERED = ("content_filter", "safety", "recitation", "blocklist", "prohibited_content")
REASONING = ("reasoning_content", "reasoning", "thinking")
STREAM = ("data:", "event:", ":", "id:", "retry:")


class Unreadable(ValueError):
    """A reply that is neither a completion nor an error."""


@dataclass(frozen=True)
class Completion:
    """A chat completion."""

    body: dict[str, Any]
    """All of it."""
    text: str
    part: str
    """Where the text was: `content`, `reasoning_content`, `tool_calls`, `refusal`; empty where there is no text."""

    @property
    def usage(self) -> dict[str, int]:
        """Token counts, as far as there are any."""
        return token_usage(self.body)


@dataclass(frozen=True)
class SaidError:
    """An error object."""

    message: str
    code: int | None
    """An HTTP status that it names."""
    usage: dict[str, int] = field(default_factory=dict[str, int])
    """What it cost all the same, where it says so."""


@dataclass(frozen=True)
class Ending:
    """How a completion ended, where that was not by itself."""

    kind: str
    """`cut off`, `filtered`, `refused`."""
    text: str
    """In a sentence."""


def read_reply(raw: bytes) -> Completion | SaidError:
    """A reply's body, read.

    Raises:
        Unreadable: it is neither a completion nor an error.
    """
    text = raw.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    body = _streamed(text) if text.startswith(STREAM) else _object(text)
    try:
        json.dumps(body)
    except RecursionError as error:
        raise Unreadable("brackets too deep") from error
    if (error := _error(body)) is not None:
        return error
    message = _message(body)
    for part, found in _texts(message, body):
        if found.strip():
            return Completion(body, found, part)
    return Completion(body, "", "")


def _entries(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one where there is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    """A JSON list, or an empty one where there is something else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def _object(text: str) -> dict[str, Any]:
    """The object that a text begins with, whatever a server wrote before or behind it."""
    starts = [place for mark in "{[" if (place := text.find(mark)) >= 0]
    try:
        body: Any = json.JSONDecoder().raw_decode(text, min(starts, default=0))[0]
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON object ({error})") from error
    items = _items(body)
    body = items[0] if len(items) == 1 else body
    if not isinstance(body, dict):
        raise Unreadable(f"JSON of another kind ({type(body).__name__})")
    return _entries(body)


def _streamed(text: str) -> dict[str, Any]:
    """A completion put together from the events of a stream."""
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant"}
    lines = [line.partition(":") for line in text.split("\n")]
    said = [value.strip() for name, _, value in lines if name == "data" and value.strip()]
    ended: Any = "" if said[-1:] == ["[DONE]"] else None
    calls: dict[Any, str] = {}
    for event in (_object(each) for each in said if each != "[DONE]"):
        if event.get("error"):
            return event
        whole |= {key: event[key] for key in event if key != "choices" and event[key] is not None}
        for choice in map(_entries, _items(event.get("choices"))):
            delta = _entries(choice.get("delta") or choice.get("message"))
            for key, more in delta.items():
                if isinstance(more, str) and key != "role":
                    message[key] = message.get(key, "") + more
            for number, call in enumerate(map(_entries, _items(delta.get("tool_calls")))):
                index = call.get("index", number)
                calls[index] = calls.get(index, "") + str(_entries(call.get("function")).get("arguments") or "")
            ended = choice.get("finish_reason") or ended
    if ended is None:
        raise Unreadable("a stream that broke off before it ended")
    if calls:
        message["tool_calls"] = [{"function": {"arguments": arguments}} for arguments in calls.values()]
    whole["choices"] = [{"index": 0, "finish_reason": ended, "message": message}]
    return whole


def _error(body: dict[str, Any]) -> SaidError | None:
    error: Any = body.get("error") or _choice(body).get("error")  # a gateway's provider failed midway
    if not any(_entries(error).values()) and isinstance(error, dict):
        error = None  # an object of nulls and zeros, as some gateways always send
    if not error and ("choices" in body or _entries(body.get("message"))):
        return None
    if not error and body.get("object") != "error" and not {"detail", "message", "code"} & body.keys():
        return None
    fields = _entries(error or body)
    if not fields:
        return SaidError(str(error), None, token_usage(body))
    codes = [str(fields.get(name)) for name in ("code", "status", "status_code")]
    code = next((int(each) for each in codes if each.isdecimal() and 400 <= int(each) < 600), None)
    said: Any = fields.get("message") or fields.get("detail")
    message = said if isinstance(said, str) else json.dumps(fields, ensure_ascii=False)
    if raw := _entries(fields.get("metadata")).get("raw"):
        message += f": {raw}"  # a gateway's provider, in its own words
    return SaidError(message, code, token_usage(body))


def _choice(body: dict[str, Any]) -> dict[str, Any]:
    """The first choice; the body itself where a server has none, as Ollama's own interface."""
    choices = _items(body.get("choices"))
    return _entries(choices[0]) if choices else body


def _message(body: dict[str, Any]) -> dict[str, Any]:
    choice = _choice(body)
    message = _entries(choice.get("message", choice))
    if not {"content", "text", "tool_calls", "refusal", *REASONING} & message.keys():
        raise Unreadable("no choices with a message")
    return message


def _texts(message: dict[str, Any], body: dict[str, Any]) -> list[tuple[str, str]]:
    """Texts that may be the answer, the likelier ones first. A reasoning that used up the cap holds none."""
    texts = [("content", _joined(message.get("content", message.get("text"))))]
    for call in map(_entries, _items(message.get("tool_calls"))):
        texts.append(("tool_calls", _joined(_entries(call.get("function")).get("arguments"))))
    texts.append(("refusal", _joined(message.get("refusal"))))
    if finish_reason(body) not in CUT_OFF:
        texts += [(name, _joined(message.get(name))) for name in REASONING]
    return texts


def _joined(content: Any) -> str:
    """Text, or the parts of a content that are text."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        parts: list[Any] = [p if isinstance(p, str) else _entries(p).get("text") for p in _items(content)]
        return "".join(part for part in parts if isinstance(part, str))
    return json.dumps(content, ensure_ascii=False)


def finish_reason(body: dict[str, Any]) -> str:
    """Why the model stopped, in lower case; empty where that is not said."""
    reason: Any = _choice(body).get("finish_reason", body.get("done_reason"))
    return reason.lower() if isinstance(reason, str) else ""


def ending(body: dict[str, Any], cap: int) -> Ending | None:
    """How a completion ended; None where by itself, or where nothing is known.

    Args:
        body: the whole reply.
        cap: how many tokens of answer had been asked for at most; 0 where that is not known.
    """
    reason = finish_reason(body)
    if reason in CUT_OFF:
        thought = reasoning_tokens(body)
        length = token_usage(body).get("completion_tokens", 0)
        most = f" where max_answer_tokens = {cap:,}" if cap else ""
        spent = f", {thought:,} of them used up by reasoning" if thought else ""
        less = " (the server allowed no more)" if cap and 0 < length < cap // 2 else ""
        return Ending(
            CUT,
            f"found an answer that was cut off{f' after {length:,} tokens' if length else ''}{most}{spent}{less} (finish_reason {reason!r}); "
            "expected a whole one; raise plan.live.max_answer_tokens, or the server's limit, and run the command again",
        )
    if reason in FILTERED:
        return Ending(
            "filtered", f"found that the provider held the answer back (finish_reason {reason!r}); expected an answer"
        )
    if refusal := _entries(_choice(body).get("message")).get("refusal"):
        return Ending("refused", f"found a refusal: {str(refusal)[:200]!r}; expected an answer")
    return None


def all_text(body: dict[str, Any]) -> str:
    """Everything that a model wrote: what was counted where nobody says how much it was."""
    message = _entries(_choice(body).get("message", _choice(body)))
    return "".join(_joined(value) for name, value in message.items() if name != "role" and value)


def reasoning_tokens(body: dict[str, Any]) -> int:
    """Tokens of the answer that were spent on reasoning, as far as that is said."""
    count: Any = _entries(_entries(body.get("usage")).get("completion_tokens_details")).get("reasoning_tokens")
    return count if isinstance(count, int) and count > 0 else 0


def token_usage(body: dict[str, Any]) -> dict[str, int]:
    """The token counts of a chat completion; empty where there are none."""
    counts = _entries(body.get("usage"))
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: counts[name] for name in names if type(counts.get(name)) is int and counts[name] >= 0}
