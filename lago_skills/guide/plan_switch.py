"""Following one plan of a portfolio at a time: a plan that no longer comes forward hands over to the next, within an episode.

Nobody has to have tried the plans: how long a step may take is known from how long the skills that answer it took in demonstrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.guide.guides import LibraryGuide

PATIENCE, LEAST_STEPS = 2.0, 12.0
"""A step may take so many times as long as demonstrations took for it, and at least so many control steps."""


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
        guide: knows the plans.
        plans: their names, in the order in which they are tried; after the last the first is tried again.
        patience: how many times as long as in demonstrations a step may take.
    """

    def __init__(self, guide: LibraryGuide, plans: Sequence[str], patience: float = PATIENCE) -> None:
        self.guide, self.plans = guide, tuple(plans)
        self._limits = [self._limit(plan, patience) for plan in self.plans]
        self._episodes: dict[int, _Progress] = {}

    def _limit(self, plan: str, patience: float) -> NDArray[np.float64]:
        """(n_steps,) control steps that each step of a plan may take."""
        neighbors, weights = self.guide.neighbors(plan)
        return np.maximum(patience * (weights * self._durations(neighbors.ids)).sum(axis=1), LEAST_STEPS)

    def _durations(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n_steps, K) control steps that skills took in demonstrations, the mean; 0 where there is none."""
        known: dict[int, float] = {-1: 0.0}
        for number in np.unique(ids[ids >= 0]).tolist():
            support = self.guide.library.get(number).support
            known[number] = support.get("steps", 0.0) / max(support.get("segments", 0.0), 1.0)
        return np.array([[known[number] for number in row] for row in ids.tolist()])

    def order_of_time(self, plan: str, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Steps of a plan by time: plans in numbers are written the last one first."""
        book = self.guide.books[plan]
        return len(book.steps) - 1 - steps if book.form == "numbers" else steps

    def act(self, observations: NDArray[np.float64], episodes: NDArray[np.int64]) -> NDArray[Any]:
        """(B, S) observations of (B,) numbered episodes, one control step each -> what their plans do: a policy for `full_rollouts`."""
        progress = [self._episodes.setdefault(number, _Progress()) for number in episodes.tolist()]
        led = np.array([each.plan for each in progress])
        actions: dict[int, Any] = {}
        for place in np.unique(led).tolist():
            rows = np.flatnonzero(led == place)
            retrieval = self.guide.retrieve(observations[rows], self.plans[place])
            actions |= dict(zip(rows.tolist(), self.guide.decode(retrieval).greedy(), strict=True))
            times = self.order_of_time(self.plans[place], retrieval.steps)
            for row, step, time in zip(rows.tolist(), retrieval.steps.tolist(), times.tolist(), strict=True):
                self._note(progress[row], time, float(self._limits[place][step]))
        return np.stack([actions[row] for row in range(len(led))])

    def _note(self, progress: _Progress, time: int, limit: float) -> None:
        if time > progress.furthest:
            progress.furthest, progress.waited = time, 0
            return
        progress.waited += 1
        if progress.waited >= limit and len(self.plans) > 1:
            progress.plan, progress.furthest, progress.waited = (progress.plan + 1) % len(self.plans), -1, 0
