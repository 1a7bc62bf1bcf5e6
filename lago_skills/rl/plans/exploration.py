"""Where nothing has succeeded: variations of the plans, by other skills of the library, about other anchors, headed elsewhere.

A variation is followed for a whole episode, so that what is tried is a course of action and not noise on motors. Steps are answered by skills that are
near their own in the library, where the plan's idea may be right and its words wrong. A variation that succeeds is followed from other start states before it is believed: one
success may be an accident.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Playbook, Step
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.plan_numbers import numbers_of
from lago_skills.guide.portfolio import FollowedPlan, PlanOfTask, Progress
from lago_skills.rl.envs import Watched
from lago_skills.rl.plans.trial import play
from lago_skills.rl.problem import Problem

N_NEAR = 8
"""Skills near a step's own, one of which may answer it instead."""
MOST_CHANGES = 2
"""Of a plan at once."""
FAR = 2.5
"""A target moves by about so many times as far as its offset may usually be off; a threshold likewise."""
N_CONFIRMING, ENOUGH = 5, 0.6
"""Episodes from other start states in which a variation that succeeded is followed, and the share of them with which exploration ends."""


@dataclass(frozen=True)
class ExploredPlan:
    """What an exploration came to."""

    plan: PlanOfTask | None
    """The variation that succeeded most; None where none did again."""
    changes: tuple[str, ...]
    """What it does otherwise than the plan that it comes from."""
    share: float
    """Of the confirming episodes, how many succeeded."""
    steps: int
    """Environment steps that it took."""
    episodes: int
    """Each from a start state of its own."""
    harvested: tuple[Episode, ...] = field(repr=False)
    """Successful episodes."""
    first_success: int | None = None
    """Number of the first of them, from 1; None where there was none."""

    @property
    def n_starts(self) -> int:
        """Start states that were used."""
        return self.episodes

    def record(self) -> dict[str, Any]:
        """As plain values, all but plan and episodes; `improved` where there is one."""
        names = ("share", "steps", "episodes", "first_success")
        values = {name: getattr(self, name) for name in names}
        return {"improved": self.plan is not None, "changes": [*self.changes], **values}

    def summary(self) -> dict[str, Any]:
        """As plain values: `steps`, `episodes`, `changes` and the `share` of the confirming episodes that succeeded."""
        return {"steps": self.steps, "episodes": self.episodes, "changes": [*self.changes], "share": self.share}


def explore_plans(
    problem: Problem, plans: Sequence[PlanOfTask], n_steps: int, seed: int, *, tried: bool = True, task: int = 0
) -> ExploredPlan:
    """Follow variations of the plans in numbers in turns, for about so many environment steps or until one of them succeeds mostly.

    Args:
        problem: the task's environment and rule of success; start states are its `first_seed` and those after it.
        plans: of the task, and who follows each; those in words are left out.
        n_steps: of the environment; no episode begins after them.
        seed: of the variations.
        tried: whether the plans as they are have failed; else each is followed before its variations.
        task: number of the task in the problem.

    Raises:
        StudyError: spaces that cannot be used, or a rule of success that looks at what the environment does not show.
    """
    name, rng = problem.tasks[task], np.random.default_rng(seed)
    varied = [plan for plan in plans if plan.guide.books[name].form == "numbers"]
    episodes, best = _Episodes(problem, task), ExploredPlan(None, (), 0.0, 0, 0, ())
    number = 0
    try:
        while varied and episodes.steps < n_steps and best.share < ENOUGH:
            plan, as_it_is = varied[number % len(varied)], not tried and number < len(varied)
            number += 1
            variation, changes = (plan.guide, ()) if as_it_is else vary(plan.guide, name, rng)
            if not episodes.follow(variation):
                continue
            share = sum(episodes.follow(variation) for _ in range(N_CONFIRMING)) / N_CONFIRMING
            if share > best.share:
                best = replace(best, plan=PlanOfTask(plan.name, variation), changes=changes, share=share)
    finally:
        episodes.env.close()
    return replace(
        best,
        steps=episodes.steps,
        episodes=episodes.n,
        harvested=tuple(episodes.harvested),
        first_success=episodes.first_success,
    )


