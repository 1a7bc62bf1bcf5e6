"""What a policy is given of a state, and what it does without exploring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError
from lago_skills.prior import ActionPrior
from lago_skills.rl.advice import Layout
from lago_skills.rl.config import Leader
from lago_skills.rl.problem import Act, Problem
from lago_skills.rl.sac import SAC


def look(
    problem: Problem,
    layout: Layout | None,
    observations: NDArray[Any],
    tasks: NDArray[np.int64],
    shifts: Sequence[NDArray[np.float64] | None],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What networks see of each state (B, S'), and the prior of each (B, W)."""
    states = problem.see(observations, tasks)
    if layout is None or problem.adviser is None:
        return states, np.zeros((len(observations), 0), np.float32)
    prior = problem.adviser.prior(observations, tasks, shifts)
    if not isinstance(prior, ActionPrior) or prior.means.shape[2] != layout.action_size:
        size = prior.means.shape[2] if isinstance(prior, ActionPrior) else "discrete"
        raise ShapeError(
            f"prior of {problem.name!r}: found actions of size {size}; expected {layout.action_size}, as the environment has them; "
            "take a bundle that was made for this environment"
        )
    return states, layout.pack(prior)


def greedy_policy(problem: Problem, agent: SAC, leader: Leader) -> Act:
    """What an agent does without exploring."""

    def act(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[np.float32]:
        return agent.greedy(*look(problem, agent.layout, observations, tasks, [None] * len(tasks)), leader)

    return act
