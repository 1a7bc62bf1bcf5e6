"""What a policy is given of a state, and what it does without exploring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError
from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl.config import Leader
from lago_skills.rl.guidance.advice import DiscreteLayout, Layout
from lago_skills.rl.problem import Act, Problem


class Agent(Protocol):
    """Whatever has learned to act."""

    @property
    def layout(self) -> Layout | DiscreteLayout | None:
        """How the advice is laid out that it acts by; None where it acts without."""
        ...

    def greedy(self, states: NDArray[np.float32], advice: NDArray[np.float32], leader: Leader) -> NDArray[Any]:
        """(B, S'), (B, W) -> actions without exploring."""
        ...


def look(
    problem: Problem,
    layout: Layout | DiscreteLayout | None,
    observations: NDArray[Any],
    tasks: NDArray[np.int64],
    shifts: Sequence[NDArray[np.float64] | None],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What networks see of each state (B, S'), and the prior of each (B, W)."""
    states = problem.see(observations, tasks)
    if layout is None or problem.adviser is None:
        return states, np.zeros((len(observations), 0), np.float32)
    prior = problem.adviser.prior(observations, tasks, shifts)
    return states, pack(prior, layout, problem.name)


def pack(prior: ActionPrior | DiscretePrior, layout: Layout | DiscreteLayout, name: str) -> NDArray[np.float32]:
    """Rows of a prior.

    Raises:
        ShapeError: it is over other actions than the environment has.
    """
    if isinstance(prior, ActionPrior) and isinstance(layout, Layout) and prior.means.shape[2] == layout.action_size:
        return layout.pack(prior)
    if (
        isinstance(prior, DiscretePrior)
        and isinstance(layout, DiscreteLayout)
        and prior.log_probs.shape[2] == layout.action_size
    ):
        return layout.pack(prior)
    found = (
        f"actions of size {prior.means.shape[2]}"
        if isinstance(prior, ActionPrior)
        else f"{prior.log_probs.shape[2]} discrete actions"
    )
    wanted = f"size {layout.action_size}" if isinstance(layout, Layout) else f"{layout.action_size} discrete ones"
    raise ShapeError(
        f"prior of {name!r}: found {found}; expected {wanted}, as the environment has them; "
        "take a bundle that was made for this environment"
    )


def greedy_policy(problem: Problem, agent: Agent, leader: Leader) -> Act:
    """What an agent does without exploring."""

    def act(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[Any]:
        return agent.greedy(*look(problem, agent.layout, observations, tasks, [None] * len(tasks)), leader)

    return act
