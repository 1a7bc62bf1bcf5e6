"""Measure what the planner is told about each task's numbers. Slow, rare, and its result is committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode, Task
from lago_skills.errors import StudyError
from lago_skills.planner.scenes import Scene, beside, course, ranges
from lago_skills.worlds.grounding import GOAL, Grounding
from lago_skills.worlds.rollouts import record
from lago_skills.worlds.seeds import SCENE_SEED
from lago_skills.worlds.world import Env, World

N_STARTS, N_DEMONSTRATIONS, ACTION_NOISE_STD = 25, 10, 0.1


def measure(
    world: World, demonstrated: tuple[Task, ...], recorded: Mapping[str, Sequence[Episode]] | None = None
) -> list[Scene]:
    """Ranges of every feature at the start, for all tasks of a world; in demonstrations too, for the demonstrated ones.

    Demonstrations are the successful ones of `recorded`, by task, and of a task without any, the demonstrator's.

    Demonstrations show the true place of things; for tasks without any, the start is measured one idle step later where a world
    needs that.

    Raises:
        StudyError: an environment cannot be made, its observation is not what the grounding was made for, or no demonstration succeeds.
    """
    grounding = world.grounding
    scenes: list[Scene] = []
    for task in world.tasks.values():
        env = world.make(task.id)
        idle = None if task in demonstrated else world.settle
        starts = np.stack([_start(env, SCENE_SEED + i, idle) for i in range(N_STARTS)])
        shown = way = solved = None
        try:
            good = _successes(world, task, env, (recorded or {}).get(task.id)) if task in demonstrated else []
        finally:
            env.close()
        if good:
            values = np.concatenate([grounding.read(each.observations).values for each in good])
            shown = ranges(values, grounding.vocabulary.features)
            way = course([_course_values(each.observations, grounding) for each in good])
            solved = None if world.ends_at_success else _solved(good)
        at_start = ranges(grounding.read(starts).values, grounding.vocabulary.features)
        scenes.append(Scene(task.id, at_start, shown, way, solved))
    return scenes


def _successes(world: World, task: Task, env: Env, recorded: Sequence[Episode] | None) -> list[Episode]:
    """Successful demonstrations; none where nobody demonstrates."""
    if recorded is not None:
        runs = list(recorded)
    else:
        demonstrator = world.demonstrator_in(task.id, env)
        if demonstrator is None:
            return []
        seeds = range(SCENE_SEED, SCENE_SEED + N_DEMONSTRATIONS)
        runs = [record(env, demonstrator, task.id, seed, ACTION_NOISE_STD, world) for seed in seeds]
    good = [run for run in runs if run.success]
    if not good:
        raise StudyError(
            f"task {task.id!r}: found no success in {len(runs)} {'recorded episodes' if recorded is not None else 'demonstrations'} (rule: {world.success_text}); "
            f"expected some; correct {'the data' if recorded is not None else 'the demonstrator'} or the rule of success"
        )
    return good


def _solved(episodes: Sequence[Episode]) -> int | None:
    """Per cent of their length after which episodes are solved, the median; None where none says when."""
    shares = [100.0 * (each.success_step + 1) / len(each.actions) for each in episodes if each.success_step is not None]
    return round(float(np.median(shares))) if shares else None


def _start(env: Env, seed: int, idle: NDArray[Any] | None) -> NDArray[np.float64]:
    """The observation at the start, or after one idle step."""
    observation, _ = env.reset(seed=seed)
    return np.asarray(observation if idle is None else env.step(idle)[0], np.float64)


def _course_values(observations: NDArray[Any], grounding: Grounding) -> dict[str, NDArray[np.float64]]:
    """One demonstration's course as the planner sees it: every feature, and where there is one thing, where the effector is from it."""
    state, anchors = grounding.read(observations), grounding.vocabulary.anchors
    values = state.values
    named = {feature.name: values[:, i] for i, feature in enumerate(grounding.vocabulary.features)}
    of_one_thing = GOAL in anchors or len(anchors) in (2, 3)
    return named | (beside(state.anchors, anchors) if of_one_thing else {})
