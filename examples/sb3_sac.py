"""Stable-Baselines3's soft actor-critic on a Meta-World task, guided by a bundle: the library in the observation, or under the action.

pip install stable-baselines3
lago demo                                     # makes checkpoints/demo/bundle
python examples/sb3_sac.py --task push-wall --how residual --steps 10000
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import SAC

from lago_skills.guide.bundle import load_bundle
from lago_skills.guide.guides import Guide
from lago_skills.rl.wrappers import PriorObservation, ResidualAction
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.seeds import EVAL_SEED


def make(task: str, guide: Guide, how: str) -> gymnasium.Env[Any, Any]:
    """The task with its sparse reward: as it is, with the prior in the observation, or with the prior under the action."""
    env = MetaWorldEnv(find_task(task))
    if how == "plain":
        return env
    return PriorObservation(env, guide, task) if how == "observation" else ResidualAction(env, guide, task)


def success(model: SAC, env: gymnasium.Env[Any, Any], n_episodes: int) -> float:
    """Share of episodes that succeed, on start states that no training run sees."""
    found: list[bool] = []
    for episode in range(n_episodes):
        observation, _ = env.reset(seed=EVAL_SEED + episode)
        terminated = truncated = False
        while not (terminated or truncated):
            action, _ = model.predict(observation, deterministic=True)
            observation, _, terminated, truncated, _ = env.step(action)
        found.append(terminated)
    return float(np.mean(found))


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("checkpoints/demo/bundle"))
    parser.add_argument("--task", default="push-wall")
    parser.add_argument("--how", choices=("plain", "observation", "residual"), default="residual")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=10)
    options = parser.parse_args()
    guide = load_bundle(options.bundle)
    env = make(options.task, guide, options.how)
    model = SAC("MlpPolicy", env, seed=0, learning_starts=min(1_000, options.steps // 2), device="cpu")
    model.learn(options.steps)  # pyright: ignore[reportUnknownMemberType]  # its callbacks are not fully typed
    share = success(model, make(options.task, guide, options.how), options.episodes)
    print(f"{options.task}, {options.how}, {options.steps} steps: success {share:.2f} of {options.episodes} episodes")


if __name__ == "__main__":
    main()
