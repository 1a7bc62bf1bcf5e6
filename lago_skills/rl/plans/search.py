"""The numbers of a plan are parameters: a small evolution over its pace, offsets and thresholds, in episodes of the task itself, once a step that is in the way is left out.

Cross-entropy search (Rubinstein 1999; de Boer et al. 2005) with a spread for each number. The candidates of a generation meet the same start
state, so that they are compared by what they do and not by where they begin. An episode is worth the more, the sooner it succeeds; without success,
the further it came in the order of the plan, so that there is something to climb before the first success. An episode in which the plan comes no further is given up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lago_skills.core import Episode
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.plan_numbers import Floats, numbers_of, with_numbers
from lago_skills.guide.portfolio import FollowedPlan, PlanOfTask, Progress
from lago_skills.rl.algorithm import steps_unsolved
from lago_skills.rl.envs import Watched
from lago_skills.rl.plans.trial import SPEED_SHARE, play
from lago_skills.rl.problem import Problem

N_CANDIDATES, N_BEST = 8, 4
FIRST_SPREAD, LEAST_SPREAD, MOST_SPREAD = 0.5, 0.15, 2.0
"""Of the candidates, in units of how far a number may usually be off."""
WIDENING, FORGETTING, LEARNING = 1.2, 0.2, 0.8
"""By how much the spread grows where nothing is any good; shares by which spread and middle follow the best candidates."""
N_SHORTENED = 3
"""Start states on which the plan is compared with itself without one of its steps, before its numbers are searched."""
N_COMPARED = 12
"""Fresh start states in which what was found is compared with the plan as it was: it has to do better, and may not fail more often."""
SHARES = (1.0, 0.5)
"""Of the way from the plan's own numbers to those that were found, tried in this order."""
PATIENCE = 4.0
"""A step may take so many times as long as in demonstrations before an episode is given up; plans that succeed in the end take longer than those that are shown."""
PROGRESS_SHARE = 0.4
"""What an episode without success is worth that came to the last step; a success is worth at least half."""


@dataclass(frozen=True)
class SearchedPlan:
    """What a search came to."""

    plan: PlanOfTask
    """With the numbers that were found, or as it was where they did no better."""
    improved: bool
    steps: int
    """Environment steps that it took."""
    episodes: int
    n_starts: int
    """Start states that were used."""
    worth: tuple[float, float]
    """Mean worth of the plan as it was and as it was found, over the episodes of the comparison."""
    harvested: tuple[Episode, ...] = field(repr=False)
    """Successful episodes."""
    first_success: int | None = None
    """Number of the first of them, from 1; None where there was none."""

    def record(self) -> dict[str, Any]:
        """As plain values, all but plan and episodes."""
        names = ("improved", "steps", "episodes", "n_starts", "first_success")
        return {"worth": [*self.worth], **{name: getattr(self, name) for name in names}}

    def summary(self) -> dict[str, Any]:
        """As plain values: `improved`, `steps`, `episodes`, and the plan's worth as it was (`before`) and as it was found (`after`)."""
        before, after = (round(each, 4) for each in self.worth)
        return {
            "improved": self.improved,
            "steps": self.steps,
            "episodes": self.episodes,
            "before": before,
            "after": after,
        }


class Evolution:
    """The middle and the spread of candidates, from generation to generation.

    Args:
        start: (n,) the numbers to begin with.
        scales: (n,) by how much each may usually be off.
        seed: of the candidates.
    """

    def __init__(self, start: Floats, scales: Floats, seed: int) -> None:
        self.middle, self.scales = start.copy(), scales
        self.spread = FIRST_SPREAD * scales
        self._rng = np.random.default_rng(seed)
        ranks = np.log(N_BEST + 0.5) - np.log(np.arange(1, N_BEST + 1))
        self._weights = ranks / ranks.sum()

    def candidates(self) -> Floats:
        """(N_CANDIDATES, n): the middle itself, and others around it."""
        noise = self._rng.normal(size=(N_CANDIDATES, len(self.middle)))
        noise[0] = 0.0
        return self.middle + self.spread * noise

    def learn(self, candidates: Floats, worths: Floats) -> None:
        """Move towards the best; where all are alike, look further away."""
        if np.ptp(worths) < 1e-9:
            self.spread = np.minimum(WIDENING * self.spread, MOST_SPREAD * self.scales)
            return
        order = np.argsort(-worths, kind="stable")[:N_BEST]
        best = candidates[order]
        middle = self._weights @ best
        found = np.sqrt(self._weights @ (best - self.middle) ** 2)
        self.spread = np.clip(
            (1.0 - FORGETTING) * self.spread + FORGETTING * found, LEAST_SPREAD * self.scales, MOST_SPREAD * self.scales
        )
        self.middle = self.middle + LEARNING * (middle - self.middle)


