"""What a policy is given of a state, and what it does without exploring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace
from lago_skills.errors import ShapeError
from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl.config import Leader
from lago_skills.rl.guidance.advice import DiscreteLayout, Layout
from lago_skills.rl.problem import Act, Problem, Stopwatch

if TYPE_CHECKING:
    from torch import nn

AnyLayout = Layout | DiscreteLayout


class Agent(Protocol):
    """Whatever has learned to act."""

    @property
    def layout(self) -> AnyLayout | None:
        """How the advice is laid out that it acts by; None where it acts without."""
        ...

    def greedy(self, states: NDArray[np.float32], advice: NDArray[np.float32], leader: Leader) -> NDArray[Any]:
        """(B, S'), (B, W) -> actions without exploring."""
        ...

    def networks(self) -> dict[str, nn.Module]:
        """What it needs to act, by name: what is saved of a finished run (`lago_skills.rl.networks.save_networks`)."""
        ...


class Priors:
    """The priors of states as rows of advice, and the time they take."""

    def __init__(self, problem: Problem, layout: AnyLayout | None) -> None:
        self.problem, self.layout = problem, layout
        self.watch = Stopwatch()

    def rows(
        self,
        observations: NDArray[Any],
        tasks: NDArray[np.int64],
        shifts: Sequence[NDArray[np.float64] | None] | None = None,
    ) -> NDArray[np.float32]:
        """(B, S) observations of (B,) tasks, the plan's targets of each moved by its shift -> (B, W); W is 0 where nobody advises.

        Raises:
            ShapeError: a prior over other actions than the environment has.
        """
        if self.layout is None or self.problem.adviser is None:
            return np.zeros((len(observations), 0), np.float32)
        with self.watch:
            prior = self.problem.adviser.prior(observations, tasks, shifts or [None] * len(tasks))
            return pack(prior, self.layout, self.problem.name)


def layout_for(problem: Problem, actions: ActionSpace, n_components: int) -> AnyLayout | None:
    """How the advice on such actions is laid out; None where nobody advises."""
    if problem.adviser is None:
        return None
    return DiscreteLayout(actions.size) if actions.discrete else Layout(actions.size, n_components)


def pack(prior: ActionPrior | DiscretePrior, layout: AnyLayout, name: str) -> NDArray[np.float32]:
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
    actual = (
        f"actions of size {prior.means.shape[2]}"
        if isinstance(prior, ActionPrior)
        else f"{prior.log_probs.shape[2]} discrete actions"
    )
    wanted = f"size {layout.action_size}" if isinstance(layout, Layout) else f"{layout.action_size} discrete ones"
    raise ShapeError(
        f"prior of {name!r}: found {actual}; expected {wanted}, as the environment has them; "
        "take a bundle that was made for this environment"
    )


def greedy_policy(problem: Problem, agent: Agent, leader: Leader) -> Act:
    """What an agent does without exploring."""
    priors = Priors(problem, agent.layout)

    def act(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[Any]:
        return agent.greedy(problem.see(observations, tasks), priors.rows(observations, tasks), leader)

    return act
