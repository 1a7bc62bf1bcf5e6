"""A problem of one's own with a bundle's advice, in one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium

from lago_skills.errors import StudyError
from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.guides import LibraryGuide
from lago_skills.rl.envs import actions_of, check_spaces
from lago_skills.rl.problem import Problem
from lago_skills.rl.world_problem import adviser_of, inputs_towards_goal
from lago_skills.worlds.grounding import Grounding, check_actions
from lago_skills.worlds.gym.env import adapted_inside


def guided(problem: Problem, bundle: Path | str | LibraryGuide) -> Problem:
    """The problem with the advice of a bundle; guided algorithms of `train` take it, and their networks see what its decoder sees.

    Raises:
        ArtifactMissing: there is no bundle in that folder.
        ArtifactCorrupt: it is damaged.
        StudyError: it was made for another environment, or has no plan of one of the problem's tasks.
    """
    guide = bundle if isinstance(bundle, LibraryGuide) else load_bundle(Path(bundle))
    if unknown := [task for task in problem.tasks if task not in guide.books]:
        raise StudyError(
            f"problem {problem.name!r}: found task {unknown[0]!r}; expected one that the bundle has a plan of, {sorted(guide.books)}; call it so in tasks = (...), or build a bundle "
            "of it"
        )
    env = problem.judged(problem.env_tasks[0])()
    try:
        check_spaces(env.observation_space, env.action_space)
        check_actions(f"environment of problem {problem.name!r}", actions_of(env.action_space), guide.grounding)
        (size,) = env.observation_space.shape or (0,)
        check_parts(problem.name, env, guide.grounding)
        if size != guide.grounding.observation_size:
            raise StudyError(
                f"problem {problem.name!r}: found observations of {size} numbers; expected {guide.grounding.observation_size}, those of the environment that the bundle was made for; "
                "make the environment as the study does, with load_study(PATH).load_world().make(TASK)"
            )
    finally:
        env.close()
    see = inputs_towards_goal(guide.grounding, len(problem.tasks))
    return replace(problem, adviser=adviser_of(guide, problem.tasks), see=see)


def check_parts(name: str, env: gymnasium.Env[Any, Any], grounding: Grounding) -> None:
    """Refuse the same numbers in another order, where both sides say which they are.

    Raises:
        StudyError: they differ.
    """
    expected: tuple[tuple[str, int], ...] | None = getattr(grounding, "observation_parts", None)
    inside = adapted_inside(env)
    if expected is None or inside is None or inside.observations.names == expected:
        return
    given, wanted = (
        ", ".join(f"{part} ({size})" for part, size in each) for each in (inside.observations.names, expected)
    )
    raise StudyError(
        f"problem {name!r}: found observations of {given}; expected {wanted}, in this order, as the bundle's environment has them; say so with "
        "adapt(env, [...]), or make the environment with load_study(PATH).load_world().make(TASK)"
    )
