"""What a training run does around its algorithm: begin or go on, step, log, keep checkpoints, evaluate at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from lago_skills.core import Episode
from lago_skills.errors import DiskFull
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader
from lago_skills.rl.problem import EpisodeOutcome
from lago_skills.rl.runlog import Row, RunLog

Agent = TypeVar("Agent")
Report = Callable[[int, Row], None]
REPORT_EVERY = 100
"""Environment steps."""


@dataclass(frozen=True)
class TrainResult(Generic[Agent]):
    """A finished run."""

    agent: Agent
    leader: Leader
    """Who leads greedy episodes; where the policy stands alone, always the policy."""
    curve: list[Row]
    final: list[EpisodeOutcome]
    harvested: list[Episode]
    """Successful training episodes, in the order in which they ended."""
    earlier_s: float
    """Wall time of the parts of the run before this call, seconds; 0 where it was not cut."""


class Loop(Protocol):
    """One run of an algorithm."""

    step: int
    """Environment steps so far."""

    def recipe(self) -> dict[str, Any]:
        """What the run is made from, so that a checkpoint of another one is not gone on from."""
        ...

    def begin(self, saved: Checkpoint | None) -> None:
        """Start, or go on from a checkpoint."""
        ...

    def advance(self, tick: Callable[[int], None]) -> None:
        """Some steps of the environments, and the updates that are due for them; tells the step now and then."""
        ...

    def due(self) -> bool:
        """Whether a row of the log is due."""
        ...

    def row(self) -> Row:
        """Evaluate, and say how things stand."""
        ...

    def checkpoint(self, curve: list[Row]) -> Checkpoint:
        """Everything that the run goes on from."""
        ...

    def evaluate(self, n_episodes: int) -> list[EpisodeOutcome]:
        """Greedy episodes on the evaluation seeds, so many of each task."""
        ...

    def close(self) -> None:
        """Free the environments."""
        ...


@dataclass
class Window:
    """What happened since the last row of the log."""

    successes: list[bool] = field(default_factory=list[bool])
    returns: list[float] = field(default_factory=list[float])
    prior_steps: int = 0
    steps: int = 0

    def success(self) -> float:
        """Share of the episodes that succeeded."""
        return float(np.mean(self.successes or [0.0]))

    def mean_return(self) -> float:
        """Of the episodes."""
        return float(np.mean(self.returns or [0.0]))

    def prior_share(self) -> float:
        """Share of the steps at which the prior acted."""
        return self.prior_steps / max(self.steps, 1)


def drive(
    loop: Loop,
    n_steps: int,
    log_keys: Sequence[str],
    recipe: dict[str, Any] | None,
    folder: Path | None,
    final_episodes: int,
    report: Report,
) -> tuple[list[Row], list[EpisodeOutcome], float]:
    """Run a loop to its end; returns the log, the last evaluation, and the seconds that earlier parts of the run took. The loop is closed, whatever happens.

    With a `folder`, the log and a checkpoint go there at each row, and a checkpoint of the same recipe that is there is gone on from.
    """
    started = time.perf_counter()
    try:
        recipe = recipe or loop.recipe()
        saved = Checkpoint.load(folder / "checkpoint", recipe) if folder is not None else None
        earlier_s = float(saved.values["wall_s"]) if saved is not None else 0.0
        loop.begin(saved)
        log = RunLog(folder, log_keys, saved.values["curve"] if saved is not None else ())
        while loop.step < n_steps:
            loop.advance(lambda step: report(step, log.rows[-1] if log.rows else {}))
            if loop.due():
                log.add(loop.row())
                if folder is not None:
                    kept = loop.checkpoint(log.rows)
                    kept.values["wall_s"] = earlier_s + time.perf_counter() - started
                    _keep(kept, folder / "checkpoint", recipe)
        log.close()
        return log.rows, loop.evaluate(final_episodes) if final_episodes else [], earlier_s
    finally:
        loop.close()


def _keep(checkpoint: Checkpoint, folder: Path, recipe: dict[str, Any]) -> None:
    """Keep a checkpoint on disk; where there is no room, the one of before stays and the run goes on."""
    try:
        checkpoint.save(folder, recipe)
    except DiskFull as error:
        print(f"lago: {error}; training goes on", file=sys.stderr)  # noqa: T201
