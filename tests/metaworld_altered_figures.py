"""The figures of docs/metaworld-altered.md: `python -m tests.metaworld_altered_figures ceiling|pictures [--task TASK] [--starts N]`."""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lago_skills.worlds.metaworld_altered.tasks import ALTERED_TASKS
from lago_skills.worlds.metaworld_altered.world import AlteredMetaWorld
from lago_skills.worlds.rollouts import record
from lago_skills.worlds.seeds import SPOT_SEED
from lago_skills.worlds.world import Demonstrator
from tests.conftest import ROOT

PICTURE_SEED = 3


def ceiling(names: list[str], n_starts: int) -> None:
    """Success of the demonstrators, of Meta-World's scripts for the tasks as they were, and of chance, at start states that nothing else uses."""
    world = AlteredMetaWorld()
    for name in names:
        rng = np.random.default_rng(0)
        policies: dict[str, Demonstrator] = {
            "demonstrator": world.demonstrator(name),
            **world.rules(name),
            "random": lambda seen, rng=rng: rng.uniform(-1.0, 1.0, 4),
        }
        told: list[str] = []
        env = world.make(name)
        for who, policy in policies.items():
            runs = [record(env, policy, name, SPOT_SEED + start, 0.0, world) for start in range(n_starts)]
            good = [len(run.actions) for run in runs if run.success]
            told.append(f"{who} {len(good) / n_starts:.2f}" + (f" ({np.mean(good):.0f} steps)" if good else ""))
        env.close()
        print(f"{name}: {', '.join(told)}")


def pictures() -> None:
    """One sheet: of each task the start, and the moment in which its demonstrator has solved it."""
    world = AlteredMetaWorld()
    rows: list[NDArray[np.uint8]] = []
    for name in ALTERED_TASKS:
        env, act = world.make(name, rendered=True), world.demonstrator(name)
        observation, _ = env.reset(seed=PICTURE_SEED)
        shown = [env.render()]
        over = False
        while not over:
            observation, _, terminated, truncated, _ = env.step(act(observation))
            over = terminated or truncated
        rows.append(np.concatenate([*shown, env.render()], axis=1))
        env.close()
    half = len(rows) // 2
    sheet = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1)
    path = ROOT / "docs/pictures/metaworld-altered.png"
    Image.fromarray(sheet).quantize(128).save(path, optimize=True)
    print(path)


def main() -> None:
    """What is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("ceiling", "pictures"))
    parser.add_argument("--task", action="append", choices=tuple(ALTERED_TASKS))
    parser.add_argument("--starts", type=int, default=50)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", message="Constant.s. may be too high")  # Meta-World's own scripts
    if asked.what == "ceiling":
        ceiling(asked.task or list(ALTERED_TASKS), asked.starts)
    else:
        pictures()


if __name__ == "__main__":
    main()
