"""Learners of the latent table: what an actor is worth as the prior of guided SAC or PPO, after so many steps of training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lago_skills import rl
from lago_skills.core import Task
from lago_skills.experiments.tables.specs import ALONE, COMMON
from lago_skills.guide.guides import Guide
from lago_skills.stages import train
from lago_skills.stages.workspace import Workspace

if TYPE_CHECKING:
    from lago_skills.worlds.rollouts import EpisodeResult

LAST_EPISODES, EVAL_EVERY = 20, 5_000
"""Episodes of each evaluation on the way, and training steps between two."""


@dataclass(frozen=True)
class Learned:
    """A learner after so many steps of training."""

    success: float
    success_last: float | None
    episodes: int
    wall_s: float


def learn(space: Workspace, task: Task, guide: Guide, method: str, seed: int, n_episodes: int) -> dict[int, Learned]:
    """Train on one task with the settings of the other tables; evaluations by number of steps."""
    from lago_skills.rl import methods
    from lago_skills.rl.world_problem import world_problem

    usual = train.learner_config(space, method)
    settings: dict[str, Any] = COMMON | ALONE[methods.method(method).algorithm] | {"eval_episodes": LAST_EPISODES}
    settings["eval_every"] = EVAL_EVERY
    settings.pop("eval_early", None)
    config = type(usual).model_validate(usual.model_dump() | settings)
    problem, started = world_problem(space.world, [task], space.study.grounding, guide, seed), time.monotonic()
    result = rl.train(problem, config, seed, final_episodes=1)
    found = {
        int(row["step"]): Learned(row["eval/success"], None, LAST_EPISODES, time.monotonic() - started)
        for row in result.curve
    }
    played = _play(space, problem, result, task, seed, n_episodes)
    shares: NDArray[Any] = np.array([[each.success, bool(each.success_last)] for each in played], float)
    last = Learned(float(shares[:, 0].mean()), float(shares[:, 1].mean()), n_episodes, time.monotonic() - started)
    return found | {config.n_steps: last}


def _play(space: Workspace, problem: Any, result: Any, task: Task, seed: int, n_episodes: int) -> list[EpisodeResult]:
    """Greedy episodes of what was learned, played on to the horizon."""
    from lago_skills.experiments.tables.zero_shot import EVAL_SPAN
    from lago_skills.rl.policy import greedy_policy
    from lago_skills.worlds.rollouts import full_rollouts
    from lago_skills.worlds.seeds import EVAL_SEED

    act = greedy_policy(problem, result.agent, result.leader)
    seeds = [EVAL_SEED + EVAL_SPAN * seed + i for i in range(n_episodes)]
    return full_rollouts(
        space.world,
        task,
        lambda observations, episodes: act(observations, np.zeros(len(observations), np.int64)),
        seeds,
        lambda n: None,
    )
