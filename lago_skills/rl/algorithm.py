"""What a learning algorithm is to the training loop: how it begins an episode, what acts, what it does with a step, and when it learns.

`lago_skills.rl.loop.Loop` has environments, episodes, log and checkpoints; an algorithm has networks, memory and updates. Soft actor-critic
(`lago_skills.rl.sac.algorithm`) and proximal policy optimisation (`lago_skills.rl.ppo.algorithm`) are two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Episode
from lago_skills.rl.checkpoint import Checkpoint
from lago_skills.rl.config import Leader
from lago_skills.rl.envs import actions_of
from lago_skills.rl.policy import Agent, Priors
from lago_skills.rl.problem import Problem

Phase = Literal["collecting", "between updates", "milestone"]
"""Where a run stands after a step: in the midst of collecting, where it cannot be cut; where a row of the log may be due; or where one is."""
ROWS = ("observations", "states", "advice", "actions")


@dataclass
class RunningEpisode:
    """An episode on its way: one more observation and state than actions."""

    seed: int
    leader: Leader
    shift: NDArray[np.float64] | None
    """Of the targets of its plan, (steps, D), in the unit of the anchors."""
    observations: list[NDArray[Any]]  # (S,) each
    states: list[NDArray[np.float32]]  # (S',) each, what networks see
    advice: list[NDArray[np.float32]]  # (W,) each; of algorithms that keep the prior of every state
    actions: list[NDArray[Any]] = field(default_factory=list[NDArray[Any]])
    rewards: list[float] = field(default_factory=list[float])

    @property
    def steps_unsolved(self) -> int:
        """Control steps without success, the first one with success among them: all of an episode that ends there."""
        return steps_unsolved(self.rewards)

    def append(
        self, action: NDArray[Any], reward: float, observation: NDArray[Any], state: NDArray[np.float32]
    ) -> None:
        """Add one step, and what it led to."""
        self.actions.append(action)
        self.rewards.append(reward)
        self.observations.append(observation)
        self.states.append(state)

    def put(self, checkpoint: Checkpoint, name: str) -> None:
        """Save it in a checkpoint."""
        for part in ROWS:
            if rows := getattr(self, part):
                checkpoint.put(f"{name}/{part}", np.stack(rows))
        if self.shift is not None:
            checkpoint.put(f"{name}/shift", self.shift)
        checkpoint.values[name] = [self.seed, self.leader, self.rewards]

    @staticmethod
    def get(checkpoint: Checkpoint, name: str) -> RunningEpisode:
        """What `put` saved."""
        seed, leader, rewards = checkpoint.values[name]
        shift = checkpoint.array(f"{name}/shift") if f"{name}/shift" in checkpoint.arrays else None
        observations, states, advice, actions = (
            list(checkpoint.array(f"{name}/{part}")) if f"{name}/{part}" in checkpoint.arrays else [] for part in ROWS
        )
        return RunningEpisode(seed, leader, shift, observations, states, advice, actions, rewards)


def steps_unsolved(rewards: Sequence[float]) -> int:
    """Of an episode's rewards (T,): steps up to success, and those at which what was reached was lost again."""
    return len(rewards) - max(sum(reward > 0.0 for reward in rewards) - 1, 0)


@dataclass(frozen=True)
class Choice:
    """What is done next in each of N environments."""

    actions: NDArray[Any]
    """(N, A) in [-1, 1], or (N,) of discrete actions."""
    by_prior: NDArray[np.bool_]
    """(N,) whether the prior chose."""


@dataclass(frozen=True)
class Transition:
    """One step of N environments, before those whose episode has ended are reset."""

    observations: NDArray[Any]  # (N, S) that the step led to
    states: NDArray[np.float32]  # (N, S') of these
    rewards: NDArray[np.float64]  # (N,)
    terminated: NDArray[np.bool_]  # (N,)
    truncated: NDArray[np.bool_]  # (N,)
    crashed: NDArray[
        np.bool_
    ]  # (N,) nobody knows where such a step led: it is not in the running episode, and nothing is to be learned from it

    @property
    def ended(self) -> NDArray[np.bool_]:
        """(N,) whether the episode is over."""
        return self.terminated | self.truncated


@dataclass(frozen=True)
class Setup:
    """What an algorithm is built for."""

    problem: Problem
    action_space: gymnasium.spaces.Box | gymnasium.spaces.Discrete
    state_size: int
    """S', what networks see of a state."""
    seed: int
    demonstrations: Sequence[Episode] = ()

    @property
    def actions(self) -> ActionSpace:
        """Kind and number."""
        return actions_of(self.action_space)

    @property
    def tasks(self) -> NDArray[np.int64]:
        """(N,) the task of each environment."""
        return np.asarray(self.problem.env_tasks, np.int64)


class Algorithm(Protocol):
    """One run of a learning algorithm.

    The loop calls `begin_episode` for each environment; then for every step `act`, `observe`, `end_episode` and `begin_episode` for each episode
    that ended, and `learn`. `step` is always the number of environment steps so far, over all environments.
    """

    @property
    def log_keys(self) -> tuple[str, ...]:
        """Columns of the log in their order: those of the loop and those of `metrics`."""
        ...

    @property
    def agent(self) -> Agent:
        """What learns."""
        ...

    @property
    def priors(self) -> Priors:
        """Of the states that are met."""
        ...

    def start(self) -> None:
        """Before the first episode of a new run."""
        ...

    def begin_episode(
        self, number: int, seed: int, observation: NDArray[Any], state: NDArray[np.float32], step: int
    ) -> RunningEpisode:
        """The next episode of environment `number`, from its first observation (S,) and state (S',): who leads it, and by which plan."""
        ...

    def act(self, episodes: Sequence[RunningEpisode], step: int) -> Choice:
        """What to do next in each environment."""
        ...

    def observe(self, transition: Transition, episodes: Sequence[RunningEpisode]) -> None:
        """Remember a step; the episodes have it already."""
        ...

    def end_episode(self, number: int, episode: RunningEpisode, terminated: bool, success: bool) -> None:
        """Take account of how an episode of environment `number` ended."""
        ...

    def learn(self, episodes: Sequence[RunningEpisode], step: int) -> Phase:
        """Make the updates that are due; the episodes are those that go on.

        Raises:
            TrainingStopped: a loss that is not finite.
        """
        ...

    def leader(self) -> Leader:
        """Who leads greedy episodes."""
        ...

    def metrics(self, step: int) -> dict[str, float]:
        """The algorithm's own columns of a row of the log."""
        ...

    def put(self, checkpoint: Checkpoint) -> None:
        """Save everything that the algorithm goes on from."""
        ...

    def get(self, checkpoint: Checkpoint) -> None:
        """Go on from what `put` saved."""
        ...
