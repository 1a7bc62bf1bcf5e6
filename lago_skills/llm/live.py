"""Ask an endpoint: several requests at a time, tried again where that helps, within a budget.

Whatever comes back is on disk before it is judged, and an answer is recorded, durably, before anything else is done with it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lago_skills.errors import BudgetSpent, EndpointError
from lago_skills.llm.batch import chat_body
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.connection import Answered, Broken, NotSent, TooLong, open_connection
from lago_skills.llm.refusals import CAP_NAMES, judge
from lago_skills.llm.reply import Completion, Unreadable, finish_reason, read_reply
from lago_skills.llm.spending import Attempt, Budget, whole_usage
from lago_skills.llm.transcripts import Request, TranscriptFile, answered

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
SHOWN_CHARS = 1000
"""Of what an endpoint says."""
HTTP_OK = 200
MOST_CHARS_PER_TOKEN = 12
"""Prompts of ours have about four; with more than this, a server has not read all of it."""


@dataclass(frozen=True)
class Event:
    """Something that the reader of a progress display may want to know."""

    kind: str
    """`answered`, `failed`, `note` or `bill`."""
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
        EndpointError: no model is named, or the address, key, proxy or certificates cannot be used.
    """

    def __init__(
        self, config: LiveConfig, transcripts: TranscriptFile, report: Callable[[Event], None], stop: Callable[[], bool]
    ) -> None:
        if not config.model:
            raise EndpointError(
                'found no model to ask; expected its name as the endpoint knows it; add --model NAME, or model = "NAME" '
                "under [plan.live] of the study"
            )
        self.config = config
        self.model = config.model
        self.transcripts = transcripts
        self._connection = open_connection(config)
        self.secrets = self._connection.secrets
        self._clean = self.secrets.removed_from
        self.failed = 0
        """Requests that ended without an answer."""
        self.host = self._connection.host
        self.budget = Budget.of(config, transcripts)
        self.cap = config.max_answer_tokens
        """Longest answer that is asked for: the configured one, or less where the endpoint allows no more."""
        self._report = report
        self._stop = stop
        self._cap_parameter: str = config.cap_parameter or CAP_NAMES[0]
        self._left_out: set[str] = set()
        self._fatal: str | None = None
        self._pause_until = 0.0
        self._numbers: dict[str, int] = {}
        self._accept: Callable[[Attempt, Completion], None] = self._record

    async def ask(self, requests: Sequence[Request]) -> int:
        """Ask all of them; each ends in a recorded answer or in a `failed` event. Returns how many were answered.

        A request that is there several times is asked as often, for different answers.
        """
        self.judge_what_came_back()
        waiting = list(requests)[::-1]
        done = 0

        async def worker() -> None:
            nonlocal done
            while waiting and not self._stop():
                done += await self._one(waiting.pop())

        async with self._connection:
            await asyncio.gather(*(worker() for _ in range(min(self.config.concurrency, len(waiting)))))
        self._report(Event("bill", "", self.budget.bill()))
        return done

    def judge_what_came_back(self) -> None:
        """Record the answers that an earlier run received and had no time to read."""
        for attempt in list(self.budget.open.values()):
            if attempt.reply is None or not attempt.request:
                continue
            raw = str(attempt.reply["body"]).encode("utf-8", "replace")
            status = int(attempt.reply["status"])
            try:
                if status != HTTP_OK:
                    raise Unreadable(f"HTTP {status}")
                completion = read_reply(raw)
            except Unreadable as error:
                self.budget.not_paid(attempt.name, f"its reply cannot be read: {error}")
                continue
            if isinstance(completion, Completion):
                self._record(attempt, completion)
            else:
                self.budget.not_paid(attempt.name, "refused")

    def _next_number(self, request: Request) -> int:
        """How many answers of this model to a request there are or are on their way."""
        known = len(self.transcripts.answers(request, self.model))
        number = max(self._numbers.get(request.key, 0), known)
        self._numbers[request.key] = number + 1
        return number

    async def try_out(self, request: Request) -> Completion | None:
        """Ask one request and return the answer instead of recording it; it is paid all the same. None where it failed, as reported."""
        replies: list[Completion] = []

        def accept(attempt: Attempt, reply: Completion) -> None:
            self.budget.paid_for_nothing(attempt.name, whole_usage(reply.usage, request, reply.text), "tried out")
            replies.append(reply)

        async with self._connection:
            self._accept = accept
            await self._one(request)
        return replies[0] if replies else None

    async def _one(self, request: Request) -> bool:
        """One request, to its end; whether it was answered."""
        error = "not asked"
        nth = self._next_number(request)
        for number in range(self.config.max_tries):
            if self._fatal or self._stop():
                break
            try:
                if (pause := self._pause_until - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                await self._attempt(request, nth)
            except _TryAgain as again:
                error = f"{again} ({number + 1} {'try' if number == 0 else 'tries'})"
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
        self.failed += 1
        self._report(Event("failed", request.name, self._clean(self._fatal or error)))
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
            seconds = again.wait_s + (random.uniform(0.0, 0.25) if again.wait_s else 0.0)
            self._pause_until = max(self._pause_until, time.monotonic() + seconds)
        self._report(Event("note", request.name, self._clean(f"{again}; next try in {seconds:.1f} s")))
        await asyncio.sleep(seconds)
        return True

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request now."""
        body = {"model": self.model, **chat_body(request, self.config.response_format), "stream": False}
        if self.config.temperature is not None:
            body["temperature"] = self.config.temperature
        body[self._cap_parameter] = self.cap
        return {name: value for name, value in body.items() if name not in self._left_out}

    async def _attempt(self, request: Request, nth: int) -> None:
        body, cap = self.body(request), self.cap
        attempt = self.budget.send(request, self.model, cap)
        try:
            answer = await self._connection.post(body, f"{request.key}{f'-{nth}' if nth else ''}")
        except NotSent as error:
            self.budget.not_paid(attempt, "never sent")
            raise _TryAgain(str(error)) from error
        except Broken as error:
            raise _TryAgain(str(error)) from error
        except TooLong as error:
            raise _Refused(str(error)) from error
        self.budget.came_back(attempt, answer.status, self._clean(answer.body.decode("utf-8", "replace")))
        self._judge(self.budget.open[attempt], answer, body)

    def _judge(self, attempt: Attempt, answer: Answered, sent: dict[str, Any]) -> None:
        """Record an answer, or raise what an error asks for."""
        try:
            reply = read_reply(answer.body)
        except Unreadable as error:
            shown = self._shown(answer.body[:SHOWN_CHARS].decode("utf-8", "replace"))
            if answer.status == HTTP_OK:  # it may have been paid: the attempt stays open
                raise _TryAgain(f"found a reply that is not a chat completion, {error}: {shown!r}") from error
            self.budget.not_paid(attempt.name, f"HTTP {answer.status}")
            self._refused(answer.status, shown, answer, sent)
            return
        if isinstance(reply, Completion) and answer.status == HTTP_OK:
            self._accept(attempt, reply)
            return
        self.budget.not_paid(attempt.name, "refused")
        if isinstance(reply, Completion):
            self._refused(answer.status, self._shown(reply.text), answer, sent)
        else:
            named = reply.code if answer.status == HTTP_OK else None
            self._refused(
                named or (answer.status if answer.status != HTTP_OK else 400), self._shown(reply.message), answer, sent
            )

    def _record(self, attempt: Attempt, reply: Completion) -> None:
        asked = attempt.request
        request = Request(str(asked["name"]), str(asked["prompt"]), dict(asked["schema"]))
        usage = whole_usage(reply.usage, request, reply.text)
        body = json.loads(self._clean(json.dumps(reply.body)))
        transcript = answered(
            request,
            self._clean(reply.text),
            str(asked["model"]),
            f"live: {self.host}",
            usage,
            reply=body,
            attempt=attempt.name,
            cap=int(asked["cap"]),
        )
        self.transcripts.append(transcript)
        self.budget.answered(attempt.name, usage)
        notes: list[str] = []
        if reply.part not in ("content", "", "refusal"):
            notes.append(f"the answer came in {reply.part}, not in content")
        if reply.part == "refusal" or not reply.part:
            notes.append(
                f"no text came (finish_reason {finish_reason(reply.body) or 'none'})" if not reply.part else "refused"
            )
        prompt = usage.get("prompt_tokens", 0)
        if reply.usage.get("prompt_tokens") and len(request.prompt) > MOST_CHARS_PER_TOKEN * prompt:
            notes.append(
                f"the server counts {prompt:,} tokens in a prompt of {len(request.prompt):,} characters: it may have cut it (Ollama: num_ctx)"
            )
        self._report(Event("answered", request.name, "; ".join(notes), usage["total_tokens"]))

    def _shown(self, text: str) -> str:
        return self._clean(text)[:SHOWN_CHARS]

    def _refused(self, status: int, text: str, answer: Answered, sent: dict[str, Any]) -> None:
        """Turn an error into the right exception."""
        shown = f"HTTP {status}: {text}" if answer.status != HTTP_OK else f"an error with HTTP status 200: {text}"
        if moved := answer.headers.get("location"):
            shown += f" (it has moved to {self._clean(moved)})"
        meant = judge(status, text, answer.headers, sent)
        if meant.kind == "stop":
            self._fatal = (
                f"endpoint {self.host} refused ({shown}); expected an answer of model {self.model!r} from {self._connection.url.path}; check the "
                f"key in the environment variable {self.config.key_variable}, the model's name, credits, and plan.live.base_url (most servers "
                "want it to end with /v1)"
            )
            raise _Refused(self._fatal)
        if meant.kind == "again":
            raise _TryAgain(f"found {shown}", meant.wait_s)
        if meant.kind == "cap too large":
            self.cap = min(self.cap, meant.cap)
            raise _TryAgain(f"{shown}; going on with at most {self.cap} answer tokens", 0.0)
        if meant.kind == "unknown parameter":
            self._do_without(meant.parameter, shown)
        raise _Refused(f"endpoint {self.host} refused this request ({shown}); expected an answer; correct the request")

    def _do_without(self, parameter: str, shown: str) -> None:
        """Leave out a parameter, or call it otherwise; never ask without a cap."""
        if parameter not in CAP_NAMES:
            self._left_out.add(parameter)
            setting = 'response_format = "none"' if parameter == "response_format" else "no temperature"
            raise _TryAgain(f"{shown}; going on without {parameter} (to begin so: {setting} under [plan.live])", 0.0)
        other = CAP_NAMES[1 - CAP_NAMES.index(parameter)]
        if self.config.cap_parameter is None and self._cap_parameter == parameter == CAP_NAMES[0]:
            self._cap_parameter = other
            raise _TryAgain(
                f'{shown}; going on with {other} (to begin so: cap_parameter = "{other}" under [plan.live])', 0.0
            )
        if self._cap_parameter != parameter:  # another request has found it out meanwhile
            raise _TryAgain(f"{shown}; going on with {self._cap_parameter}", 0.0)
        raise _Refused(
            f"endpoint {self.host} refuses {parameter} ({shown}); expected a parameter that bounds the answer, since none is asked for without; "
            "name it under [plan.live] as cap_parameter"
        )
