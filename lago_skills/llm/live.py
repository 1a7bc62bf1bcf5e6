"""Ask an OpenAI-compatible endpoint. The only door to the `openai` package.

The package speaks the protocol; retrying is done here, since the package's own retries cover neither a body that breaks
off, dribbles or is not JSON, nor a budget. An answer is recorded, durably, before anything else is done with it.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lago_skills.errors import BudgetSpent, EndpointError
from lago_skills.llm.batch import chat_body, token_usage
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.spending import Budget, prompt_tokens
from lago_skills.llm.transcripts import Request, TranscriptFile, answered

MAX_BODY_BYTES = 8_000_000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
RETRIED = (408, 409, 425, 429)
FATAL = (401, 402, 403, 404)
"""No other request would fare better: key, payment, permission, wrong address or model."""
OPTIONAL = ("response_format", "max_completion_tokens", "max_tokens", "temperature")
"""Parameters that some endpoint does not know; one that a 400 names is left out from then on."""


@dataclass(frozen=True)
class Event:
    """Something that the reader of a progress display may want to know."""

    kind: str
    """`answered`, `failed` or `note`."""
    name: str
    text: str = ""
    tokens: int = 0


class _TryAgain(Exception):
    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class _Refused(Exception):
    """This request will not be answered; others may."""


class LiveClient:
    """Asks requests of one endpoint, several at a time, and records the answers.

    Raises:
        EndpointError: no model is named.
    """

    def __init__(
        self, config: LiveConfig, transcripts: TranscriptFile, report: Callable[[Event], None], stop: Callable[[], bool]
    ) -> None:
        if not config.model:
            raise EndpointError(
                'found no model to ask; expected its name as the endpoint knows it; add --model NAME, or model = "NAME" '
                "under [plan.live] of the study"
            )
        from openai import AsyncOpenAI

        self.config = config
        self.model = config.model
        self.transcripts = transcripts
        self.budget = Budget.of(config, transcripts)
        self._report = report
        self._stop = stop
        self._key = os.environ.get(config.key_variable, "")
        self._client = AsyncOpenAI(
            api_key=self._key or "none",
            base_url=config.base_url or os.environ.get("OPENAI_BASE_URL") or None,
            max_retries=0,
            timeout=config.timeout_s,
        )
        self.host = urlsplit(str(self._client.base_url)).hostname or "unknown host"
        self._parameters: dict[str, Any] = {"max_completion_tokens": config.max_answer_tokens}
        if config.temperature is not None:
            self._parameters["temperature"] = config.temperature
        self._left_out: set[str] = set()
        self._fatal: str | None = None
        self._pause_until = 0.0

    async def ask(self, requests: list[Request]) -> int:
        """Ask all of them; each ends in a recorded answer or in a `failed` event. Returns how many were answered."""
        waiting = list(requests)[::-1]
        done = 0

        async def worker() -> None:
            nonlocal done
            while waiting and not self._stop():
                request = waiting.pop()
                done += await self._one(request)

        async with self._client:
            await asyncio.gather(*(worker() for _ in range(min(self.config.concurrency, len(waiting)))))
        return done

    async def _one(self, request: Request) -> bool:
        """One request, to its end; whether it was answered."""
        error = "not asked"
        for number in range(self.config.max_tries):
            if self._fatal or self._stop():
                break
            try:
                if (pause := self._pause_until - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                await self._attempt(request)
            except _TryAgain as again:
                error = f"{again} ({number + 1} tries)"
                if not await self._wait(number, again, request):
                    break
            except _Refused as refused:
                error = str(refused)
                break
            except BudgetSpent as spent:
                self._fatal = error = str(spent)
                break
            else:
                return True
        self._report(Event("failed", request.name, self._fatal or error))
        return False

    async def _wait(self, number: int, again: _TryAgain, request: Request) -> bool:
        """Sleep before the next try; False where there is to be none. A server's own wish holds for all requests."""
        if number + 1 == self.config.max_tries:
            return False
        if again.wait_s is None:
            seconds = min(FIRST_WAIT_S * 2**number, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
        elif again.wait_s > self.config.max_wait_s:
            return False
        else:
            seconds = again.wait_s + random.uniform(0.0, 0.25)
            self._pause_until = max(self._pause_until, time.monotonic() + seconds)
        self._report(Event("note", request.name, f"{again}; next try in {seconds:.1f} s"))
        await asyncio.sleep(seconds)
        return True

    async def _attempt(self, request: Request) -> None:
        from openai import APIConnectionError, APIStatusError

        attempt = self.budget.send(request)
        body = {**chat_body(request), **self._parameters}
        body = {name: value for name, value in body.items() if name not in self._left_out}
        try:
            async with asyncio.timeout(self.config.timeout_s):
                raw = await self._post(request, body)
        except APIStatusError as error:
            self.budget.settle(attempt, None)
            self._explain(error.status_code, await _error_text(error), error.response.headers, set(body))
        except TimeoutError as error:
            raise _TryAgain(f"found no whole answer after {self.config.timeout_s:g} s") from error
        except APIConnectionError as error:
            cause = error.__cause__
            raise _TryAgain(
                f"found the connection broken ({type(cause or error).__name__}: {cause or error})"
            ) from error
        except _network_errors() as error:
            raise _TryAgain(f"found the connection broken ({type(error).__name__}: {error})") from error
        else:
            text, usage = self._read(raw, request)
            self.transcripts.append(answered(request, self._clean(text), self.model, f"live: {self.host}", usage))
            self.budget.settle(attempt, usage)
            self._report(Event("answered", request.name, "", usage.get("total_tokens", 0)))

    async def _post(self, request: Request, body: dict[str, Any]) -> bytes:
        create: Any = self._client.chat.completions.with_streaming_response.create
        # A gateway that knows the header answers a repeated attempt from its memory instead of billing it again.
        headers = {"Idempotency-Key": request.key}
        async with create(model=self.model, extra_headers=headers, **body) as response:
            content = bytearray()
            async for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MAX_BODY_BYTES:
                    raise _Refused(
                        f"found an answer of more than {MAX_BODY_BYTES:,} bytes; expected a playbook; not recorded"
                    )
        return bytes(content)

    def _read(self, raw: bytes, request: Request) -> tuple[str, dict[str, int]]:
        """Text and token counts of a completion, whatever the text says."""
        try:
            body: Any = json.loads(raw.decode("utf-8", "replace"))
            message = body["choices"][0]["message"]
            text = message.get("content") or message.get("refusal") or ""
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            shown = self._clean(raw[:120].decode("utf-8", "replace"))
            raise _TryAgain(f"found a reply that is not a chat completion: {shown!r}") from error
        if not isinstance(text, str):
            text = json.dumps(text)
        usage = token_usage(body)
        if "total_tokens" not in usage:
            answer = usage.get("completion_tokens", int(len(text) / 3) + 1)
            prompt = usage.get("prompt_tokens", prompt_tokens(request))
            usage = {
                "prompt_tokens": prompt,
                "completion_tokens": answer,
                "total_tokens": prompt + answer,
                "estimated": 1,
            }
        return text, usage

    def _explain(self, status: int, text: str, headers: Any, sent: set[str]) -> None:
        """Turn an HTTP error into the right exception."""
        shown = f"HTTP {status}: {self._clean(text)[:300]}"
        if status in FATAL or "insufficient_quota" in text:
            self._fatal = (
                f"endpoint {self.host} refused ({shown}); expected an answer of model {self.model!r}; check the key in the "
                f"environment variable {self.config.key_variable}, the model's name and plan.live.base_url"
            )
            raise _Refused(self._fatal)
        if status in (400, 422):
            self._leave_out(text, shown, sent)
        elif status in RETRIED or status >= 500:
            raise _TryAgain(f"found {shown}", _retry_after(headers))
        raise _Refused(f"endpoint {self.host} refused this request ({shown}); expected an answer; correct the request")

    def _leave_out(self, text: str, shown: str, sent: set[str]) -> None:
        """Do without a parameter that the endpoint complains about, if there is one."""
        names = [name for name in OPTIONAL if name in text] or ["response_format"] * ("json_schema" in text)
        for name in names:
            if name in sent:
                self._left_out.add(name)
                if name == "max_completion_tokens":  # the older name of the same thing
                    self._parameters["max_tokens"] = self.config.max_answer_tokens
                raise _TryAgain(f"{shown}; going on without {name}", 0.0)

    def _clean(self, text: str) -> str:
        """The text without our key, should the endpoint repeat it."""
        return text.replace(self._key, "[key removed]") if len(self._key) >= 8 else text


async def _error_text(error: Any) -> str:
    try:
        async with asyncio.timeout(5.0):
            return (await error.response.aread())[:4000].decode("utf-8", "replace")
    except Exception:  # the text of an error is a courtesy
        return str(error)


def _network_errors() -> tuple[type[Exception], ...]:
    import httpx2

    return (httpx2.TransportError, httpx2.DecodingError, httpx2.StreamError, OSError)


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait, from either form of the header."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds == seconds else None
