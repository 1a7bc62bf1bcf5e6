"""Measure what the planner is told about each task's numbers. Slow, rare, and its result is committed."""

from __future__ import annotations

import numpy as np

from lago_skills.core import Task
from lago_skills.envs.grounding import MetaWorldGrounding
from lago_skills.envs.metaworld import SCENE_SEED, MetaWorldEnv, demonstrate
from lago_skills.envs.tasks import METAWORLD_TASKS
from lago_skills.planner.scenes import Scene, ranges

N_STARTS, N_DEMONSTRATIONS, ACTION_NOISE_STD = 25, 10, 0.1


def measure(demonstrated: tuple[Task, ...]) -> list[Scene]:
    """Ranges of every feature at the start, for all fifty tasks; in demonstrations too, for the demonstrated ones."""
    grounding = MetaWorldGrounding()
    found: list[Scene] = []
    for task in METAWORLD_TASKS.values():
        env = MetaWorldEnv(task)
        starts = np.stack([env.reset(seed=SCENE_SEED + i)[0] for i in range(N_STARTS)])
        shown = None
        if task in demonstrated:
            runs = [demonstrate(env, SCENE_SEED + i, ACTION_NOISE_STD) for i in range(N_DEMONSTRATIONS)]
            seen = np.concatenate([grounding.values(run.observations) for run in runs if run.success])
            shown = ranges(seen, grounding.features)
        found.append(Scene(task.id, ranges(grounding.values(starts), grounding.features), shown))
        env.close()
    return found
