"""The guide as a learner sees it, and the behaviours that lead an episode."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ANCHORS, Task
from lago_skills.envs.grounding import Grounding
from lago_skills.guide.guides import LibraryGuide
from lago_skills.prior import ActionPrior
from lago_skills.rl.leaders import Leader
from lago_skills.rl.networks import Agent


class Guidance:
    """The guide as the learner sees it: state features and hints, with the exploration shift of this episode."""

    def __init__(self, task: Task, grounding: Grounding, guide: LibraryGuide | None) -> None:
        self.task, self.grounding, self.guide = task, grounding, guide
        self.seconds = 0.0
        self.shift: NDArray[np.float64] | None = None

    @property
    def n_plan_steps(self) -> int:
        """Steps of the task's playbook; 0 without guidance."""
        return len(self.guide.playbooks[self.task.id].playbook.steps) if self.guide else 0

    def state(self, observations: NDArray[np.float64]) -> NDArray[np.float32]:
        """(B, S) -> (B, S'): the decoder's inputs towards the goal; the same for plain and guided runs."""
        goals = self.grounding.anchors(observations)[:, ANCHORS.index("goal")]
        return self.grounding.inputs(observations, goals)

    def prior(self, observations: NDArray[np.float64]) -> ActionPrior | None:
        """The prior of a batch, None without guidance; targets are moved by the shift of the episode, if one is set."""
        if self.guide is None:
            return None
        started = time.perf_counter()
        found = self.guide.retrieve(observations, self.task.id)
        if self.shift is not None:
            found.targets[...] += self.shift[found.steps]
        prior = self.guide.decode(observations, found)
        self.seconds += time.perf_counter() - started
        return prior

    def hint(self, prior: ActionPrior | None, batch: int) -> NDArray[np.float32]:
        """(B, 2A): the prior's mean and std, zeros without guidance."""
        if prior is None:
            return np.zeros((batch, 2 * self.grounding.action_size), np.float32)
        return np.concatenate([prior.mean(), prior.std()], axis=1).astype(np.float32)


def greedy_policy(
    agent: Agent, guidance: Guidance, leader: Leader
) -> Callable[[NDArray[np.float64]], NDArray[np.float32]]:
    """The learned behaviour for evaluation: the policy's mode, the prior, or the critic's choice of the two.

    Plans are not shifted; the samples of "explore" come from a generator of their own.
    """
    rng = np.random.default_rng(0)

    def policy(observations: NDArray[np.float64]) -> NDArray[np.float32]:
        prior = guidance.prior(observations)
        if prior is not None and leader in ("prior", "explore"):
            return prior.mean() if leader == "prior" else prior.sample(rng)
        state, hint = guidance.state(observations), guidance.hint(prior, len(observations))
        action = agent.act(state, hint, greedy=True)
        if prior is None or leader == "policy":
            return action
        mean = prior.mean()
        better = agent.value(state, hint, mean) > agent.value(state, hint, action)
        return np.where(better[:, None], mean, action)

    return policy
