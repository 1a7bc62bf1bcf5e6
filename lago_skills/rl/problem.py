"""What is learned: environments side by side, what a policy sees of them, and who advises it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl.envs import MakeEnv, Vectorize, Watched

See = Callable[[NDArray[Any], NDArray[np.int64]], NDArray[np.float32]]
"""(B, S) observations and (B,) numbers of the tasks they are of -> (B, S') what networks see."""


def as_they_are(observations: NDArray[Any], tasks: NDArray[np.int64]) -> NDArray[np.float32]:
    """The observations themselves."""
    return observations.astype(np.float32)


class Adviser(Protocol):
    """Who knows a prior for each state of a training run."""

    plan_shape: tuple[int, int]
    """Steps of the longest playbook whose targets `shifts` may move, and coordinates of a target; (0, 0) where there is none."""

    def prior(
        self, observations: NDArray[Any], tasks: NDArray[np.int64], shifts: Sequence[NDArray[np.float64] | None]
    ) -> ActionPrior | DiscretePrior:
        """(B, S) observations of (B,) tasks, the targets of each moved by its shift of `plan_shape` -> the prior of each."""
        ...


@dataclass(frozen=True)
class Problem:
    """Everything about a training run that is not the algorithm."""

    name: str
    tasks: tuple[str, ...]
    """Names; a state is of one of them by number."""
    make: Callable[[int], MakeEnv]
    """Task number -> what makes its environment."""
    env_tasks: tuple[int, ...]
    """Task number of each environment of the run."""
    see: See = as_they_are
    adviser: Adviser | None = None
    vectorize: Vectorize = "sync"
    """Environments one after the other, or each in a process of its own: worth it where a step takes milliseconds."""
    first_seed: int = 0
    """Training episode i of environment e is reset with `first_seed + i * n_envs + e`."""
    eval_seed: int = 1_000_000
    """Evaluation episodes of each task start here."""
    success_of: Callable[[dict[str, Any], bool], bool] = field(
        default=lambda info, terminated: bool(info.get("success", terminated))
    )
    """Whether an episode that ended with this info, by termination or not, was a success."""

    @property
    def n_envs(self) -> int:
        """Environments that run side by side."""
        return len(self.env_tasks)


class Stopwatch:
    """Seconds spent in something."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


@dataclass(frozen=True)
class EpisodeOutcome:
    """How one evaluation episode ended."""

    task: int
    seed: int
    success: bool
    steps: int
    episode_return: float
    crashed: bool = False
    """Whether the environment crashed, which ended it without success."""


def task_keys(problem: Problem) -> tuple[str, ...]:
    """Log keys of each task's own success; none where there is one task."""
    return tuple(f"eval/success/{task}" for task in problem.tasks) if len(problem.tasks) > 1 else ()


def success_by_task(problem: Problem, outcomes: Sequence[EpisodeOutcome]) -> dict[str, float]:
    """Share of the successful episodes of each task, by `task_keys`."""
    return {
        key: float(np.mean([each.success for each in outcomes if each.task == number]))
        for number, key in enumerate(task_keys(problem))
    }


Act = Callable[[NDArray[Any], NDArray[np.int64]], NDArray[Any]]
"""(B, S) observations and (B,) task numbers -> actions."""


def evaluate(problem: Problem, act: Act, n_episodes: int, n_envs: int = 10) -> list[EpisodeOutcome]:
    """`n_episodes` of each task on the evaluation seeds, several side by side so that the policy is called in batches.

    Environments are made anew, so that nothing of the training is disturbed.

    Raises:
        TrainingStopped: an observation or a reward that is not finite; or an environment crashes again and again.
    """
    outcomes: list[EpisodeOutcome] = []
    for task in range(len(problem.tasks)):
        waiting = [problem.eval_seed + i for i in range(n_episodes)][::-1]
        name = f"evaluation environment ({problem.tasks[task]})"
        envs = [Watched(problem.make(task), name) for _ in range(min(n_envs, n_episodes))]
        try:
            outcomes += _play(problem, act, task, envs, waiting)
        finally:
            for env in envs:
                env.close()
    return outcomes


@dataclass
class _Playing:
    env: Watched
    seed: int
    observation: NDArray[Any]
    steps: int = 0
    total: float = 0.0

    @staticmethod
    def start(env: Watched, seed: int) -> _Playing:
        return _Playing(env, seed, env.reset(seed=seed)[0])


def _play(problem: Problem, act: Act, task: int, envs: list[Watched], waiting: list[int]) -> list[EpisodeOutcome]:
    outcomes: dict[int, EpisodeOutcome] = {}
    running = [_Playing.start(env, waiting.pop()) for env in envs]
    while running:
        actions = act(np.stack([each.observation for each in running]), np.full(len(running), task, np.int64))
        still: list[_Playing] = []
        for each, action in zip(running, actions, strict=True):
            each.observation, reward, terminated, truncated, info = each.env.step(action)
            each.steps, each.total = each.steps + 1, each.total + float(reward)
            if not (terminated or truncated):
                still.append(each)
                continue
            crashed = bool(info.get("crashed", False))
            success = not crashed and problem.success_of(info, terminated)
            outcomes[each.seed] = EpisodeOutcome(task, each.seed, success, each.steps, each.total, crashed)
            if waiting:
                still.append(_Playing.start(each.env, waiting.pop()))
        running = still
    return [outcomes[seed] for seed in sorted(outcomes)]
