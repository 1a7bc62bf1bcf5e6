"""What has been spent, what is on its way, and whether one more request fits: the hard budget.

A journal beside the transcript file holds a line for every attempt before it is sent and one when its outcome is known.
An attempt without an outcome (the machine went down, the connection broke) may have been paid; it counts as if it were.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lago_skills.errors import BudgetSpent
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.transcripts import Request, TranscriptFile, append_line

CHARS_PER_TOKEN = 3.0
"""Fewer than English text has, so that estimates are on the safe side."""


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


def prompt_tokens(request: Request) -> int:
    """An estimate, on the safe side."""
    return int((len(request.prompt) + len(json.dumps(request.schema))) / CHARS_PER_TOKEN) + 16


@dataclass
class Budget:
    """Spent and reserved tokens of one transcript file."""

    config: LiveConfig
    journal: Path
    spent: Cost
    reserved: dict[str, Cost] = field(default_factory=dict[str, Cost])
    attempts: int = 0

    @staticmethod
    def of(config: LiveConfig, transcripts: TranscriptFile) -> Budget:
        """What the transcript file and its journal say."""
        spent = Cost()
        for transcript in transcripts.all():
            usage = transcript.usage
            answer = usage.get("completion_tokens", 0)
            spent += cost(config, usage.get("total_tokens", 0) - answer, answer)
        budget = Budget(config, transcripts.path.with_name(transcripts.path.name + ".asked"), spent)
        budget._read_journal()
        return budget

    def _read_journal(self) -> None:
        if not self.journal.exists():
            return
        for line in self.journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry: dict[str, Any] = json.loads(line)
                attempt = str(entry["attempt"])
                if entry["event"] == "sent":
                    self.reserved[attempt] = cost(self.config, int(entry["prompt"]), int(entry["answer"]))
                else:
                    self.reserved.pop(attempt, None)
            except (ValueError, KeyError, TypeError):
                continue  # a torn line was never acknowledged: nothing was sent for it

    def send(self, request: Request) -> str:
        """Reserve the longest answer of a request, durably; returns the attempt's name.

        Raises:
            BudgetSpent: it does not fit.
        """
        most = cost(self.config, prompt_tokens(request), self.config.max_answer_tokens)
        total = self.spent + most
        for held in self.reserved.values():
            total += held
        if total.tokens > self.config.budget_tokens:
            raise BudgetSpent(
                f"found {self.spent.tokens:,} tokens spent and {total.tokens - self.spent.tokens - most.tokens:,} that may "
                f"have been; request {request.name!r} may cost {most.tokens:,} more; expected at most "
                f"budget_tokens = {self.config.budget_tokens:,}; raise plan.live.budget_tokens or lower max_answer_tokens"
            )
        if self.config.budget_usd is not None and total.usd > self.config.budget_usd:
            raise BudgetSpent(
                f"found {self.spent.usd:.4f} USD spent; request {request.name!r} may bring that to {total.usd:.4f}; expected at "
                f"most budget_usd = {self.config.budget_usd:g}; raise plan.live.budget_usd or lower max_answer_tokens"
            )
        self.attempts += 1
        attempt = f"{request.key[:16]}.{len(self.reserved)}.{self.attempts}.{id(self):x}"
        entry = {"event": "sent", "attempt": attempt, "prompt": most.prompt, "answer": most.answer}
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.journal, json.dumps(entry))
        self.reserved[attempt] = most
        return attempt

    def settle(self, attempt: str, usage: dict[str, int] | None) -> None:
        """The outcome is known: what the answer cost, or nothing where the endpoint refused."""
        append_line(self.journal, json.dumps({"event": "settled", "attempt": attempt}))
        self.reserved.pop(attempt, None)
        if usage:
            answer = usage.get("completion_tokens", 0)
            self.spent += cost(self.config, usage.get("total_tokens", 0) - answer, answer)
