"""Ask an endpoint: several requests at a time, tried again where that helps, within a budget.

Whatever comes back is on disk before it is judged, and an answer is recorded, durably, before anything else is done with it.
"""

from __future__ import annotations

import asyncio
import hashlib
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
from lago_skills.llm.endpoint_places import EndpointPlaces
from lago_skills.llm.refusals import CAP_NAMES, MAYBE_PAID, judge
from lago_skills.llm.reply import CUT_OFF, Completion, Unreadable, all_text, finish_reason, read_reply
from lago_skills.llm.spending import Attempt, Budget, priced, whole_usage
from lago_skills.llm.transcripts import Request, TranscriptFile, answered

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
SHOWN_CHARS = 1000
"""Of what an endpoint says."""
JUDGED_CHARS = 4000
POLL_S = 0.05
TRIED_OUT = "check/"
"""How requests are called whose answers are not recorded."""
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
    """Asking again may help: after so many seconds, at once for 0; where the server asked for them, not sooner than usual."""

    def __init__(self, why: str, wait_s: float | None = None, *, asked: bool = False) -> None:
        super().__init__(why)
        self.wait_s, self.asked = wait_s, asked


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
        self._places = EndpointPlaces(self._connection.address, config.concurrency)
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
        self._on_their_way: set[str] = set()
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
        """Record the answers that an earlier run received and had no time to read; what cannot be read may have been paid, and stays open."""
        for attempt in list(self.budget.open.values()):
            if attempt.reply is None or not attempt.request:
                continue
            status = int(attempt.reply["status"])
            try:
                reply = read_reply(str(attempt.reply["body"]).encode("utf-8", "replace"))
            except Unreadable:
                self._settle_unanswered(attempt, status, {})
                continue
            if not (isinstance(reply, Completion) and _is_success(status)):
                self._settle_unanswered(attempt, status, reply.usage)
            elif str(attempt.request["name"]).startswith(TRIED_OUT):
                self.budget.paid_for_nothing(attempt.name, reply.usage, "tried out")
            else:
                self._record(attempt, reply)

    def _settle_unanswered(self, attempt: Attempt, status: int, usage: dict[str, int]) -> None:
        """An error, or something that cannot be read: paid where it says so, free where it was refused; else the attempt stays open."""
        if any(usage.values()):
            self.budget.paid_for_nothing(attempt.name, usage, f"HTTP {status}, with a bill")
        elif not (_is_success(status) or status in MAYBE_PAID):
            self.budget.not_paid(attempt.name, f"HTTP {status}")

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
            usage = priced(self.config, usage_of(reply, request, self.cap))
            self.budget.paid_for_nothing(attempt.name, usage, "tried out")
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
                async with self._places.one():
                    await self._attempt(request, nth)
            except _TryAgain as again:
                error = f"{again} ({number + 1} {'try' if number == 0 else 'tries'})"
                if again.wait_s is not None and again.wait_s > self.config.max_wait_s:
                    error += f"; it asks to wait for {again.wait_s:,.0f} s: wait, or raise plan.live.max_wait_s"
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
        usual = min(FIRST_WAIT_S * 2**number, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
        if again.wait_s is None:
            seconds = usual
        elif again.wait_s > self.config.max_wait_s:
            return False
        else:
            seconds = max(again.wait_s + random.uniform(0.0, 0.25), usual) if again.asked else again.wait_s
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

    async def _reserve(self, request: Request) -> str:
        """The name of an attempt that fits the budget; those on their way may turn out cheaper than they are counted."""
        while True:
            try:
                return self.budget.send(request, self.model, self.cap)
            except BudgetSpent:
                if not self._on_their_way or self._stop():
                    raise
                await asyncio.sleep(POLL_S)

    async def _attempt(self, request: Request, nth: int) -> None:
        attempt = await self._reserve(request)
        body = self.body(request)
        self._on_their_way.add(attempt)
        try:
            answer = await self._connection.post(body, _idempotency_key(request, body, nth))
        except NotSent as error:
            self.budget.not_paid(attempt, "never sent")
            raise _TryAgain(str(error)) from error
        except Broken as error:
            self._keep_what_came(attempt, error)
        except TooLong as error:
            raise _Refused(str(error)) from error
        else:
            self.budget.came_back(attempt, answer.status, self._clean(answer.body.decode("utf-8", "replace")))
            self._judge(self.budget.open[attempt], answer, body)
        finally:
            self._on_their_way.discard(attempt)

    def _keep_what_came(self, attempt: str, broken: Broken) -> None:
        """All of an answer may have come before the connection broke; else it is asked for again, and the attempt stays open."""
        if broken.came is not None and broken.came.body:
            came = broken.came
            self.budget.came_back(attempt, came.status, self._clean(came.body.decode("utf-8", "replace")))
            try:
                reply = read_reply(bytes(came.body))
            except Unreadable:
                reply = None
            if isinstance(reply, Completion) and _is_success(came.status):
                self._accept(self.budget.open[attempt], reply)
                return
        raise _TryAgain(str(broken)) from broken

    def _judge(self, attempt: Attempt, answer: Answered, sent: dict[str, Any]) -> None:
        """Record an answer, or raise what an error asks for."""
        said = answer.body[:JUDGED_CHARS].decode("utf-8", "replace")
        try:
            reply = read_reply(bytes(answer.body))
        except Unreadable as error:
            self._settle_unanswered(attempt, answer.status, {})
            if _is_success(answer.status):
                shown = self._shown(said)
                raise _TryAgain(f"found a reply that is not a chat completion, {error}: {shown!r}") from error
            self._refused(answer.status, said, said, answer, sent)
            return
        if isinstance(reply, Completion) and _is_success(answer.status):
            self._accept(attempt, reply)
            return
        self._settle_unanswered(attempt, answer.status, reply.usage)
        message, status = said, answer.status
        if not isinstance(reply, Completion):
            message = reply.message
            status = (reply.code or 400) if _is_success(answer.status) else answer.status
        if (
            attempt.name in self.budget.open and status not in MAYBE_PAID
        ):  # an error object says that there is no answer
            self.budget.not_paid(attempt.name, "refused")
        self._refused(status, message, said, answer, sent)

    def _record(self, attempt: Attempt, reply: Completion) -> None:
        asked = attempt.request
        request = Request(str(asked["name"]), str(asked["prompt"]), dict(asked["schema"]))
        usage = priced(self.config, usage_of(reply, request, int(asked.get("sent_cap", 0))))
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

    def _refused(self, status: int, message: str, said: str, answer: Answered, sent: dict[str, Any]) -> None:
        """Turn an error, its message and all that was said with it, into the right exception."""
        text = self._shown(message)
        shown = f"an error with HTTP status 200: {text}" if _is_success(answer.status) else f"HTTP {status}: {text}"
        if moved := answer.headers.get("location"):
            shown += f" (it has moved to {self._clean(moved.partition('?')[0])})"
        meant = judge(status, f"{message}\n{said}", answer.headers, sent)
        if meant.kind == "stop":
            self._fatal = (
                f"endpoint {self.host} refused ({shown}); expected an answer of model {self.model!r} from {self._connection.url.path}; check the "
                f"key in the environment variable {self.config.key_variable}, the model's name, credits, and plan.live.base_url (most servers "
                "want it to end with /v1)"
            )
            raise _Refused(self._fatal)
        if meant.kind == "again":
            raise _TryAgain(f"found {shown}", meant.wait_s, asked=True)
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


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def usage_of(reply: Completion, request: Request, cap: int) -> dict[str, int]:
    """What an answer cost, what a server leaves out counted carefully: by all that was written, or by the cap where that was cut off."""
    cut_at = cap if finish_reason(reply.body) in CUT_OFF else 0
    return whole_usage(reply.usage, request, all_text(reply.body) or reply.text, cut_at)


def _idempotency_key(request: Request, body: dict[str, Any], nth: int) -> str:
    """The same for every try of the same question to the same model, and another one for its next answer."""
    return f"{request.key[:16]}-{hashlib.sha256(json.dumps([body, nth], sort_keys=True).encode()).hexdigest()[:32]}"
