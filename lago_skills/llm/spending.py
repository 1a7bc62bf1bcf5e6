"""What has been spent, what is on its way, and whether one more request fits: the hard budget.

A journal beside the transcript file holds a line for every attempt before it is sent, one with whatever came back before that is
judged, and one when its outcome is known. An attempt without an outcome (the machine went down, the connection broke) may have been paid; it counts
as if it were, until it is settled.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lago_skills.errors import BudgetSpent
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.transcripts import Request, TranscriptFile, append_line

TEMPLATE_TOKENS = 256
"""What a chat template may put around a message."""


@dataclass(frozen=True)
class Cost:
    """Tokens and money of one exchange."""

    prompt: int = 0
    answer: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Both directions."""
        return self.prompt + self.answer

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.prompt + other.prompt, self.answer + other.answer, self.usd + other.usd)


def cost(config: LiveConfig, prompt: int, answer: int) -> Cost:
    """The price of so many tokens."""
    usd = prompt * config.usd_per_million_prompt_tokens + answer * config.usd_per_million_answer_tokens
    return Cost(prompt, answer, usd / 1e6)


PAID = "nano_usd"
"""Beside the counts of an exchange: what it cost at the prices of its day, in billionths of a dollar."""


def priced(config: LiveConfig, usage: dict[str, int]) -> dict[str, int]:
    """Token counts with what they cost now, where there are prices: a later change of prices does not change what was paid."""
    usd = cost_of(config, usage).usd
    return {**usage, PAID: round(usd * 1e9)} if usd else usage


def cost_of(config: LiveConfig, usage: dict[str, int]) -> Cost:
    """The price of an exchange by its token counts; what they leave out (hidden reasoning) is priced as the dearer kind."""
    if PAID in usage:
        counted = cost_of(config, {name: count for name, count in usage.items() if name != PAID})
        return Cost(counted.prompt, counted.answer, usage[PAID] / 1e9)
    total = usage.get("total_tokens")
    prompt, answer = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if total is not None and prompt is None and answer is not None:
        prompt = max(total - answer, 0)
    if total is not None and answer is None and prompt is not None:
        answer = max(total - prompt, 0)
    prompt, answer = prompt or 0, answer or 0
    rest = max((total or 0) - prompt - answer, 0)
    if config.usd_per_million_prompt_tokens > config.usd_per_million_answer_tokens:
        return cost(config, prompt + rest, answer)
    return cost(config, prompt, answer + rest)


def prompt_tokens(request: Request) -> int:
    """An upper bound for any script and tokenizer: none has more tokens than a text has bytes."""
    n_bytes = len(request.prompt.encode("utf-8", "replace")) + len(json.dumps(request.schema).encode())
    return n_bytes + TEMPLATE_TOKENS


def whole_usage(usage: dict[str, int], request: Request, written: str, cut_at: int = 0) -> dict[str, int]:
    """Token counts, the missing ones counted carefully: by bytes, of which a text has no fewer than tokens.

    Args:
        usage: what the server says.
        request: what was asked.
        written: everything that the model wrote, reasoning too.
        cut_at: the cap at which the answer was cut off, if it was.
    """
    if not any(usage.values()):
        usage = {}
    if "total_tokens" in usage or {"prompt_tokens", "completion_tokens"} <= usage.keys():
        total = usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)
        return {**usage, "total_tokens": max(usage.get("total_tokens", 0), total)}
    prompt = usage.get("prompt_tokens", prompt_tokens(request))
    words = usage.get("completion_tokens", cut_at or len(written.encode("utf-8", "replace")) + 1)
    return {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words, "estimated": 1}


@dataclass(frozen=True)
class Attempt:
    """One request on its way, or of which nobody knows what became of it."""

    name: str
    most: Cost
    """What it may cost."""
    request: dict[str, Any] = field(default_factory=dict[str, Any])
    """As in transcripts, with the request's `name` and, where a model was asked, its `model`; empty in journals of older versions."""
    reply: dict[str, Any] | None = None
    """What came back and was not judged yet: `status` and `body`."""