def search_plan(
    problem: Problem, plan: PlanOfTask, n_steps: int, seed: int, *, rival: PlanOfTask | None = None, task: int = 0
) -> SearchedPlan:
    """Search the numbers of a plan for about so many environment steps, comparison included: of a plan in words its pace.

    Args:
        problem: the task's environment and rule of success; start states are its `first_seed` and those after it.
        plan: whose numbers are searched, and who follows it.
        n_steps: of the environment, about.
        seed: of the candidates.
        rival: what is to be followed unless what was found does better; the plan as it was, by default.
        task: number of the task in the problem.

    Raises:
        StudyError: spaces that cannot be used, or a rule of success that looks at what the environment does not show.
    """
    name, kept = problem.tasks[task], rival or plan
    grounding = plan.guide.grounding
    if plan.guide.books[name].form == "words" and grounding.action_space.discrete:  # there is no pace
        return SearchedPlan(kept, improved=False, steps=0, episodes=0, n_starts=0, worth=(0.0, 0.0), harvested=())
    runs = Runs(problem, task)
    try:
        begun = _without_a_step(plan.guide, name, runs, n_steps // 2)
        start, scales = numbers_of(begun.books[name], grounding.vocabulary)

        def guide_of(values: Floats) -> LibraryGuide:
            changed = with_numbers(begun.books[name], values, grounding.vocabulary)
            return begun.with_steps(changed, begun.step_latents[name])

        evolution, generation = Evolution(start, scales, seed), N_SHORTENED
        longest = 0
        while runs.steps + (N_CANDIDATES + 3 * N_COMPARED) * longest < n_steps:
            before, candidates = runs.steps, evolution.candidates()
            worths = list[float]()
            for values in candidates:
                worths.append(runs.worth(guide_of(values), generation, at_least=_to_beat(worths)))
            evolution.learn(candidates, np.array(worths))
            generation += 1
            longest = max(longest, -(-(runs.steps - before) // N_CANDIDATES))
        if generation == N_SHORTENED and begun is plan.guide and kept is plan:  # there were no steps for a generation
            worth = (0.0, 0.0)
            return SearchedPlan(kept, improved=False, worth=worth, n_starts=generation, **runs.counts())
        places = range(generation, generation + N_COMPARED)
        as_it_was = runs.worths(kept.guide, places)
        better, found = None, as_it_was
        for share in SHARES:
            guide = guide_of(start + share * (evolution.middle - start))
            found = runs.worths(guide, places, most_failures=_failures(as_it_was))
            if _failures(found) <= _failures(as_it_was) and found.mean() > as_it_was.mean():
                better = PlanOfTask(plan.name, guide)
                break
    finally:
        runs.env.close()
    return SearchedPlan(
        better or kept,
        improved=better is not None,
        worth=(float(as_it_was.mean()), float(found.mean())),
        n_starts=generation + N_COMPARED,
        **runs.counts(),
    )


def _failures(worths: Floats) -> int:
    return int((worths <= PROGRESS_SHARE).sum())


def _without_a_step(guide: LibraryGuide, task: str, runs: Runs, most_steps: int) -> LibraryGuide:
    """Who follows the plan in numbers without the step that it does better without, as far as so many environment steps tell; the plan itself else."""
    book, latents = guide.books[task], guide.step_latents[task]
    places = range(N_SHORTENED)
    worths = [runs.worth(guide, place) for place in places]
    best, to_beat = guide, float(np.mean(worths))
    if book.form == "words" or len(book.steps) == 1:
        return best
    for number in range(len(book.steps)):
        if runs.steps >= most_steps:
            break
        left = [step for place, step in enumerate(book.steps) if place != number]
        left[-1] = replace(left[-1], when=())  # the last step is what is done where no other is
        shorter = guide.with_steps(replace(book, steps=tuple(left)), np.delete(latents, number, axis=0))
        total = 0.0
        for place in places:
            total += runs.worth(shorter, place, at_least=worths[place])
            if total + len(places) - 1 - place <= to_beat * len(places):
                break
        if total / len(places) > to_beat:
            best, to_beat = shorter, total / len(places)
    return best


def _to_beat(worths: Sequence[float]) -> float:
    """What the next candidate must be worth to be among the best, where so many have succeeded."""
    return sorted(worths)[-N_BEST] if len(worths) >= N_BEST and sorted(worths)[-N_BEST] > PROGRESS_SHARE else 0.0


class Runs:
    """Episodes of plans with different numbers, in one environment, and what they took together."""

    def __init__(self, problem: Problem, task: int) -> None:
        self.problem, self.task = problem, problem.tasks[task]
        self.env = Watched(problem.judged(task), f"search environment ({self.task})")
        limits = problem.horizon_steps
        self.horizon = limits[task] if isinstance(limits, tuple) else limits
        self.steps = self.episodes = 0
        self.harvested: list[Episode] = []
        self.first_success: int | None = None

    def counts(self) -> dict[str, Any]:
        """What a search took, and what succeeded in it."""
        harvested = tuple(self.harvested)
        return {
            "steps": self.steps,
            "episodes": self.episodes,
            "harvested": harvested,
            "first_success": self.first_success,
        }

    def worths(self, guide: LibraryGuide, places: Sequence[int], most_failures: int | None = None) -> Floats:
        """(n,) of one episode from each of the start states, in order, or (fewer,) up to the first failure too many."""
        worths = list[float]()
        for place in places:
            worths.append(self.worth(guide, place))
            if most_failures is not None and _failures(np.array(worths)) > most_failures:
                break
        return np.array(worths)

    def worth(self, guide: LibraryGuide, place: int, at_least: float = 0.0) -> float:
        """Of one episode from a start state; it is given up where it can no longer be worth at least so much, and is then worth nothing more than its progress."""
        followed, progress, n_done = FollowedPlan(guide, self.task, PATIENCE), Progress(), itertools.count(1)

        def given_up() -> bool:
            most = 1.0 - SPEED_SHARE * next(n_done) / self.horizon if self.horizon else 1.0
            return progress.stalled or most < at_least

        episode = play(
            self.env,
            lambda observation: followed.act(observation[None], [progress])[0],
            self.task,
            self.problem.first_seed + place,
            given_up,
        )
        n_steps = len(episode.actions)
        self.steps, self.episodes = self.steps + n_steps, self.episodes + 1
        if not episode.success:
            return PROGRESS_SHARE * progress.share
        self.first_success = self.first_success or self.episodes
        self.harvested.append(episode)
        return 1.0 - SPEED_SHARE * steps_unsolved(episode.rewards.tolist()) / (self.horizon or n_steps)
