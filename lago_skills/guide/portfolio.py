"""A portfolio: the plans of one task, of one library or of several, and who follows which.

Nobody has to have tried the plans: one that no longer comes forward hands over to the next, within an episode. How long a step may take is
known from how long the skills that answer it took in demonstrations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import StudyError
from lago_skills.guide.guides import LibraryGuide

PATIENCE, LEAST_STEPS = 2.0, 12.0
"""A step may take so many times as long as demonstrations took for it, and at least so many control steps."""


@dataclass(frozen=True)
class PlanOfTask:
    """One plan of a portfolio, and the guide that follows it and no other."""

    name: str
    guide: LibraryGuide


def portfolio(task: str, guides: Mapping[str, LibraryGuide]) -> tuple[PlanOfTask, ...]:
    """The plans of a task: first each guide's own of the task, then those of the guides' portfolios. With several guides, names begin with theirs.

    Raises:
        StudyError: no guide has a plan of the task.
    """
    named = [(name, guide, plan) for name, guide in guides.items() for plan in guide.plans(task)]
    if not named:
        known = sorted({book.task_id for guide in guides.values() for book in guide.books.values()})
        raise StudyError(
            f"found task {task!r}; expected one that a guide has a plan of, {known}; plan it and build again"
        )
    if len(named) == 1:
        return (PlanOfTask(task, named[0][1]),)
    ordered = sorted(named, key=lambda each: each[2] != task)
    return tuple(
        PlanOfTask(f"{name}: {plan}" if len(guides) > 1 else plan, guide.following(plan))
        for name, guide, plan in ordered
    )


class FollowedPlan:
    """A plan of a task with how long each of its steps may take.

    Args:
        guide: follows this plan and no other of the task.
        task: whose plan it is.
        patience: how many times as long as in demonstrations a step may take.
    """

    def __init__(self, guide: LibraryGuide, task: str, patience: float = PATIENCE) -> None:
        self.guide, self.task = guide, task
        self._limits = step_limits(guide, task, patience)
        self._written_backwards = guide.books[task].form == "numbers"

    def act(self, observations: NDArray[np.float64], progress: Sequence[Progress]) -> NDArray[Any]:
        """(B, S) observations, one control step of B episodes each -> actions; what is known of each episode goes on."""
        retrieval = self.guide.retrieve(observations, self.task)
        steps: list[int] = retrieval.steps.tolist()
        for each, step in zip(progress, steps, strict=True):
            n = len(self._limits)
            each.note(n - 1 - step if self._written_backwards else step, float(self._limits[step]), n)
        return self.guide.decode(retrieval).greedy()


@dataclass
class Progress:
    """How far an episode has come in a plan."""

    furthest: int = -1
    """The latest step that it has come to, in the order of time."""
    waited: int = 0
    """Control steps since."""
    share: float = 0.0
    """Of the plan's steps that have begun."""
    stalled: bool = False
    """Whether the present step takes too long."""

    def note(self, time: int, limit: float, n_steps: int) -> None:
        """Another control step in which this step of so many, by the order of time, is at work; it may take so long."""
        if time > self.furthest:
            self.furthest, self.waited, self.share = time, 0, (time + 1) / n_steps
        else:
            self.waited += 1
        self.stalled = self.waited >= limit


class PlanSwitch:
    """Plans of one task in an order; each episode begins with the first, and goes on with the next when a step takes too long.

    Args:
        task: whose plans they are.
        plans: in the order in which they are tried; after the last the first is tried again.
        patience: how many times as long as in demonstrations a step may take.
    """

    def __init__(self, task: str, plans: Sequence[PlanOfTask], patience: float = PATIENCE) -> None:
        self._plans = [FollowedPlan(plan.guide, task, patience) for plan in plans]
        self._led: dict[int, int] = {}
        self._progress: dict[int, Progress] = {}

    def act(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations of (B,) numbered episodes, one control step each -> what their plans do: a policy for `full_rollouts`."""
        numbers: list[int] = episodes.tolist()
        progress = [self._progress.setdefault(number, Progress()) for number in numbers]
        led = np.array([self._led.setdefault(number, 0) for number in numbers])
        actions: dict[int, Any] = {}
        leading: list[int] = np.unique(led).tolist()
        for place in leading:
            rows: list[int] = np.flatnonzero(led == place).tolist()
            acted = self._plans[place].act(observations[rows], [progress[row] for row in rows])
            actions |= dict(zip(rows, acted, strict=True))
        for number, each in zip(numbers, progress, strict=True):
            if each.stalled and len(self._plans) > 1:
                self._led[number] = (self._led[number] + 1) % len(self._plans)
                self._progress[number] = Progress()
        return np.stack([actions[row] for row in range(len(led))])


def step_limits(guide: LibraryGuide, plan: str, patience: float = PATIENCE) -> NDArray[np.float64]:
    """(n_steps,) control steps that each step of a plan may take, by how long the skills that answer it took in demonstrations."""
    neighbors, weights = guide.neighbors(plan)
    durations: dict[int, float] = {-1: 0.0}
    for number in np.unique(neighbors.ids[neighbors.ids >= 0]).tolist():
        support = guide.library.get(number).support
        durations[number] = support.get("steps", 0.0) / max(support.get("segments", 0.0), 1.0)
    usual = np.array([[durations[number] for number in row] for row in neighbors.ids.tolist()])
    means: NDArray[np.float64] = (weights * usual).sum(axis=1)
    return np.maximum(np.rint(patience * means), LEAST_STEPS)