@dataclass
class Budget:
    """Spent and reserved tokens of one transcript file."""

    config: LiveConfig
    journal: Path
    spent: Cost
    open: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    """Attempts whose outcome is not known."""
    this_run: Cost = field(default_factory=Cost)
    """What was spent since this object was made."""

    @staticmethod
    def of(config: LiveConfig, transcripts: TranscriptFile) -> Budget:
        """What the transcript file and its journal say."""
        spent = Cost()
        for transcript in transcripts.all():
            spent += cost_of(config, transcript.usage)
        budget = Budget(config, journal_of(transcripts.path), spent)
        recorded = {transcript.attempt for transcript in transcripts.all()} - {""}
        for attempt in budget._read_journal() & recorded:
            budget._settle(attempt, "its answer is recorded")
        return budget

    def _read_journal(self) -> set[str]:
        """Read what was sent and came back; returns the names of attempts without an outcome."""
        if not self.journal.exists():
            return set()
        for line in self.journal.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                entry: dict[str, Any] = json.loads(line)
                self._read_entry(str(entry["attempt"]), entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a torn line was never acknowledged: nothing was sent for it
        return set(self.open)

    def _read_entry(self, attempt: str, entry: dict[str, Any]) -> None:
        if entry["event"] == "sent":
            most = cost(self.config, int(entry["prompt"]), int(entry["answer"]))
            self.open[attempt] = Attempt(attempt, most, entry.get("request", {}))
        elif entry["event"] == "reply" and attempt in self.open:
            sent = self.open[attempt]
            self.open[attempt] = Attempt(
                attempt, sent.most, sent.request, {"status": entry["status"], "body": entry["body"]}
            )
        elif entry["event"] == "settled":
            self.open.pop(attempt, None)
            self.spent += cost_of(self.config, entry.get("usage") or {})

    @property
    def reserved(self) -> Cost:
        """What attempts without an outcome may have cost."""
        total = Cost()
        for attempt in self.open.values():
            total += attempt.most
        return total

    def send(self, request: Request, model: str, cap: int) -> str:
        """Reserve the longest answer of a request, durably; returns the attempt's name.

        Raises:
            BudgetSpent: it does not fit.
        """
        most = cost(self.config, prompt_tokens(request), cap)
        self._require(request.name, most)
        attempt = uuid.uuid4().hex[:16]
        asked = {**asdict(request), "model": model, "cap": self.config.max_answer_tokens, "sent_cap": cap}
        self._write(
            {"event": "sent", "attempt": attempt, "prompt": most.prompt, "answer": most.answer, "request": asked}
        )
        self.open[attempt] = Attempt(attempt, most, asked)
        return attempt

    def _require(self, name: str, most: Cost) -> None:
        held = self.reserved
        tokens, usd = self.spent.tokens + held.tokens + most.tokens, self.spent.usd + held.usd + most.usd
        perhaps = (
            f"; {held.tokens:,} of {len(self.open)} attempts without an outcome count as spent: where the provider's bill shows that they are "
            "not, free them with: lago plan STUDY --unpaid"
            if held.tokens
            else ""
        )
        if tokens > self.config.budget_tokens:
            raise BudgetSpent(
                f"found {self.spent.tokens:,} tokens spent and {held.tokens:,} that may have been; request {name!r} may cost "
                f"{most.tokens:,} more; expected at most budget_tokens = {self.config.budget_tokens:,}; raise plan.live.budget_tokens or "
                f"lower max_answer_tokens{perhaps}"
            )
        if self.config.budget_usd is not None and usd > self.config.budget_usd:
            raise BudgetSpent(
                f"found {self.spent.usd:.4f} USD spent and {held.usd:.4f} that may have been; request {name!r} may cost {most.usd:.4f} more; "
                f"expected at most budget_usd = {self.config.budget_usd:g}; raise plan.live.budget_usd or lower max_answer_tokens{perhaps}"
            )

    def came_back(self, attempt: str, status: int, body: str) -> None:
        """Put a reply on disk, before anything is made of it."""
        reply = {"status": status, "body": body}
        self._write({"event": "reply", "attempt": attempt, **reply})
        sent = self.open[attempt]
        self.open[attempt] = Attempt(attempt, sent.most, sent.request, reply)

    def answered(self, attempt: str, usage: dict[str, int]) -> None:
        """Its answer is recorded in the transcript file, with this usage."""
        self._settle(attempt, "its answer is recorded")
        self._spend(usage)

    def not_paid(self, attempt: str, why: str) -> None:
        """It never arrived, or was refused."""
        self._settle(attempt, why)

    def paid_for_nothing(self, attempt: str, usage: dict[str, int], why: str) -> None:
        """It cost something, and there is no answer to record."""
        self._settle(attempt, why, usage)
        self._spend(usage)

    def forget_open(self) -> Cost:
        """Say of all attempts without an outcome that they were not paid; returns what they counted for."""
        freed = self.reserved
        for attempt in list(self.open):
            self._settle(attempt, "not paid, says a person")
        return Cost(
            freed.prompt - self.reserved.prompt, freed.answer - self.reserved.answer, freed.usd - self.reserved.usd
        )

    def _spend(self, usage: dict[str, int]) -> None:
        paid = cost_of(self.config, usage)
        self.spent += paid
        self.this_run += paid

    def _settle(self, attempt: str, why: str, usage: dict[str, int] | None = None) -> None:
        self._write({"event": "settled", "attempt": attempt, "why": why, **({"usage": usage} if usage else {})})
        self.open.pop(attempt, None)

    def _write(self, entry: dict[str, Any]) -> None:
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.journal, json.dumps(entry))

    def bill(self) -> str:
        """What this run cost, and how much of the budget is left, in a sentence."""
        money = self.config.budget_usd is not None or self.spent.usd > 0
        run = f"{self.this_run.prompt:,} prompt and {self.this_run.answer:,} answer tokens"
        whole = f"{self.spent.tokens:,} of {self.config.budget_tokens:,} tokens"
        if money:
            run += f", {self.this_run.usd:.4f} USD"
            whole += f", {self.spent.usd:.4f}{'' if self.config.budget_usd is None else f' of {self.config.budget_usd:g}'} USD"
        perhaps = f"; {self.reserved.tokens:,} more may have been" if self.open else ""
        return f"this run: {run}; spent in all: {whole}{perhaps}"


def journal_of(transcripts: Path) -> Path:
    """The journal beside a transcript file."""
    return transcripts.with_name(transcripts.name + ".asked")
