"""Environments and guides on which PPO learns in seconds, for both kinds of actions."""

# torch leaves some argument types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl.config import PPOConfig
from lago_skills.rl.loop import TrainResult
from lago_skills.rl.ppo.agent import PPO
from lago_skills.rl.problem import Problem
from lago_skills.rl.runlog import Row

Kind = Literal["continuous", "discrete"]
KINDS: tuple[Kind, ...] = ("continuous", "discrete")
N_BITS, HORIZON = 4, 10
N_ACTIONS = 2**N_BITS

# Small environments -------------------------------------------------------------------------------------------------------


class Identity(gymnasium.Env[NDArray[np.float32], Any]):
    """Do what you see: reward 1 for the action that the observation names, less the farther away. Ends by a time limit."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (N_BITS if kind == "discrete" else 2,), np.float32)
        self.action_space = (
            gymnasium.spaces.Discrete(N_ACTIONS)
            if kind == "discrete"
            else gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.total = 0, 0.0
        return self.draw(), {}

    def draw(self) -> NDArray[np.float32]:
        if self.kind == "discrete":
            self.seen = self.np_random.integers(0, 2, N_BITS).astype(np.float32) * 2.0 - 1.0
        else:
            self.seen = self.np_random.uniform(-0.9, 0.9, 2).astype(np.float32)
        return self.seen

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self.kind == "discrete":
            reward = float(action == named(self.seen[None])[0])
        else:
            assert self.action_space.contains(action)
            reward = 1.0 - float(np.abs(action - self.seen).mean())
        self.steps += 1
        self.total += reward
        return self.draw(), reward, False, self.steps == HORIZON, {"success": self.total > 0.9 * HORIZON}


def named(observations: NDArray[Any]) -> NDArray[np.int64]:
    """(B, N_BITS) observations -> (B,) the discrete action that each names."""
    return (observations > 0).astype(np.int64) @ 2 ** np.arange(observations.shape[1])


class Count(gymnasium.Env[NDArray[np.float32], Any]):
    """Reward 1 at each step; the fifth ends the episode, by termination or by a time limit."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, terminates: bool) -> None:
        self.terminates = terminates

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == 5
        return np.zeros(1, np.float32), 1.0, over and self.terminates, over and not self.terminates, {}


class Broken(Identity):
    """Breaks at its n-th step, counted over all episodes and copies: by a reward that is not a number or far too large, or by a crash."""

    def __init__(self, how: Literal["nan", "huge", "crash"], at: int, counter: list[int]) -> None:
        super().__init__("discrete")
        self.how, self.at, self.counter = how, at, counter

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.counter[0] += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.counter[0] == self.at:
            if self.how == "crash":
                raise RuntimeError("the simulator is gone")
            reward = float("nan") if self.how == "nan" else 1e38
        return observation, reward, terminated, truncated, info


class Told:
    """A prior that knows the action, or the opposite one, for all tasks or some; with a floor of 1 it says nothing."""

    plan_shape: tuple[int, int] = (0, 0)

    def __init__(self, kind: Kind, right: Sequence[bool] = (True,), floor: float = 0.02) -> None:
        self.kind, self.right, self.floor = kind, np.asarray(right), floor
        self.n_rows = 0

    def prior(
        self, observations: NDArray[Any], tasks: NDArray[np.int64], shifts: Sequence[NDArray[np.float64] | None]
    ) -> ActionPrior | DiscretePrior:
        self.n_rows += len(observations)
        wanted = np.where(self.right[tasks][:, None], observations, -observations)
        weights = np.ones((len(wanted), 1), np.float32)
        if self.kind == "continuous":
            means = wanted[:, None].astype(np.float32)
            return ActionPrior(weights, means, np.full_like(means, 0.1), self.floor)
        log_probs = np.full((len(wanted), 1, N_ACTIONS), np.log(0.1 / (N_ACTIONS - 1)), np.float32)
        log_probs[np.arange(len(wanted)), 0, named(wanted)] = np.log(0.9)
        return DiscretePrior(weights, log_probs, self.floor)


def identity(kind: Kind, adviser: Told | None = None, n_tasks: int = 1) -> Problem:
    def make(task: int) -> Callable[[], gymnasium.Env[Any, Any]]:
        return lambda: Identity(kind)

    tasks = tuple(f"{kind}-{n}" for n in range(n_tasks))
    return Problem("identity", tasks, make, tuple(range(n_tasks)) * (4 // n_tasks), adviser=adviser)


def config(**settings: Any) -> PPOConfig:
    usual: dict[str, Any] = {
        "n_steps": 4_000,
        "hidden_size": 64,
        "rollout_steps": 64,
        "minibatch_size": 64,
        "learning_rate": 1e-3,
        "gamma": 0.5,
        "initial_std": 0.4,
        "n_epochs": 5,
        "eval_every": 1_000,
        "eval_episodes": 10,
        "warm_start_updates": 100,
    }
    return PPOConfig(**(usual | settings))


SHORT: dict[str, Any] = {"n_steps": 1_024, "eval_every": 256, "n_epochs": 2, "eval_episodes": 2}


def numbers(curve: list[Row]) -> list[dict[str, float]]:
    """A curve without its times."""
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in curve]


def weights_of(result: TrainResult[PPO]) -> list[NDArray[Any]]:
    """Parameters of all networks but what a hint goes through."""
    networks = result.agent.networks().values()
    return [
        value.numpy()
        for network in networks
        for name, value in network.state_dict().items()
        if not name.endswith("hint")
    ]


def curve_of(result: TrainResult[PPO]) -> list[float]:
    """Mean reward of a step, by evaluation."""
    return [row["eval/return"] / HORIZON for row in result.curve]
