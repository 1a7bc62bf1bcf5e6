"""Asking that is killed at any write to disk, of a server that fails at random."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lago_skills.llm import asker, spending, transcripts
from lago_skills.llm.config import LiveConfig
from lago_skills.llm.live import LiveClient
from lago_skills.llm.transcripts import HUMAN, Request, TranscriptFile, answered
from tests.endpoint import Reply

FAULTS = (
    Reply(status=429, content="try again in 5ms"),
    Reply(status=500, content="oops"),
    Reply(reset=True),
    Reply(raw=b"<html>login</html>"),
)


class Killed(BaseException):
    """The process ends here."""


class UnsteadyServer:
    """Answers three of ten requests with a fault; `paid` counts what it answered in full, by prompt."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.paid: Counter[str] = Counter()

    def __call__(self, before: int, body: dict[str, Any]) -> Reply:
        if self._rng.random() < 0.3:
            return self._rng.choice(FAULTS)
        self.paid[body["messages"][0]["content"]] += 1
        return Reply(content=self._rng.choice(["no plan", Reply().content]))


class Kills:
    """Ends the process before a write to disk, in its middle, or after it: each in one of fifty writes."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._write = rng, transcripts.append_line
        self.count = 0

    def __call__(self, path: Path, line: str) -> None:
        moment = self._rng.random()
        if moment < 0.02:
            self._kill()
        if moment < 0.04:
            with path.open("a", encoding="utf-8") as file:
                file.write(line[: len(line) // 2])
            self._kill()
        self._write(path, line)
        if moment < 0.06:
            self._kill()

    def _kill(self) -> None:
        self.count += 1
        raise Killed

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Every line goes through here."""
        with pytest.MonkeyPatch.context() as patch:
            for module in (transcripts, spending):
                patch.setattr(module, "append_line", self)
            yield


def ask_until_done(
    config: LiveConfig, requests: list[Request], path: Path, kills: Kills, rng: random.Random, most_runs: int = 60
) -> None:
    """Run after run, killed and started again, with a person's edits in between, until nothing is open."""
    for _ in range(most_runs):
        try:
            with kills.at_work():
                _run(config, requests, path)
        except Killed:
            pass
        except BaseExceptionGroup as group:
            if group.subgroup(Killed) is None:
                raise
        file = TranscriptFile(path)
        if not asker.open_requests(requests, {}, file, config.model):
            return
        if rng.random() < 0.3 and len(file):
            last = next(iter(file.all()))
            file.append(
                answered(
                    Request(last.name, str(last.request["messages"][0]["content"])),
                    "mine",
                    HUMAN,
                    "edit",
                    parent=last.id,
                )
            )


def _run(config: LiveConfig, requests: list[Request], path: Path) -> None:
    file = TranscriptFile(path)
    client = LiveClient(config, file, lambda event: None, lambda: False)
    client.judge_what_came_back()
    asyncio.run(client.ask(asker.open_requests(requests, {}, file, config.model)))
