"""Learners of the latent table: what an actor is worth as the prior of guided SAC or PPO, after so many steps of training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lago_skills import rl
from lago_skills.core import Task
from lago_skills.experiments.evaluation_episodes import play_on
from lago_skills.experiments.tables.specs import ALONE, COMMON
from lago_skills.guide.guides import Guide
from lago_skills.stages import train
from lago_skills.study import Study

LAST_EPISODES, EVAL_EVERY = 20, 5_000
"""Episodes of each evaluation on the way, and training steps between two."""


@dataclass(frozen=True)
class Evaluation:
    """A learner after so many steps of training."""

    success: float
    success_last: float | None
    """At the horizon's last step; None on the way, where episodes end at success."""
    episodes: int
    wall_s: float
    """Since the training began."""


def learn(study: Study, task: Task, guide: Guide, method: str, seed: int, n_episodes: int) -> dict[int, Evaluation]:
    """Train on one task with the settings of the other tables; evaluations by number of steps, the last one of `n_episodes`."""
    from lago_skills.rl import methods
    from lago_skills.rl.policy import greedy_policy
    from lago_skills.rl.world_problem import world_problem

    usual = train.learner_config(study.train, method)
    settings: dict[str, Any] = COMMON | ALONE[methods.method(method).algorithm] | {"eval_episodes": LAST_EPISODES}
    settings["eval_every"] = EVAL_EVERY
    settings.pop("eval_early", None)
    config = type(usual).model_validate(usual.model_dump() | settings)
    problem, started = world_problem(study.load_world(), [task], study.grounding, guide, seed), time.monotonic()
    result = rl.train(problem, config, seed, final_episodes=1)
    evaluations = {
        int(row["step"]): Evaluation(row["eval/success"], None, LAST_EPISODES, time.monotonic() - started)
        for row in result.curve
    }
    act = greedy_policy(problem, result.agent, result.leader)
    last = play_on(
        study.load_world(),
        task,
        lambda observations, episodes: act(observations, np.zeros(len(observations), np.int64)),
        seed,
        n_episodes,
    )
    whole_s = time.monotonic() - started
    return evaluations | {config.n_steps: Evaluation(last["success"], last["success_last"], n_episodes, whole_s)}
