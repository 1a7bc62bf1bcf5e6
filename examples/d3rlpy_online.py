"""d3rlpy's online training on a Meta-World task, with the library's prior in the observation.

lago demo                                     # makes checkpoints/demo/bundle
python examples/d3rlpy_online.py --task push-wall --steps 10000
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import d3rlpy
import gymnasium
import numpy as np

from lago_skills.guide.bundle import load_bundle
from lago_skills.rl.wrappers import PriorObservation
from lago_skills.worlds.metaworld.env import MetaWorldEnv
from lago_skills.worlds.metaworld.tasks import find_task
from lago_skills.worlds.seeds import EVAL_SEED


class SinglePrecision(gymnasium.ObservationWrapper[Any, Any, Any]):
    """d3rlpy keeps observations as they come; its networks want 32-bit numbers."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        space: Any = env.observation_space
        self.observation_space = gymnasium.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32))

    def observation(self, observation: Any) -> Any:
        """The same numbers."""
        return observation.astype(np.float32)


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("checkpoints/demo/bundle"))
    parser.add_argument("--task", default="push-wall")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=10)
    options = parser.parse_args()
    guide = load_bundle(options.bundle)

    def make() -> gymnasium.Env[Any, Any]:
        return SinglePrecision(PriorObservation(MetaWorldEnv(find_task(options.task)), guide, options.task))

    env = make()
    algorithm = d3rlpy.algos.SACConfig(batch_size=128).create(device=False)
    algorithm.fit_online(
        env,
        d3rlpy.dataset.create_fifo_replay_buffer(limit=100_000, env=env),
        n_steps=options.steps,
        n_steps_per_epoch=max(options.steps // 5, 1),
        random_steps=min(1_000, options.steps // 2),
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    env, found = make(), list[bool]()
    for episode in range(options.episodes):
        observation, _ = env.reset(seed=EVAL_SEED + episode)
        terminated = truncated = False
        while not (terminated or truncated):
            observation, _, terminated, truncated, _ = env.step(algorithm.predict(observation[None])[0])
        found.append(terminated)
    share = float(np.mean(found))
    print(f"{options.task}, {options.steps} steps: success {share:.2f} of {options.episodes} episodes")


if __name__ == "__main__":
    main()
