"""Tasks of a world as a training problem: when an episode ends, and what success is, are the world's to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.errors import StudyError
from lago_skills.guide.guides import Guide, LibraryGuide
from lago_skills.rl.envs import MakeEnv
from lago_skills.rl.guidance.advisers import GuideAdviser, LibraryAdviser
from lago_skills.rl.problem import Adviser, Problem, See
from lago_skills.worlds.grounding import Grounding, check_identity, goals, identity
from lago_skills.worlds.seeds import EVAL_SEED, TRAIN_SEED
from lago_skills.worlds.world import World

SEEDS_PER_RUN = 10_000
"""Start states of training kept for each seed of a run."""
EVALS_PER_RUN = 1_000
"""Start states of evaluation kept for each seed of a run."""


def world_problem(
    world: World,
    tasks: Sequence[Task],
    grounding: Grounding,
    guide: Guide | None,
    seed: int,
    *,
    reward: str | None = None,
    success_at_end: bool = False,
) -> Problem:
    """One environment per task side by side; networks see the decoder's inputs towards the goal and, of several tasks, which one it is.

    The same for plain and guided runs.

    Raises:
        StudyError: the guide was made for another environment or has no playbook of a task, or nobody says when a task is solved; or success is to be read at the
            end, in a world whose episodes end at success and cannot be played on.
    """
    if isinstance(guide, LibraryGuide):
        check_identity("guide", identity(guide.grounding), grounding)
    names = tuple(task.id for task in tasks)

    named: dict[str, Any] = {} if reward is None else {"reward": reward}

    def make(number: int) -> MakeEnv:
        return lambda: world.make(names[number], **named)

    world.check_success()
    if success_at_end and world.ends_at_success and not world.plays_on:
        raise StudyError(
            f"found success_at_end, and world {world.name!r}, whose episodes end at the first success; expected a world that can be played on; leave it out"
        )
    return Problem(
        name="+".join(names),
        tasks=names,
        make=make,
        env_tasks=tuple(range(len(tasks))),
        see=inputs_towards_goal(grounding, len(tasks)),
        adviser=adviser_of(guide, names),
        first_seed=TRAIN_SEED + seed * SEEDS_PER_RUN,
        eval_seed=EVAL_SEED + seed * EVALS_PER_RUN,
        success=world.success,
        ends_at_success=world.ends_at_success,
        success_at_end=success_at_end,
        horizon_steps=tuple(task.horizon_steps for task in tasks),
        parts=tuple(task.parts for task in tasks),
        instances=world.instances,
    )


def adviser_of(guide: Guide | None, tasks: Sequence[str]) -> Adviser | None:
    """Who advises on these tasks; None without a guide."""
    if guide is None:
        return None
    return LibraryAdviser(guide, tasks) if isinstance(guide, LibraryGuide) else GuideAdviser(guide, tasks)


def inputs_towards_goal(grounding: Grounding, n_tasks: int) -> See:
    """The decoder's inputs with the goal as target, and the number of the task as a one-hot vector where there are several."""

    def see(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[np.float32]:
        state = grounding.read(observations)
        inputs = state.inputs(goals(grounding, state))
        if n_tasks == 1:
            return inputs
        return np.concatenate([inputs, np.eye(n_tasks, dtype=np.float32)[tasks]], axis=1)

    return see
