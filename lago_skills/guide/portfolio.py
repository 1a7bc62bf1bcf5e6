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


@dataclass
class _Progress:
    """What is remembered of an episode."""

    plan: int = 0
    """Place among the plans."""
    furthest: int = -1
    """The latest step that this plan has come to, in the order of time."""
    waited: int = 0
    """Control steps since."""


class PlanSwitch:
    """Plans of one task in an order; each episode begins with the first, and goes on with the next when a step takes too long.

    Args:
        task: whose plans they are.
        plans: in the order in which they are tried; after the last the first is tried again.
        patience: how many times as long as in demonstrations a step may take.
    """

    def __init__(self, task: str, plans: Sequence[PlanOfTask], patience: float = PATIENCE) -> None:
        self.task, self.guides = task, tuple(plan.guide for plan in plans)
        self._limits = [step_limits(guide, task, patience) for guide in self.guides]
        self._episodes: dict[int, _Progress] = {}

    def act(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations of (B,) numbered episodes, one control step each -> what their plans do: a policy for `full_rollouts`."""
        progress = [self._episodes.setdefault(number, _Progress()) for number in episodes.tolist()]
        led = np.array([each.plan for each in progress])
        actions: dict[int, Any] = {}
        leading: list[int] = np.unique(led).tolist()
        for place in leading:
            rows, guide = np.flatnonzero(led == place), self.guides[place]
            retrieval = guide.retrieve(observations[rows], self.task)
            actions |= dict(zip(rows.tolist(), guide.decode(retrieval).greedy(), strict=True))
            book, steps = guide.books[self.task], retrieval.steps
            times = len(book.steps) - 1 - steps if book.form == "numbers" else steps  # written the last one first
            for row, step, time in zip(rows.tolist(), steps.tolist(), times.tolist(), strict=True):
                self._note(progress[row], time, float(self._limits[place][step]))
        return np.stack([actions[row] for row in range(len(led))])

    def _note(self, progress: _Progress, time: int, limit: float) -> None:
        if time > progress.furthest:
            progress.furthest, progress.waited = time, 0
            return
        progress.waited += 1
        if progress.waited >= limit and len(self.guides) > 1:
            progress.plan, progress.furthest, progress.waited = (progress.plan + 1) % len(self.guides), -1, 0


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
