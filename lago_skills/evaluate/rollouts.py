"""Episodes of a policy under the protocol's rules, several environments in step so that the policy is called in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Task
from lago_skills.envs.metaworld import MetaWorldEnv

Policy = Callable[[NDArray[np.float64]], NDArray[np.float32]]
"""(B, S) observations -> (B, A) actions."""


@dataclass(frozen=True)
class EpisodeResult:
    """How one evaluation episode ended."""

    seed: int
    success: bool
    steps: int


def rollouts(
    task: Task, policy: Policy, seeds: list[int], report: Callable[[int], None], n_envs: int = 4
) -> list[EpisodeResult]:
    """One episode per start-state seed, in the order of `seeds`; `report(n)` after each n environment steps."""
    envs = [MetaWorldEnv(task) for _ in range(min(n_envs, len(seeds)))]
    waiting = list(enumerate(seeds))[::-1]
    results: dict[int, EpisodeResult] = {}
    running: list[_Running] = []
    try:
        for env in envs:
            running.append(_Running.start(env, *waiting.pop()))
        while running:
            actions = policy(np.stack([run.observation for run in running]))
            for run, action in zip(running, actions, strict=True):
                run.step(action)
            report(len(running))
            still: list[_Running] = []
            for run in running:
                if not run.done:
                    still.append(run)
                    continue
                results[run.index] = EpisodeResult(run.seed, run.success, run.steps)
                if waiting:
                    still.append(_Running.start(run.env, *waiting.pop()))
            running = still
    finally:
        for env in envs:
            env.close()
    return [results[i] for i in range(len(seeds))]


@dataclass
class _Running:
    env: MetaWorldEnv
    index: int
    seed: int
    observation: NDArray[np.float64]
    steps: int = 0
    success: bool = False
    done: bool = False

    @staticmethod
    def start(env: MetaWorldEnv, index: int, seed: int) -> _Running:
        observation, _ = env.reset(seed=seed)
        return _Running(env, index, seed, observation)

    def step(self, action: NDArray[Any]) -> None:
        self.observation, _, terminated, truncated, _ = self.env.step(action)
        self.steps += 1
        self.success = terminated
        self.done = terminated or truncated
