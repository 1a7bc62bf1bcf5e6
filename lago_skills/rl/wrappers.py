"""Gymnasium wrappers for people with a training loop of their own: a guide's prior in the observation, or under the action.

    env = PriorObservation(world.make(task.id), load_bundle(folder), task.id)   # the policy sees what the library would do
    env = ResidualAction(world.make(task.id), load_bundle(folder), task.id)     # the policy corrects what the library does

Any environment with a flat Box of observations and continuous actions, which are rescaled to [-1, 1]; any guide, any learner. Others go through `lago_skills.adapt` first.
"""

# Gymnasium's generic types stay open for environments of any kind.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import ShapeError, StudyError
from lago_skills.guide.guides import Guide
from lago_skills.prior import ActionPrior
from lago_skills.rl.envs import check_spaces
from lago_skills.worlds.gym.env import adapted


class PriorObservation(gymnasium.ObservationWrapper[NDArray[Any], Any, NDArray[Any]]):
    """Observations (S + 2A,): what the environment gives, then mean (within [-1, 1]) and spread of the prior, zeros where it says nothing.

    Raises:
        StudyError: observations that are no flat Box, or actions that are no bounded one.
    """

    def __init__(self, env: gymnasium.Env[NDArray[Any], Any], guide: Guide, task: str) -> None:
        super().__init__(adapted(env))
        self.guide, self.task = guide, task
        space, self._action_size = _spaces(self.env)
        mean, spread = np.ones(self._action_size), np.full(self._action_size, np.inf)
        low, high = [space.low, -mean, 0.0 * mean], [space.high, mean, spread]
        dtype: Any = space.dtype
        self.observation_space = gymnasium.spaces.Box(
            np.concatenate(low).astype(dtype), np.concatenate(high).astype(dtype), dtype=dtype
        )

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """(S,) -> (S + 2A,)."""
        prior = prior_of(self.guide, observation, self.task, self._action_size)
        mean, std = prior.moments()
        says = np.concatenate([np.clip(mean[0], -1.0, 1.0), std[0]])
        return np.concatenate([observation, says if prior.floor < 1.0 else 0.0 * says]).astype(observation.dtype)


class ResidualAction(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Actions in [-1, 1]^A are added, times `scale`, to the prior's mean; the sum is clipped to [-1, 1].

    Where the prior says nothing (a floor of 1) they are taken as they are. `info["action"]` is what the environment was given.

    Raises:
        StudyError: observations that are no flat Box, or actions that are no bounded one.
    """

    def __init__(
        self, env: gymnasium.Env[NDArray[Any], NDArray[Any]], guide: Guide, task: str, scale: float = 0.3
    ) -> None:
        super().__init__(adapted(env))
        self.guide, self.task, self.scale = guide, task, scale
        _, self._action_size = _spaces(self.env)
        self._prior: ActionPrior | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._prior = prior_of(self.guide, observation, self.task, self._action_size)
        return observation, info

    def step(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Do what the prior would, corrected by an action (A,).

        Raises:
            StudyError: the environment was not reset.
        """
        if self._prior is None:
            raise StudyError("residual action: found a step before the first reset; expected reset() first; call it")
        done = np.asarray(action, np.float32)
        if self._prior.floor < 1.0:
            done = np.clip(self._prior.mean()[0] + self.scale * done, -1.0, 1.0).astype(np.float32)
        observation, reward, terminated, truncated, info = self.env.step(done)
        self._prior = prior_of(self.guide, observation, self.task, self._action_size)
        return observation, float(reward), terminated, truncated, {**info, "action": done}


def prior_of(guide: Guide, observation: NDArray[Any], task: str, action_size: int) -> ActionPrior:
    """The prior of one observation (S,).

    Raises:
        ShapeError: it is over other actions than the environment has.
    """
    prior = guide.prior(observation[None], task)
    if not isinstance(prior, ActionPrior) or prior.means.shape[2] != action_size:
        found = f"actions of size {prior.means.shape[2]}" if isinstance(prior, ActionPrior) else "discrete actions"
        raise ShapeError(
            f"prior of task {task!r}: found {found}; expected {action_size}, as the environment has them; "
            "take a bundle that was made for this environment"
        )
    return prior


def _spaces(env: gymnasium.Env[Any, Any]) -> tuple[gymnasium.spaces.Box, int]:
    """The observation space, and the number of the actions' entries."""
    check_spaces(env.observation_space, env.action_space)
    if not isinstance(env.action_space, gymnasium.spaces.Box):
        raise StudyError(
            f"action space: found {env.action_space}; expected a Box of one axis; these wrappers are for continuous actions"
        )
    assert isinstance(env.observation_space, gymnasium.spaces.Box)
    return env.observation_space, int(env.action_space.shape[0])
