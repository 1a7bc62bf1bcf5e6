"""Measure what the planner is told about each task's numbers. Slow, rare, and its result is committed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.planner.scenes import Scene, beside, course, ranges
from lago_skills.stages.workspace import Workspace
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.metaworld.env import SCENE_SEED, MetaWorldEnv, demonstrate
from lago_skills.worlds.metaworld.grounding import MetaWorldGrounding
from lago_skills.worlds.metaworld.tasks import METAWORLD_TASKS

N_STARTS, N_DEMONSTRATIONS, ACTION_NOISE_STD = 25, 10, 0.1


def _start(env: MetaWorldEnv, seed: int, idle: bool) -> NDArray[np.float64]:
    """The observation at the start, or after one idle step.

    Meta-World's first observation after a reset shows some things (windows, faucets, doors) where the last episode left
    them. Demonstrations show their true place; for tasks without any, the start is measured one idle step later.
    """
    observation, _ = env.reset(seed=seed)
    return env.step(np.array([0, 0, 0, -1], np.float32))[0] if idle else observation


def measure(demonstrated: tuple[Task, ...]) -> list[Scene]:
    """Ranges of every feature at the start, for all fifty tasks; in demonstrations too, for the demonstrated ones."""
    grounding = MetaWorldGrounding()
    found: list[Scene] = []
    for task in METAWORLD_TASKS.values():
        env = MetaWorldEnv(task)
        starts = np.stack([_start(env, SCENE_SEED + i, idle=task not in demonstrated) for i in range(N_STARTS)])
        shown = way = None
        if task in demonstrated:
            runs = [demonstrate(env, SCENE_SEED + i, ACTION_NOISE_STD) for i in range(N_DEMONSTRATIONS)]
            good = [run.observations for run in runs if run.success]
            shown = ranges(np.concatenate([grounding.values(each) for each in good]), grounding.features)
            way = course([_told(each, grounding) for each in good])
        found.append(Scene(task.id, ranges(grounding.values(starts), grounding.features), shown, way))
        env.close()
    return found


def _told(observations: NDArray[Any], grounding: Grounding) -> dict[str, NDArray[np.float64]]:
    """What the planner is told of one demonstration's course: every feature, and where the gripper is beside the thing."""
    values = grounding.values(observations)
    named = {feature.name: values[:, i] for i, feature in enumerate(grounding.features)}
    anchors = grounding.vocabulary.anchors
    return named | (beside(grounding.anchors(observations), anchors) if len(anchors) > 1 else {})


def measure_own(space: Workspace) -> list[Scene]:
    """Ranges of every feature at the start, for the tasks that a study defines itself.

    Raises:
        StudyError: an environment cannot be made, or its observation is not what the grounding was made for.
    """
    import gymnasium

    grounding = space.study.grounding
    found: list[Scene] = []
    for task in space.study.own_tasks.values():
        try:
            env: gymnasium.Env[Any, Any] = gymnasium.make(task.env_id)
        except Exception as error:  # each environment package fails in its own way
            raise StudyError(
                f"task {task.id!r}: found env_id = {task.env_id!r}, which cannot be made ({type(error).__name__}: {error}); "
                "expected a Gymnasium id; correct it or install the package"
            ) from error
        starts = [np.asarray(env.reset(seed=SCENE_SEED + i)[0], np.float64) for i in range(N_STARTS)]
        env.close()
        if any(start.shape != (grounding.observation_size,) for start in starts):
            raise StudyError(
                f"task {task.id!r}: found observations of shape {starts[0].shape}; expected "
                f"({grounding.observation_size},), as [environment] says; correct environment.observation_size"
            )
        found.append(Scene(task.id, ranges(grounding.values(np.stack(starts)), grounding.features)))
    return found
