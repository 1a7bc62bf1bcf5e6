"""Episodes that tables count: a policy on the evaluation's start states of one seed, by the loop of `lago_skills.worlds.rollouts`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lago_skills.core import Task
from lago_skills.worlds.seeds import EVAL_SEED

if TYPE_CHECKING:
    from lago_skills.worlds.rollouts import EpisodePolicy, EpisodeResult
    from lago_skills.worlds.world import World

EVAL_SPAN = 1000
"""Start states of evaluation kept for each seed."""


def eval_seeds(seed: int, n_episodes: int) -> list[int]:
    """The start states that a seed is measured in; no demonstration and no training has them."""
    return [EVAL_SEED + EVAL_SPAN * seed + i for i in range(n_episodes)]


def success_share(results: list[EpisodeResult]) -> float:
    """Share of episodes with success at any step."""
    return float(np.mean([result.success for result in results]))


def last_success_share(results: list[EpisodeResult]) -> float:
    """Share of episodes with success at the horizon's last step, when they are played on."""
    return float(np.mean([bool(result.success_last) for result in results]))


def play_on(world: World, task: Task, policy: EpisodePolicy, seed: int, n_episodes: int) -> dict[str, Any]:
    """Play to the horizon, whatever happens: columns `success`, `success_last`, `episodes`, `episode_steps`, `environment_steps` and `wall_s`.

    `episode_steps` is the mean up to the first success, or the horizon; `environment_steps` are all that were simulated.
    """
    from lago_skills.worlds.rollouts import full_rollouts

    steps, started = list[int](), time.monotonic()
    results = full_rollouts(world, task, policy, eval_seeds(seed, n_episodes), steps.append)
    return {
        "success": round(success_share(results), 4),
        "success_last": round(last_success_share(results), 4),
        "episodes": n_episodes,
        "episode_steps": round(float(np.mean([result.steps for result in results])), 1),
        "environment_steps": sum(steps),
        "wall_s": round(time.monotonic() - started, 1),
    }
