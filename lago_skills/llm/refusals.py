"""What an error of an endpoint means: wait and try again, ask otherwise, or give up; for one request or for all."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

RETRIED = (408, 409, 425, 429, 529)
MAYBE_PAID = (408, 504, 524)
"""A gateway waited no longer; the server behind it may have answered all the same."""
FOR_ALL = (401, 402, 403, 404, 405)
"""No other request would fare better: key, payment, permission, wrong address or model."""
SPENT = re.compile(
    r"insufficient[_ ](quota|credits|balance|funds)|exceeded your current quota|credit balance is too low",
    re.IGNORECASE,
)
WRONG_PATH = re.compile(
    r"unexpected endpoint|invalid url \(|no such (path|route|endpoint)|unknown (path|route|endpoint)", re.IGNORECASE
)
CAP_NAMES = ("max_completion_tokens", "max_tokens")
OPTIONAL = ("response_format", "temperature")
"""Parameters that some endpoint does not know; one that it names in a refusal is left out from then on."""
SMALLEST_CAP = 64
_NOT_JSON = re.compile(r"json_validate_failed|failed to (?:generate|validate) json", re.IGNORECASE)
_CAP = re.compile(
    r"max_completion_tokens|max_tokens|maximum context|context length|context window|context size|output tokens",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"unsupported|unrecognized|unknown|not supported|not permitted|unexpected|extra (fields|inputs)|not allowed|use '?max",
    re.IGNORECASE,
)
_N = r"(\d[\d,_]*)"
_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"at most {_N} (?:completion|output|new) tokens",
        rf"(?:less than or equal to|<=|at most|maximum (?:allowed|value|of)?:?|must be (?:no more than|below)) *{_N}",
        rf"maximum (?:number of )?(?:completion|output|new)[ _]tokens[^0-9]{{0,30}}{_N}",
    )
)
_CONTEXT = re.compile(
    rf"(?:maximum )?(?:context|model)(?: (?:length|window|size|limit))?[^0-9]{{0,40}}{_N}", re.IGNORECASE
)
_PROMPT = (
    re.compile(rf"{_N} (?:input|prompt) tokens", re.IGNORECASE),
    re.compile(rf"{_N} tokens (?:from|in|of) the (?:input|prompt|messages)", re.IGNORECASE),
    re.compile(rf"{_N} in the (?:messages|prompt|input)", re.IGNORECASE),
    re.compile(rf"(?:prompt|input|messages)[^0-9]{{0,40}}{_N} tokens", re.IGNORECASE),
)
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_IN_WORDS = re.compile(
    r"(?:try again|retry|wait|available)[^0-9]{0,30}?((?:\d+(?:\.\d+)?\s?(?:ms|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|h)\s?)+)",
    re.IGNORECASE,
)
_FIELD = re.compile(r'"retry_?(?:delay|after)(?:_?(ms|seconds))?"\s*:\s*"?(\d+(?:\.\d+)?)(ms|s)?"?', re.IGNORECASE)

Kind = Literal["again", "unknown parameter", "cap too large", "refused", "stop"]


@dataclass(frozen=True)
class Refusal:
    """What to do about an error."""

    kind: Kind
    """`again`: later; `unknown parameter`, `cap too large`: otherwise; `refused`: not this request; `stop`: none of them."""
    parameter: str = ""
    """Which one is unknown."""
    cap: int = 0
    """The longest answer that fits, where that is said."""
    wait_s: float | None = None
    """How long the server asks to wait."""


def judge(status: int, text: str, headers: Mapping[str, str], sent: Mapping[str, object]) -> Refusal:
    """What an error means.

    Args:
        status: HTTP status, or the one that an error object names.
        text: the error in the server's words.
        headers: of the reply.
        sent: the request's body, by name.
    """
    wait_s = asked_wait(headers, text)
    if status in RETRIED and wait_s is not None:  # a quota of a minute is not one that was paid for
        return Refusal("again", wait_s=wait_s)
    if status in FOR_ALL or 300 <= status < 400 or SPENT.search(text) or WRONG_PATH.search(text):
        return Refusal("stop")
    if status in (400, 413, 422):
        return _parameters(text, sent)
    if status in RETRIED or status >= 500:
        return Refusal("again", wait_s=wait_s)
    return Refusal("refused")


def _parameters(text: str, sent: Mapping[str, object]) -> Refusal:
    for name in CAP_NAMES:
        if name in sent and name in text and _UNKNOWN.search(text) and _limit(text, sent) is None:
            return Refusal("unknown parameter", parameter=name)
    if _CAP.search(text):
        cap = int(str(next((sent[name] for name in CAP_NAMES if name in sent), 0)))
        limit = _limit(text, sent)
        if limit is not None and 0 < limit < cap:
            return Refusal("cap too large", cap=limit)
        if limit is None and cap > SMALLEST_CAP:  # it does not say how many would do
            return Refusal("cap too large", cap=max(cap // 2, SMALLEST_CAP))
        return Refusal("refused")
    if "response_format" in sent and _NOT_JSON.search(text):  # the server checks the answer itself, and throws it away
        return Refusal("unknown parameter", parameter="response_format")
    for name in OPTIONAL:
        if name in sent and (name in text or (name == "response_format" and "json_schema" in text)):
            return Refusal("unknown parameter", parameter=name)
    return Refusal("refused")


def _limit(text: str, sent: Mapping[str, object]) -> int | None:
    """The largest cap that an error leaves room for; None where it does not say."""
    cap = int(str(next((sent[name] for name in CAP_NAMES if name in sent), 0)))
    prompt = next((_number(match.group(1)) for each in _PROMPT if (match := each.search(text))), None)
    context = next((n for match in _CONTEXT.finditer(text) if (n := _number(match.group(1))) != cap), None)
    if prompt is not None and context is not None and context > prompt:
        return context - prompt
    for pattern in _LIMITS:
        for match in pattern.finditer(text):
            if (number := _number(match.group(1))) != cap and number > 0:
                return number
    return None


def _number(digits: str) -> int:
    return int(digits.replace(",", "").replace("_", ""))


def asked_wait(headers: Mapping[str, str], text: str) -> float | None:
    """Seconds that a server asks to wait: in a header (seconds, a date, milliseconds, 1m2s) or in its words."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        if (value := headers.get(name)) is not None and (seconds := _seconds(value, unit)) is not None:
            return seconds
    if match := _FIELD.search(text):
        unit = match.group(1) or match.group(3)
        return float(match.group(2)) * (1e-3 if unit == "ms" else 1.0)
    if match := _IN_WORDS.search(text):
        found = re.findall(r"(\d+(?:\.\d+)?)\s?([a-z]+)", match.group(1).lower())
        return sum(float(n) * _UNITS["ms" if unit.startswith(("ms", "milli")) else unit[0]] for n, unit in found)
    for name in ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"):
        if headers.get("x-ratelimit-remaining-" + name.rpartition("-")[2]) == "0" and (value := headers.get(name)):
            return _seconds(value, 1.0)
    return None


def _seconds(value: str, unit: float) -> float | None:
    value = value.strip()
    try:
        seconds = float(value) * unit
    except ValueError:
        parts = _DURATION.findall(value)
        if parts and "".join(n + u for n, u in parts) == value:
            seconds = sum(float(n) * _UNITS[u] for n, u in parts)
        else:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except ValueError:
                return None
    return max(seconds, 0.0) if seconds == seconds else None
