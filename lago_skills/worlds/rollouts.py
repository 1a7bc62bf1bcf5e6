"""Episodes of a policy under the protocol's rules, several environments in step so that the policy is called in batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import ActionSpace, Episode, Task
from lago_skills.worlds.world import Demonstrator, Env, EpisodeSoFar, World

Policy = Callable[[NDArray[np.float64]], NDArray[Any]]
"""(B, S) observations -> (B, A) actions, or (B,) discrete ones."""
EpisodePolicy = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[Any]]
"""(B, S) observations and (B,) numbers of the episodes they are of -> actions: for policies that remember."""


@dataclass(frozen=True)
class EpisodeResult:
    """How one evaluation episode ended."""

    seed: int
    success: bool
    """Whether the task was solved, by the world's rule, at any step: there the episode ends, unless the world's go on."""
    steps: int
    """Control steps up to the first success, or the horizon."""
    success_last: bool | None = None
    """Whether it was solved at the horizon's last step, where the policy went on after its first success; None where it did not."""
    episode_return: float = 0.0
    """Sum of the rewards of the steps that were played."""


def rollouts(
    world: World,
    task: Task,
    policy: Policy,
    seeds: list[int],
    report: Callable[[int], None],
    n_envs: int = 4,
    envs: Sequence[Env] | None = None,
) -> list[EpisodeResult]:
    """One episode per start-state seed, in the order of `seeds`; `report(n)` after each n environment steps.

    They end at the first success, unless the world's episodes go on: returns are then of whole episodes.

    `envs` are environments of the task to play in; they stay open, and making one takes as long as a hundred steps.
    """

    def by_state(observations: NDArray[np.float64], _: NDArray[np.int64]) -> NDArray[Any]:
        return policy(observations)

    to_horizon = not world.ends_at_success
    if envs is not None:
        return _play(world, task, envs, by_state, seeds, report, to_horizon=to_horizon)
    with _opened(world, task, min(n_envs, len(seeds))) as own_envs:
        return _play(world, task, own_envs, by_state, seeds, report, to_horizon=to_horizon)


def remembered_rollouts(
    world: World, task: Task, policy: EpisodePolicy, seeds: list[int], report: Callable[[int], None], n_envs: int = 4
) -> list[EpisodeResult]:
    """As `rollouts`, for a policy that remembers what it did in an episode."""
    with _opened(world, task, min(n_envs, len(seeds))) as envs:
        return _play(world, task, envs, policy, seeds, report, to_horizon=not world.ends_at_success)


@contextmanager
def _opened(world: World, task: Task, n_envs: int) -> Generator[list[Env]]:
    envs = [world.make(task.id) for _ in range(n_envs if world.instances is None else min(n_envs, world.instances))]
    try:
        yield envs
    finally:
        for env in envs:
            env.close()


def full_rollouts(
    world: World, task: Task, policy: EpisodePolicy, seeds: list[int], report: Callable[[int], None], n_envs: int = 10
) -> list[EpisodeResult]:
    """As `rollouts`, but each episode is played to the horizon, whatever happens: one pass gives both readings of success.

    Up to the first success nothing differs, so `success` and `steps` are those of the episode that ends there. `success_last` says
    whether what was reached still held at the last step, the policy having gone on acting all the while: it implies
    `success`, and falls short of it by what is let go of, overshot or knocked away again.
    """
    with _opened(world, task, min(n_envs, len(seeds))) as envs:
        return _play(world, task, envs, policy, seeds, report, to_horizon=True)