class _Episodes:
    """One after another, each from the next start state."""

    def __init__(self, problem: Problem, task: int) -> None:
        self.task, self.first_seed = problem.tasks[task], problem.first_seed
        self.env = Watched(problem.judged(task), f"exploration environment ({self.task})")
        self.steps = self.n = 0
        self.harvested: list[Episode] = []
        self.first_success: int | None = None

    def follow(self, guide: LibraryGuide) -> bool:
        """Whether an episode by this plan succeeded; it is given up where the plan comes no further."""
        followed, progress = FollowedPlan(guide, self.task), Progress()
        episode = play(
            self.env,
            lambda observation: followed.act(observation[None], [progress])[0],
            self.task,
            self.first_seed + self.n,
            lambda: progress.stalled,
        )
        self.n, self.steps = self.n + 1, self.steps + len(episode.actions)
        if episode.success:
            self.harvested.append(episode)
            self.first_success = self.first_success or self.n
        return episode.success


def vary(guide: LibraryGuide, task: str, rng: np.random.Generator) -> tuple[LibraryGuide, tuple[str, ...]]:
    """Who follows a variation of the task's plan in numbers, and what it does otherwise, in words."""
    book, latents = guide.books[task], guide.step_latents[task].copy()
    steps, changes = [*book.steps], list[str]()
    offset_scale, threshold_scales = _scales(book, guide)
    for _ in range(int(rng.integers(1, MOST_CHANGES + 1))):
        number = int(rng.integers(len(steps)))
        kinds = [_other_skill]
        if steps[number].target is not None:
            kinds += [_other_anchor, _moved_target, _moved_target]  # there are many ways to be headed elsewhere
        if steps[number].when:
            kinds.append(_moved_threshold)
        change = kinds[int(rng.integers(len(kinds)))]
        own = _Varied(guide, rng, latents[number], offset_scale, threshold_scales)
        steps[number], latents[number], text = change(steps[number], own)
        changes.append(f"step {number + 1}: {text}")
    return guide.with_steps(replace(book, steps=tuple(steps)), latents), tuple(changes)


@dataclass(frozen=True)
class _Varied:
    """What the changes of a step need to know."""

    guide: LibraryGuide
    rng: np.random.Generator
    latent: NDArray[np.float32]  # (Z,) of the step
    offset_scale: float
    threshold_scales: dict[str, float]


Change = Callable[[Step, _Varied], tuple[Step, NDArray[np.float32], str]]


def _scales(book: Playbook, guide: LibraryGuide) -> tuple[float, dict[str, float]]:
    """By how much an offset, and a threshold of each feature, moves."""
    _, scales = numbers_of(book, guide.grounding.vocabulary)
    places = iter(scales[1:].tolist())  # the pace stays
    offset, thresholds = 0.0, dict[str, float]()
    for step in book.steps:
        for _ in step.target.offset if step.target else ():
            offset = FAR * next(places)
        for condition in step.when:
            thresholds[condition.feature] = FAR * next(places)
    return offset, thresholds


def _other_skill(step: Step, own: _Varied) -> tuple[Step, NDArray[np.float32], str]:
    library = own.guide.library
    near: list[int] = library.search(own.latent[None], min(N_NEAR + 1, library.n_active)).ids[0].tolist()
    others = [skill for skill in near if skill >= 0 and library.get(skill).sentence != step.skill] or near[:1]
    skill = others[int(own.rng.integers(len(others)))]
    sentence = library.get(skill).sentence
    return replace(step, skill=sentence), library.latents(np.array([skill]))[0], f'"{sentence}"'


def _other_anchor(step: Step, own: _Varied) -> tuple[Step, NDArray[np.float32], str]:
    assert step.target is not None
    anchors = [each for each in own.guide.grounding.vocabulary.anchors if each != step.target.anchor]
    anchor = anchors[int(own.rng.integers(len(anchors)))] if anchors else step.target.anchor
    return replace(step, target=replace(step.target, anchor=anchor)), own.latent, f"heads for {anchor}"


def _moved_target(step: Step, own: _Varied) -> tuple[Step, NDArray[np.float32], str]:
    assert step.target is not None
    largest = own.guide.grounding.vocabulary.largest_offset
    before = np.array(step.target.offset)
    after = np.clip(before + own.offset_scale * own.rng.normal(size=len(before)), -largest, largest)
    text = " ".join(f"{value:+.3g}" for value in after - before)
    return replace(step, target=replace(step.target, offset=tuple(after.tolist()))), own.latent, f"headed {text} away"


def _moved_threshold(step: Step, own: _Varied) -> tuple[Step, NDArray[np.float32], str]:
    when = [*step.when]
    place = int(own.rng.integers(len(when)))
    condition = when[place]
    value = condition.value + own.threshold_scales[condition.feature] * float(own.rng.normal())
    when[place] = replace(condition, value=value)
    return replace(step, when=tuple(when)), own.latent, f"when {condition.feature} {condition.op} {value:.3g}"
