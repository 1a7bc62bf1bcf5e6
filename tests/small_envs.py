"""Environments and guides small enough to learn on in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.prior import ActionPrior
from lago_skills.rl.config import SACConfig
from lago_skills.rl.guidance.advisers import GuideAdviser
from lago_skills.rl.loop import TrainResult
from lago_skills.rl.problem import Problem
from lago_skills.rl.sac.agent import SAC
from lago_skills.rl.sac.algorithm import LOG_KEYS

SMALL = SACConfig(n_steps=600, random_steps=300, eval_every=300, eval_episodes=2, batch_size=32, hidden_size=16)


class Echo(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """Repeat the observation: the reward is minus the squared distance of action and observation. Episodes are cut after 20 steps."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 20
        self.wanted = self.np_random.uniform(-0.8, 0.8, 2)
        return self.wanted, {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = -float(np.sum((action - self.wanted) ** 2))
        self.left -= 1
        self.wanted = self.np_random.uniform(-0.8, 0.8, 2)
        return self.wanted, reward, False, self.left == 0, {}


class Walk(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """Walk from anywhere in a square to a small goal, 1 at success and 0 else, within 40 steps: chance finds it now and then."""

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (4,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    radius = 0.15

    def __init__(self, crash_at: int | None = None, bad_reward_at: int | None = None) -> None:
        self.crash_at, self.bad_reward_at, self.n_steps = crash_at, bad_reward_at, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 40
        self.place, self.goal = self.np_random.uniform(-1.0, 1.0, 2), self.np_random.uniform(-1.0, 1.0, 2)
        return self._seen(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        if self.n_steps == self.crash_at:
            raise RuntimeError("the simulator fell over")
        self.place = np.clip(self.place + 0.1 * action, -1.0, 1.0)
        self.left -= 1
        success = bool(np.linalg.norm(self.goal - self.place) < self.radius)
        reward = float("nan") if self.n_steps == self.bad_reward_at else float(success)
        return self._seen(), reward, success, not success and self.left == 0, {"success": success}

    def _seen(self) -> NDArray[np.float64]:
        return np.concatenate([self.place, self.goal - self.place])


class Pointing:
    """A guide for `Walk`: towards the goal (factor 1), away from it (-1); sure of itself either way."""

    def __init__(self, factor: float, std: float = 0.3, floor: float = 0.02) -> None:
        self.factor, self.std, self.floor = factor, std, floor

    def prior(self, observations: NDArray[Any], task: str) -> ActionPrior:
        means = np.clip(self.factor * 8.0 * observations[:, None, 2:], -1.0, 1.0).astype(np.float32)
        weights = np.ones((len(observations), 1), np.float32)
        return ActionPrior(weights, means, np.full_like(means, self.std), self.floor)


def problem(
    make: Callable[[], gymnasium.Env[Any, Any]],
    guide: Any = None,
    n_envs: int = 1,
    seed: int = 0,
    success: str = "terminated",
) -> Problem:
    """One task of a small environment."""
    return Problem(
        name="small",
        tasks=("small",),
        make=lambda number: make,
        env_tasks=(0,) * n_envs,
        adviser=GuideAdviser(guide, ["small"]) if guide is not None else None,
        first_seed=10_000 * seed,
        eval_seed=1_000_000,
        success=success,
    )


def demonstrations(n: int, made: Problem) -> list[Episode]:
    """Straight walks to the goal."""
    found: list[Episode] = []
    for seed in range(n):
        env = Walk()
        observation, _ = env.reset(seed=5000 + seed)
        observations, actions, rewards, done = [observation], list[Any](), list[float](), False
        while not done:
            action = np.clip(8.0 * observation[2:], -1.0, 1.0).astype(np.float32)
            observation, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            observations.append(observation)
            actions.append(action)
            rewards.append(reward)
        arrays = [np.array(rows, np.float32) for rows in (observations, actions, rewards)]
        found.append(Episode(made.tasks[0], seed, *arrays, success=True))
    return found


def timeless(result: TrainResult[SAC]) -> list[list[float]]:
    """Its log but for what the clock says."""
    return [[row[key] for key in LOG_KEYS if not key.startswith("time/")] for row in result.curve]


def same(one: TrainResult[SAC], two: TrainResult[SAC]) -> bool:
    """Whether two runs came to the same log and the same weights."""
    np.testing.assert_array_equal(timeless(one), timeless(two))
    a, b = one.agent, two.agent
    return all(
        torch.equal(first.state_dict()[key], value)
        for first, second in ((a.actor, b.actor), (a.critics, b.critics), (a.targets, b.targets))
        for key, value in second.state_dict().items()
    )