def _play(
    world: World,
    task: Task,
    envs: Sequence[Env],
    policy: EpisodePolicy,
    seeds: list[int],
    report: Callable[[int], None],
    *,
    to_horizon: bool,
) -> list[EpisodeResult]:
    waiting = list(enumerate(seeds))[::-1]
    results: dict[int, EpisodeResult] = {}
    running: list[_Running] = []
    for env in envs[: len(seeds)]:
        running.append(_Running.start(world, task, env, *waiting.pop(), to_horizon))
    while running:
        numbers = np.array([run.index for run in running])
        actions = policy(np.stack([run.observation for run in running]), numbers)
        for run, action in zip(running, actions, strict=True):
            run.step(action)
        report(len(running))
        still: list[_Running] = []
        for run in running:
            if not run.done:
                still.append(run)
                continue
            results[run.index] = run.result()
            if waiting:
                still.append(_Running.start(world, task, run.env, *waiting.pop(), to_horizon))
        running = still
    return [results[i] for i in range(len(seeds))]


@dataclass
class _Running:
    world: World
    task: Task
    env: Env
    index: int
    seed: int
    to_horizon: bool
    observation: NDArray[np.float64]
    so_far: EpisodeSoFar
    steps: int = 0
    first_success: int | None = None
    flag: bool = False
    done: bool = False

    @staticmethod
    def start(world: World, task: Task, env: Env, index: int, seed: int, to_horizon: bool) -> _Running:
        observation, _ = env.reset(seed=seed)
        return _Running(world, task, env, index, seed, to_horizon, observation, EpisodeSoFar())

    def step(self, action: NDArray[Any]) -> None:
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        self.so_far.add(float(reward), info, terminated=terminated, truncated=truncated)
        self.flag = self.world.success(self.so_far)
        self.steps += 1
        if self.flag and self.first_success is None:
            self.first_success = self.steps
        over = truncated or self.steps >= self.task.horizon_steps
        over = over or (terminated and not (self.flag and self.world.plays_on))
        self.done = over or (self.flag and not self.to_horizon)

    def result(self) -> EpisodeResult:
        return EpisodeResult(
            self.seed,
            self.first_success is not None,
            self.steps if self.first_success is None else self.first_success,
            self.flag if self.to_horizon and self.world.ends_at_success else None,
            sum(self.so_far.rewards),
        )


def record(
    env: Env,
    policy: Demonstrator,
    task: str,
    seed: int,
    noise: float,
    world: World,
) -> Episode:
    """One episode of a policy with noise; the recorded action is the executed one.

    Continuous actions get Gaussian noise of that standard deviation and are clipped to [-1, 1]; of discrete ones that share is drawn at random.
    It ends where the environment ends it, at its limit of steps or, in a world whose episodes do, at success. Failed episodes are returned too: the caller keeps only successes.
    """
    rng, space = np.random.default_rng(seed), world.grounding.action_space
    observation, _ = env.reset(seed=seed)
    observations, actions, so_far = [observation], list[Any](), EpisodeSoFar()
    first: int | None = None
    while not (so_far.terminated or so_far.truncated or (first is not None and world.ends_at_success)):
        action = _with_noise(policy(observation), noise, space, rng)
        observation, reward, terminated, truncated, info = env.step(action)
        so_far.add(float(reward), info, terminated=terminated, truncated=truncated)
        observations.append(observation)
        actions.append(action)
        if first is None and world.success(so_far):
            first = len(actions) - 1
    return Episode(
        task_id=task,
        seed=seed,
        observations=np.asarray(observations, dtype=np.float32),
        actions=np.asarray(actions, np.int64) if space.discrete else np.asarray(actions, np.float32),
        rewards=np.asarray(so_far.rewards, dtype=np.float32),
        success=first is not None,
        terminated=so_far.terminated,
        truncated=so_far.truncated,
        success_step=first,
    )


def _with_noise(
    chosen: Any, noise: float, space: ActionSpace, rng: np.random.Generator
) -> NDArray[np.float32] | np.int64:
    if space.discrete:
        return np.int64(rng.integers(space.size) if rng.random() < noise else chosen)
    usual: NDArray[np.float64] = np.asarray(chosen, np.float64)
    return np.clip(usual + rng.normal(0.0, noise, usual.shape), -1.0, 1.0).astype(np.float32)
