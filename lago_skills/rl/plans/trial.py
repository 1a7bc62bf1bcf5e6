"""Which plan of a portfolio is worth following: a bandit over a few episodes of the task itself.

Thompson sampling (1933) with an episode's worth between 0 and 1: a success is worth the more, the sooner it comes. What the plans did right is
kept, as demonstrations for whatever learns next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Episode
from lago_skills.rl.algorithm import steps_unsolved
from lago_skills.rl.envs import Watched
from lago_skills.rl.guidance.advisers import AnyGuide
from lago_skills.rl.problem import Problem

SPEED_SHARE = 0.5
"""Share of a success's worth that is lost where it comes at the horizon."""


@dataclass(frozen=True)
class TriedPlan:
    """What a plan did in its episodes."""

    name: str
    episodes: int
    successes: int
    worth: float
    """Sum over its episodes."""

    @property
    def rank(self) -> float:
        """Mean worth, counting one failure more, so that whoever was hardly tried does not lead."""
        return self.worth / (self.episodes + 1.0)


@dataclass(frozen=True)
class PlanTrial:
    """A trial that is over."""

    plans: tuple[TriedPlan, ...]
    best: int
    """Place of the plan with the highest rank; the first, where none succeeded."""
    steps: int
    """Environment steps that it took."""
    first_success: int | None
    """Number of the first successful episode, from 1; None where there was none."""
    harvested: tuple[Episode, ...] = field(repr=False)
    """Successful episodes."""

    @property
    def episodes(self) -> int:
        """Of all plans together."""
        return sum(each.episodes for each in self.plans)

    @property
    def n_starts(self) -> int:
        """Start states that were used: one for each episode."""
        return self.episodes

    def record(self) -> dict[str, Any]:
        """As plain values, all but the episodes."""
        plans = [asdict(each) for each in self.plans]
        return {"plans": plans, "best": self.best, "steps": self.steps, "first_success": self.first_success}

    def summary(self) -> dict[str, Any]:
        """As plain values: `steps`, `first_success`, and `plans` with name, episodes and successes of each."""
        plans = [{"name": each.name, "episodes": each.episodes, "successes": each.successes} for each in self.plans]
        return {"steps": self.steps, "first_success": self.first_success, "plans": plans}


def try_plans(
    problem: Problem,
    plans: Sequence[tuple[str, AnyGuide]],
    n_episodes: int,
    seed: int,
    task: int = 0,
    most_steps: int | None = None,
) -> PlanTrial:
    """Follow the plans in so many episodes of one task, on the start states that a training begins with.

    Args:
        problem: the task's environment and rule of success.
        plans: names, and who follows each.
        n_episodes: of all plans together.
        seed: of the bandit.
        task: number of the task in the problem.
        most_steps: of the environment: after them no episode begins.

    Raises:
        StudyError: spaces that cannot be used, or a rule of success that looks at what the environment does not show.
    """
    rng = np.random.default_rng(seed)
    env = Watched(problem.judged(task), f"trial environment ({problem.tasks[task]})")
    episodes, successes, worths = (np.zeros(len(plans)) for _ in range(3))
    limits = problem.horizon_steps
    horizon = limits[task] if isinstance(limits, tuple) else limits
    harvested: list[Episode] = []
    steps, first = 0, None
    try:
        for number in range(n_episodes):
            if most_steps is not None and steps >= most_steps:
                break
            draws = rng.beta(worths + 1.0, episodes - worths + 1.0)
            draws[episodes == 0] += 1.0 if not successes.any() else 0.0  # as long as nothing works, something new
            place = int(np.argmax(draws))
            guide = plans[place][1]
            episode = play(
                env, partial(_by_guide, guide, problem.tasks[task]), problem.tasks[task], problem.first_seed + number
            )
            n_steps = len(episode.actions)
            steps, episodes[place] = steps + n_steps, episodes[place] + 1.0
            if episode.success:
                first = first or number + 1
                successes[place] += 1.0
                worths[place] += 1.0 - SPEED_SHARE * steps_unsolved(episode.rewards.tolist()) / (horizon or n_steps)
                harvested.append(episode)
    finally:
        env.close()
    tried = tuple(
        TriedPlan(name, int(n), int(won), round(float(worth), 6))
        for (name, _), n, won, worth in zip(plans, episodes, successes, worths, strict=True)
    )
    best = max(range(len(tried)), key=lambda place: (tried[place].rank, -place))
    return PlanTrial(tried, best, steps, first, tuple(harvested))


def _by_guide(guide: AnyGuide, task: str, observation: NDArray[Any]) -> NDArray[Any]:
    return guide.prior(observation[None], task).greedy()[0]


def play(
    env: Watched,
    act: Callable[[NDArray[Any]], NDArray[Any]],
    task: str,
    seed: int,
    given_up: Callable[[], bool] = lambda: False,
) -> Episode:
    """One episode of (S,) observations -> actions; it may be given up, which is a truncation."""
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards = [observation], list[NDArray[Any]](), list[float]()
    terminated = truncated = False
    info: dict[str, Any] = {}
    while not (terminated or truncated):
        action = act(np.asarray(observation))
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
        truncated = truncated or (not terminated and not info["success"] and given_up())
    done = np.asarray(actions)
    return Episode(
        task_id=task,
        seed=seed,
        observations=np.asarray(observations, np.float32),
        actions=done.astype(np.int64) if np.issubdtype(done.dtype, np.integer) else done.astype(np.float32),
        rewards=np.asarray(rewards, np.float32),
        success=bool(info["success"]) and not info.get("crashed", False),
        terminated=bool(terminated),
        truncated=bool(truncated),
    )
