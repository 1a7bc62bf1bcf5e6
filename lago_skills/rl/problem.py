"""What is learned: environments side by side, what a policy sees of them, and who advises it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lago_skills.errors import EnvironmentTaken, StudyError, TrainingStopped
from lago_skills.prior import ActionPrior, DiscretePrior
from lago_skills.rl.envs import MakeEnv, Vectorize, Watched
from lago_skills.rl.judged import Borrowed, Judged
from lago_skills.worlds.success import Judge, success_rule

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
    make: Callable[[int], MakeEnv | gymnasium.Env[Any, Any]]
    """Task number -> what makes its environment; or the environment itself, where there is only one."""
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
    success: str | Judge = "info.success"
    """When a task is solved: a rule as `lago_skills.worlds.success` reads it, such as "info.is_success" or "return >= 200", or a function of an
    episode so far. Nothing is guessed: where the infos lack what the rule looks at, training is refused."""
    ends_at_success: bool = False
    """Whether the first success ends an episode; else it goes on for as long as the environment says."""
    success_at_end: bool = False
    """Whether an episode succeeds if the task is solved at its last step, and each step at which it is has a reward of 1: success then ends no episode, as in
    worlds that can be played on."""
    horizon_steps: int | tuple[int, ...] | None = None
    """Episodes are cut after so many steps, of all tasks or of each; None leaves that to the environment."""
    parts: tuple[int, ...] = ()
    """How many things each task asks for, each of which is a reward of 1: an episode that did some of them is a partial success. All or nothing
    where it is empty."""
    instances: int | None = None
    """1 where only one environment can be open at a time: training and evaluation then take turns, and an evaluation ends the running episode."""

    def score(self, task: int, success: bool, episode_return: float) -> float:
        """Share of a task that an episode did, 0 to 1."""
        n_parts = self.parts[task] if self.parts else 1
        return float(success) if success or n_parts == 1 else min(max(episode_return / n_parts, 0.0), 1.0)

    @property
    def n_envs(self) -> int:
        """Environments that run side by side."""
        return len(self.env_tasks)

    def judged(self, task: int) -> MakeEnv:
        """What makes the environment of a task, with canonical spaces, judged by the rule.

        Raises:
            StudyError: there is no such rule, or it cannot be read at the end of an episode that goes on.
        """
        judge = self._judge()
        make = self.make(task)
        limits = self.horizon_steps
        limit = limits[task] if isinstance(limits, tuple) else limits
        ends = {"ends_at_success": self.ends_at_success, "success_at_end": self.success_at_end}
        return partial(_judged, make, judge, limit, **ends)

    def _judge(self) -> Judge:
        if not isinstance(self.success, str):
            return self.success
        rule = success_rule(self.success)
        if self.success_at_end and rule.kind in ("terminated", "truncated"):
            raise StudyError(
                f"problem {self.name!r}: found success = {self.success!r} and success_at_end; expected a rule that can be read at each step of an episode that goes on, such as "
                '"info.success"; correct one of them'
            )
        return rule.solved

    @property
    def one_instance(self) -> bool:
        """Whether only one environment can be open at a time: as it is said, or as `make` gives environments and not what makes them."""
        return self.instances == 1 or any(not callable(self.make(task)) for task in set(self.env_tasks))


def _judged(
    make: MakeEnv | gymnasium.Env[Any, Any], judge: Judge, horizon_steps: int | None, **ends: bool
) -> gymnasium.Env[Any, Any]:
    env: gymnasium.Env[Any, Any] = make() if callable(make) else Borrowed(make)
    try:
        return Judged(env, judge, horizon_steps, **ends)
    except BaseException:
        env.close()
        raise


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


MAX_STEPS = 10_000
"""An evaluation episode that is still going on after so many steps, in an environment without a limit, is refused."""


def evaluate(problem: Problem, act: Act, n_episodes: int, n_envs: int = 10) -> list[EpisodeOutcome]:
    """`n_episodes` of each task on the evaluation seeds, several side by side so that the policy is called in batches.

    Environments are made anew, so that nothing of the training is disturbed; as many as can be open at once, up to `n_envs`.

    Raises:
        TrainingStopped: an observation or a reward that is not finite; an environment crashes again and again, or an episode does not end.
        EnvironmentTaken: not one environment can be made.
        StudyError: spaces that cannot be used, or a rule of success that looks at what the environment does not show.
    """
    outcomes: list[EpisodeOutcome] = []
    for task in range(len(problem.tasks)):
        waiting = [problem.eval_seed + i for i in range(n_episodes)][::-1]
        envs = _opened(problem, task, 1 if problem.one_instance else min(n_envs, n_episodes))
        try:
            outcomes += _play(problem, act, task, envs, waiting)
        finally:
            for env in envs:
                env.close()
    return outcomes


def _opened(problem: Problem, task: int, n_envs: int) -> list[Watched]:
    """Environments of a task, as many as can be open at once."""
    make, name = problem.judged(task), f"evaluation environment ({problem.tasks[task]})"
    envs: list[Watched] = []
    for _ in range(n_envs):
        try:
            envs.append(Watched(make, name))
        except StudyError:
            raise
        except Exception as error:  # a simulator behind one port, say
            if not envs:
                raise EnvironmentTaken(
                    f"{name}: found that it cannot be made ({type(error).__name__}: {error}); expected one beside those that are open; correct it, or say "
                    "instances = 1"
                ) from error
            break
    return envs


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
                if each.steps >= MAX_STEPS and problem.horizon_steps is None:
                    raise TrainingStopped(
                        f"{each.env.name}: found an episode that has not ended after {MAX_STEPS:,} steps; expected a limit; set horizon_steps of the problem, or "
                        "max_episode_steps of the environment"
                    )
                still.append(each)
                continue
            crashed = bool(info.get("crashed", False))
            success = not crashed and bool(info["success"])
            outcomes[each.seed] = EpisodeOutcome(task, each.seed, success, each.steps, each.total, crashed)
            if waiting:
                still.append(_Playing.start(each.env, waiting.pop()))
        running = still
    return [outcomes[seed] for seed in sorted(outcomes)]
